"""A causal policy: what it admits, cuts, saves and loads, and how it refuses what it cannot read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from attune.core.errors import AttuneError, ConfigError
from attune.core.protocols import Policy, Row
from attune.core.record import MAIN, Group, Prompt, Response
from attune.policies.causal import CausalPolicy, load
from tests import tiny


def group(*texts: str | None, prompt: str = "Is it raining?", images: tuple[str, ...] = ()) -> Group:
    return Group(id="g", contexts={MAIN: Prompt(content=prompt, images=images)}, responses=tuple(Response(content=text) for text in texts))


def test_it_is_a_policy() -> None:
    assert isinstance(tiny.policy(), Policy)


def test_both_sides_are_admitted_by_one_rule() -> None:
    policy = tiny.policy(chat=None, max_response_tokens=4)
    assert policy.admit(group("Yes", "Yes, yes, yes, yes, yes", "", None)) == {
        1: "the response has more than 4 tokens",
        3: "the text of the response is withheld",
    }
    assert policy.admit(group("Yes", "No", prompt="0 1 2")) == {}
    assert policy.admit(Group(id="none", responses=(Response(content="a"),))) == {0: "the source holds no prompt"}


def test_a_long_prompt_is_dropped_or_cut() -> None:
    said = group("Yes", "No", prompt="The quick brown fox jumps over the lazy dog")
    assert tiny.policy(chat=None, max_prompt_tokens=5).admit(said) == dict.fromkeys((0, 1), "the prompt has more than 5 tokens")
    cutting = tiny.policy(chat=None, max_prompt_tokens=5, max_response_tokens=2, overlong="cut")
    whole = tiny.policy(chat=None).tokens(said, Row(group=0, response=0))
    tokens = cutting.tokens(said, Row(group=0, response=0))
    assert cutting.admit(said) == {}
    assert tokens.prompt_ids == whole.prompt_ids[:1] + whole.prompt_ids[-4:]
    assert (tokens.prompt_cut, tokens.response_cut) == (len(whole.prompt_ids) - 5, len(whole.response_ids) - 2)
    encoded = cutting.collate([said], tiny.rows([said]))
    assert encoded.mask.shape == (2, 2)


def test_rows_beyond_the_model_s_positions() -> None:
    policy = tiny.policy("gpt2", chat=None, positions=12)
    short, long = group("Yes"), group("Yes, no, maybe", prompt="The quick brown fox jumps over the lazy dog")
    assert policy.admit(short) == {}
    assert policy.admit(long) == {0: "prompt and response have more tokens than the model's 12 positions"}
    with pytest.raises(AttuneError, match=r"g with a response of g.*at most 12"):
        policy.collate([short, long], [Row(group=0, response=0, written_by=1)])


def test_images_are_a_reason_and_not_a_crash() -> None:
    assert tiny.policy().admit(group("Yes", images=("a.png",))) == {0: "this policy reads no images"}


def test_a_response_cut_before_its_first_supervised_token_is_not_admitted() -> None:
    turns = ({"role": "assistant", "content": ""}, {"role": "tool", "content": "5"}, {"role": "assistant", "content": "It is 5."})
    said = Group(id="g", contexts={MAIN: Prompt(content="2+3?")}, responses=(Response(content=turns),))
    policy = tiny.policy(max_prompt_tokens=99, max_response_tokens=0, overlong="cut")
    assert policy.admit(said) == {0: "no token of the response is supervised"}


@pytest.mark.parametrize("head", ["lm", "scalar"])
def test_saved_and_loaded_it_says_the_same(tmp_path: Path, head: str) -> None:
    column = "logp" if head == "lm" else "reward"
    policy = tiny.policy("qwen2", head=head, chat="llama3")
    policy.save(str(tmp_path))
    assert not list(tmp_path.glob("*.bin"))
    again = load(str(tmp_path), head=head)
    groups = tiny.groups(2, 2)
    first, second = (one.collate(groups, tiny.rows(groups)) for one in (policy, again))
    assert first.keys == second.keys
    assert torch.equal(policy.outputs(first, (column,))[column], again.outputs(second, (column,))[column])


@pytest.mark.parametrize("pad_is_eos", [False, True])
def test_a_saved_reward_model_is_a_sequence_classifier(tmp_path: Path, pad_is_eos: bool) -> None:
    from transformers import AutoModelForSequenceClassification

    policy = CausalPolicy(tiny.model(head="scalar"), tiny.tokenizer(pad_is_eos=pad_is_eos), head="scalar")
    policy.save(str(tmp_path))
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    groups = tiny.groups(1, 3)
    ours = policy.outputs(policy.collate(groups, tiny.rows(groups)), ("reward",))["reward"]
    rows = [tokens.prompt_ids + tokens.response_ids for tokens in (policy.tokens(groups[0], row) for row in tiny.rows(groups))]
    for reward, ids in zip(ours, rows, strict=True):
        assert theirs(torch.tensor([ids])).logits.item() == pytest.approx(reward.item(), abs=1e-5)
    longest = max(map(len, rows))
    pad = policy.tokenizer.pad_token_id
    padded = torch.tensor([[*ids, *[pad] * (longest - len(ids))] for ids in rows])
    if pad_is_eos:  # transformers would read the score before the stop token: it must refuse
        with pytest.raises(ValueError, match="no padding token is defined"):
            theirs(padded, attention_mask=padded != pad)
    else:
        assert (theirs(padded, attention_mask=padded != pad).logits.squeeze(-1) - ours).abs().max() < 1e-5


def test_a_language_model_becomes_a_reward_model(tmp_path: Path) -> None:
    tiny.policy("llama").save(str(tmp_path))
    policy = load(str(tmp_path), head="scalar", dtype="float64", layout="plain", new_head=True)
    groups = tiny.groups(1, 2)
    reward = policy.outputs(policy.collate(groups, tiny.rows(groups)), ("reward",))["reward"]
    assert (reward.shape, reward.dtype, policy.layout_used, policy.layout_reason) == ((2,), torch.float64, "plain", "asked for")


def test_dropout_acts_only_when_asked() -> None:
    groups = tiny.groups(1, 2)
    for wanted in (False, True):
        policy = CausalPolicy(tiny.model("gpt2", dropout=0.5), tiny.tokenizer(), dropout=wanted)
        encoded = policy.collate(groups, tiny.rows(groups))
        first, second = (policy.outputs(encoded, ("logp",))["logp"] for _ in range(2))
        assert torch.equal(first, second) is not wanted


def test_weights_in_half_precision_give_log_probabilities_in_float32() -> None:
    groups = tiny.groups(1, 2)
    exact, rounded = tiny.policy("llama"), tiny.policy("llama", dtype=torch.bfloat16)
    first, second = (one.outputs(one.collate(groups, tiny.rows(groups)), ("logp",))["logp"] for one in (exact, rounded))
    assert second.dtype == torch.float32
    assert (first - second).abs().mean() < 0.2


def test_models_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(AttuneError, match="there is no folder with a model"):
        load(str(tmp_path / "nowhere"))
    with pytest.raises(AttuneError, match="holds no weights"):
        load(str(tmp_path))
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(AttuneError, match=r"only safetensors are read.*a pickle can run code"):
        load(str(tmp_path))


REMOTE = {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", None]}}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("model.safetensors", (1 << 60).to_bytes(8, "little") + b"{}", "cannot be read.*header"),  # a header that lies about its length
        ("config.json", b'{"model_type": "llama", "auto_map"', "cannot be read.*JSON"),
        ("config.json", json.dumps({"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config"}}).encode(), "cannot be read.*custom code"),
        ("tokenizer_config.json", json.dumps(REMOTE).encode(), "code of its own.*Evil"),
        ("tokenizer.json", b"{}", "cannot be read"),
        ("adapter_config.json", b"{}", r"adapter_config\.json.*which model"),
    ],
)
def test_folders_that_lie_or_want_to_run_code(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    tiny.policy("llama").save(str(tmp_path))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')", "utf-8")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AttuneError, match=said):
        load(str(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_a_reward_model_is_no_language_model(tmp_path: Path) -> None:
    tiny.policy("llama", head="scalar").save(str(tmp_path))
    with pytest.raises(AttuneError, match=r"weights are missing.*lm_head\.weight"):
        load(str(tmp_path))


def test_a_token_that_the_model_does_not_know_is_a_reason() -> None:
    policy = CausalPolicy(tiny.model(vocab_size=300), tiny.tokenizer())
    assert policy.admit(group("Yes")) == {0: "a token of the tokenizer is beyond the model's vocabulary"}


@pytest.mark.parametrize(("option", "value"), [("dtype", "int8"), ("head", "vector")])
def test_options_that_do_not_exist_when_loading(option: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"{option}: .*{value}.*allowed"):
        load("anywhere/model", dtype=value) if option == "dtype" else load("anywhere/model", head=value)


def test_options_that_do_not_exist() -> None:
    with pytest.raises(ConfigError, match=r"overlong: .*'wrap'.*allowed: 'drop', 'cut'"):
        tiny.policy(overlong="wrap")
    with pytest.raises(ConfigError, match=r"layout: .*'tree'.*allowed: 'shared', 'plain'"):
        tiny.policy(layout="tree")
