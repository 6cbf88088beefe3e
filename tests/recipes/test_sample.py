"""`attune sample`: what is written can be read, and its numbers are those of transformers' own forward pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from attune.core.errors import FormatError
from attune.core.record import Group, Prompt, Response, text_of
from attune.data.read import read
from attune.data.write import write
from attune.recipes.sample import sample_file
from attune.samplers.transformers import TransformersSampler
from attune.worlds.language import Built


def sampled(world: Built, out: Path, prompts: Path | None = None, **options: Any) -> list[Group]:
    given = {"k": 2, "temperature": 1.0, "top_p": 1.0, "max_tokens": 6, "limit": 5, "seed": 0, "quiet": True, **options}
    assert sample_file(str(prompts or world.prompts), str(world.model), out, **given) == out
    return list(read(out))


def test_tokens_and_log_probabilities_survive_the_file(world: Built, tmp_path: Path) -> None:
    """Each log-probability again: the chat template, one forward pass over prompt and response, log-softmax."""
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    model, tokenizer = AutoModelForCausalLM.from_pretrained(world.model), PreTrainedTokenizerFast.from_pretrained(world.model)
    groups = sampled(world, tmp_path / "sampled.jsonl")
    assert [group.id for group in groups] == [group.id for group in read(world.prompts)][:5]
    assert [len(group.responses) for group in groups] == [2] * 5
    for group in groups:
        turns = [{"role": "user", "content": text_of(group.prompt.content)}]
        prompt = tokenizer(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True), add_special_tokens=False).input_ids
        for response in group.responses:
            assert response.token_ids is not None
            ids = list(response.token_ids)
            with torch.no_grad():
                logp_LV = model(torch.tensor([prompt + ids])).logits[0].log_softmax(-1)
            expected = [float(logp_LV[len(prompt) - 1 + place, token]) for place, token in enumerate(ids)]
            assert response.logps == pytest.approx(expected, abs=1e-4)
            assert response.text == tokenizer.decode(ids, skip_special_tokens=True)
            assert response.meta["finish"] == ("stop" if ids[-1] == tokenizer.eos_token_id else "length")


def test_greedy_takes_the_likeliest_token(world: Built, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    model, tokenizer = AutoModelForCausalLM.from_pretrained(world.model), PreTrainedTokenizerFast.from_pretrained(world.model)
    (group,) = sampled(world, tmp_path / "greedy.jsonl", temperature=0.0, k=1, limit=1)
    text = tokenizer.apply_chat_template([{"role": "user", "content": text_of(group.prompt.content)}], tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, add_special_tokens=False).input_ids
    for token in group.responses[0].token_ids or ():
        with torch.no_grad():
            assert token == int(model(torch.tensor([ids])).logits[0, -1].argmax())
        ids.append(token)


def test_a_seed_says_everything(world: Built, tmp_path: Path) -> None:
    first, again, other = (sampled(world, tmp_path / f"{n}.jsonl", seed=seed) for n, seed in enumerate((3, 3, 4)))
    texts = [[response.token_ids for group in groups for response in group.responses] for groups in (first, again, other)]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_groups_without_a_prompt_are_left_out_and_counted(world: Built, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompted = Group(id="a", contexts={"main": Prompt(content="Name two sports.")}, responses=(Response(content="Golf."),))
    write([Group(id="b", responses=(Response(content="Rowing."),)), prompted], tmp_path / "mixed.jsonl")
    groups = sampled(world, tmp_path / "out.jsonl", prompts=tmp_path / "mixed.jsonl", quiet=False)
    assert [group.id for group in groups] == ["a"]
    assert all(response.text != "Golf." for response in groups[0].responses)
    said = capsys.readouterr().err
    assert "2 records: 2 used" in said
    assert "1 without a prompt" in said
    assert "sampling: 2 of 2 responses" in said


@pytest.mark.parametrize("name", ["out.txt", "file/out.jsonl"])
def test_a_place_that_cannot_be_written_to_is_known_before_sampling(name: str, world: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x", "utf-8")
    monkeypatch.setattr(TransformersSampler, "sample", lambda *_, **__: pytest.fail("it was sampled for nothing"))
    with pytest.raises(FormatError, match=name):
        sampled(world, tmp_path / name)
