"""`attune score` held against transformers' own classifier, one text at a time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from attune.config.recipe import AdapterConfig, ModelConfig
from attune.core.errors import AttuneError
from attune.core.protocols import Row
from attune.core.record import Group, Response, text_of
from attune.data.read import read
from attune.data.write import write
from attune.recipes.assemble import load_model
from attune.recipes.score import score_bench, score_file
from attune.worlds.language import Built


@pytest.fixture(scope="module")
def reward(world: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The world's model with a reward head, saved as a run of the recipe `reward` saves it."""
    folder = tmp_path_factory.mktemp("reward")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        load_model(ModelConfig(path=str(world.model), head="scalar"), path=str(world.model), new_head=True).save(str(folder))
    return folder


@pytest.fixture(scope="module")
def oracle(reward: Path) -> Any:
    """Scores (prompt, response) with the classifier and the chat template of transformers alone."""
    from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(reward), PreTrainedTokenizerFast.from_pretrained(reward)

    def score(prompt: str, response: str) -> float:
        turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
        ids = tokenizer(tokenizer.apply_chat_template(turns, tokenize=False).rstrip("\n"), add_special_tokens=False, return_tensors="pt").input_ids
        with torch.no_grad():
            return float(model(ids).logits[0, 0])

    return score


def expected_of(group: Group, oracle: Any) -> list[float]:
    return [oracle(text_of(group.prompt.content), response.text) for response in group.responses]


def test_scores_in_the_file_are_those_of_the_classifier(world: Built, reward: Path, oracle: Any, tmp_path: Path) -> None:
    before = list(read(world.preferences))[:6]
    write(before, tmp_path / "some.jsonl")
    said = score_file(str(tmp_path / "some.jsonl"), str(reward), out=tmp_path / "scored.jsonl")
    after = list(read(tmp_path / "scored.jsonl"))
    num = right = 0.0
    for old, new in zip(before, after, strict=True):
        scores = [response.scores["reward"] for response in new.responses]
        assert scores == pytest.approx(expected_of(old, oracle), abs=1e-5)
        assert replace(new, responses=old.responses, source=old.source) == old
        for verdict in old.verdicts:
            if len(verdict.tiers) == 2:
                (first,), (second,) = verdict.tiers
                num, right = num + 1, right + (scores[first] > scores[second])
    assert "6 records: 6 used" in said
    assert "24 responses scored, 0 could not be read" in said
    assert f"accuracy {right / num:.3f}" in said
    assert f"n = {num:.0f}" in said
    assert said.endswith(str(tmp_path / "scored.jsonl"))


def test_what_cannot_be_read_is_counted_with_its_reason_and_has_no_score(world: Built, reward: Path, oracle: Any, tmp_path: Path) -> None:
    group = next(iter(read(world.preferences)))
    long = replace(group, responses=(*group.responses[:2], Response(content="word " * 2000), group.responses[3]))
    write([long], tmp_path / "long.jsonl")
    said = score_file(str(tmp_path / "long.jsonl"), str(reward), out=tmp_path / "scored.jsonl")
    assert "3 responses scored, 1 could not be read\n  not read: prompt and response have more tokens than the model's" in said
    (scored,) = read(tmp_path / "scored.jsonl")
    assert [response.scores.get("reward") for response in scored.responses] == pytest.approx(
        [*expected_of(group, oracle)[:2], None, expected_of(group, oracle)[3]], abs=1e-5
    )


def test_a_bench_file_is_scored_as_it_says(reward: Path, oracle: Any, tmp_path: Path) -> None:
    records = [
        {"prompt": f"Question {n}?", "chosen": f"Answer {n % 3}.", "rejected": f"Reply {n % 5} so.", "subset": "hep-go" if n < 6 else "refusals-dangerous"}
        for n in range(10)
    ]
    path = tmp_path / "bench.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    right = [oracle(record["prompt"], record["chosen"]) > oracle(record["prompt"], record["rejected"]) for record in records]
    said = score_bench(str(path), str(reward))
    assert 0 < sum(right) < 10
    assert f"hep-go: {sum(right[:6]) / 6:.3f}" in said
    assert f"refusals-dangerous: {sum(right[6:]) / 4:.3f}" in said
    assert f"score {(sum(right[:6]) / 6 + sum(right[6:]) / 4) / 2:.3f}" in said
    assert f"micro {sum(right) / 10:.3f}" in said


@pytest.mark.parametrize("bench", [False, True])
def test_a_language_model_is_no_reward_model(bench: bool, world: Built, tmp_path: Path) -> None:
    """Its head would be random, and so would be the scores."""
    path = tmp_path / "bench.jsonl"
    path.write_text('{"prompt": "a", "chosen": "b", "rejected": "c", "subset": "hep-go"}\n', "utf-8")
    with pytest.raises(AttuneError, match="no reward model"):
        score_bench(str(path), str(world.model)) if bench else score_file(str(world.preferences), str(world.model))


@pytest.mark.parametrize("head", ["scalar", "lm"])
def test_an_adapter_scores_with_the_head_it_carries(head: str, world: Built, tmp_path: Path) -> None:
    """An adapter trained as a reward model carries its head along; one trained as a policy has none."""
    config = ModelConfig.model_validate({"path": str(world.model), "head": head, "adapter": AdapterConfig(rank=2)})
    policy = load_model(config, path=str(world.model), new_head=True)
    policy.save(str(tmp_path / "adapter"))
    write(list(read(world.preferences))[:2], tmp_path / "some.jsonl")
    if head == "lm":
        with pytest.raises(AttuneError, match="trained for another head"):
            score_file(str(tmp_path / "some.jsonl"), str(tmp_path / "adapter"))
        return
    score_file(str(tmp_path / "some.jsonl"), str(tmp_path / "adapter"), out=tmp_path / "scored.jsonl")
    for group in read(tmp_path / "scored.jsonl"):
        rows = [Row(group=0, response=index) for index in range(4)]
        with torch.no_grad():
            expected = policy.outputs(policy.collate([group], rows), ("reward",))["reward"].tolist()
        assert [response.scores["reward"] for response in group.responses] == pytest.approx(expected, abs=1e-6)
