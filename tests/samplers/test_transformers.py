import math
from types import SimpleNamespace

import pytest
import torch

from attune.core.errors import AttuneError, ConfigError
from attune.core.protocols import Row, SamplingParams
from attune.core.record import MAIN, Group, Prompt, Rating, Response, Verdict
from attune.samplers.transformers import TransformersSampler, draw_tokens
from tests import tiny

PROMPTS = ("Name a fox.", "Is it raining? Answer with one word, please.", "def add(a, b):", "dog", "Yes, no, maybe; which of them?")


def asked(texts=PROMPTS):
    return [Group(id=f"g{i}", contexts={MAIN: Prompt(content=text)}) for i, text in enumerate(texts)]


def said(groups):
    return {group.id: [response.token_ids for response in group.responses] for group in groups}


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2"])
@pytest.mark.parametrize("params", [SamplingParams(max_tokens=9), SamplingParams(temperature=0.7, top_p=0.8, max_tokens=9)])
def test_logps_are_those_of_the_policy_whatever_drew_the_tokens(architecture, params):
    policy = tiny.policy(architecture, use_token_ids=True)
    groups = TransformersSampler(policy, batch_size=4).sample(asked(), k=2, params=params, seed=3)
    rows = [Row(group=g, response=r) for g in range(len(groups)) for r in range(2)]
    encoded = policy.collate(groups, rows)
    with torch.no_grad():
        logp_NT = policy.outputs(encoded, ("logp",))["logp"]
    for n, row in enumerate(rows):
        own = groups[row.group].responses[row.response].logps
        assert logp_NT[n][encoded.mask[n]].tolist() == pytest.approx(own, abs=2e-5)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_the_same_samples_for_every_batch_size_and_company(architecture):
    policy = tiny.policy(architecture)
    params = SamplingParams(max_tokens=8)
    alone = said(TransformersSampler(policy, batch_size=1).sample(asked(), k=3, params=params, seed=5))
    assert said(TransformersSampler(policy, batch_size=7).sample(asked(), k=3, params=params, seed=5)) == alone
    few = said(TransformersSampler(policy, batch_size=7).sample(asked()[3:1:-1], k=2, params=params, seed=5))
    assert few == {name: alone[name][:2] for name in ("g3", "g2")}
    other = said(TransformersSampler(policy, batch_size=7).sample(asked(), k=3, params=params, seed=6))
    assert all(other[name] != alone[name] for name in alone)
    assert len({ids for samples in alone.values() for ids in samples}) == 15


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "qwen2"])
def test_greedy_is_what_transformers_generates(architecture):
    policy = tiny.policy(architecture)
    found = TransformersSampler(policy, batch_size=5).sample(asked(), k=1, params=SamplingParams(temperature=0, max_tokens=10), seed=0)
    for group in found:
        ids = torch.tensor([policy.prompt_ids(group.prompt)])
        stops = list(policy.template.stop_ids)
        whole = policy.module.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=10, do_sample=False, eos_token_id=stops, pad_token_id=0)
        assert group.responses[0].token_ids == tuple(whole[0, ids.shape[1] :].tolist())


class Counting(torch.nn.Module):
    """Says the number after the last one; half as often the one after that."""

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(name_or_path="counting")
        self.device = torch.device("cpu")
        self.register_parameter("unused", torch.nn.Parameter(torch.zeros(())))

    def forward(self, input_ids, attention_mask, past_key_values=None, use_cache=True):
        logits = torch.full((*input_ids.shape, 10), -math.inf)
        logits = logits.scatter(-1, ((input_ids + 1) % 10)[..., None], math.log(2.0)).scatter(-1, ((input_ids + 2) % 10)[..., None], 0.0)
        return SimpleNamespace(logits=logits, past_key_values=attention_mask)


def counting(max_positions=None, stop=9):
    template = SimpleNamespace(stop_ids=(stop,), decode=lambda ids: "".join(map(str, ids)))

    def prompt_ids(prompt):
        return tuple(map(int, prompt.content))

    return SimpleNamespace(module=Counting(), template=template, max_positions=max_positions, prompt_ids=prompt_ids)


def test_each_response_ends_at_its_own_stop_token_and_keeps_it():
    groups = TransformersSampler(counting()).sample(asked(("6", "0123", "34")), k=1, params=SamplingParams(temperature=0, max_tokens=5), seed=0)
    first, second, third = (group.responses[0] for group in groups)
    assert (first.token_ids, first.content, first.meta["finish"]) == ((7, 8, 9), "78", "stop")
    assert (second.token_ids, second.content, second.meta["finish"]) == ((4, 5, 6, 7, 8), "45678", "length")
    assert (third.token_ids, third.content, third.meta["finish"]) == ((5, 6, 7, 8, 9), "5678", "stop")
    assert first.logps == pytest.approx([math.log(2 / 3)] * 3)
    assert first.generator == "counting"


def test_positions_of_the_model_end_a_response_and_say_so():
    groups = TransformersSampler(counting(max_positions=4)).sample(asked(("6", "012")), k=1, params=SamplingParams(temperature=0, max_tokens=5), seed=0)
    assert [group.responses[0].token_ids for group in groups] == [(7, 8, 9), (3,)]
    assert groups[1].responses[0].meta["finish"] == "length"
    with pytest.raises(AttuneError, match="g1: the prompt leaves no room"):
        TransformersSampler(counting(max_positions=4)).sample(asked(("6", "0123")), k=1, params=SamplingParams(), seed=0)


def test_what_was_said_about_old_responses_goes_with_them():
    old = Group(
        id="g",
        contexts={MAIN: Prompt(content="6")},
        responses=(Response(content="a"), Response(content="b"), Response(content="c")),
        verdicts=(Verdict(tiers=((0,), (2,))),),
        ratings=(Rating(response=2, value=1),),
        meta={"kind": "kept"},
    )
    (new,) = TransformersSampler(counting(), name="me").sample([old], k=1, params=SamplingParams(temperature=0), seed=0)
    assert (len(new.responses), new.verdicts, new.ratings, new.meta) == (1, (), (), {"kind": "kept"})
    assert new.responses[0].generator == "me"


def test_the_module_is_put_back_into_its_mode_and_progress_is_told():
    policy, told = counting(), []
    policy.module.train()
    TransformersSampler(policy, batch_size=2, on_progress=lambda done, all_: told.append((done, all_))).sample(
        asked(("6", "5", "4")), k=1, params=SamplingParams(), seed=0
    )
    assert policy.module.training
    assert told == [(2, 3), (3, 3)]


# p = 1/2, 3/10, 1/5; top_p = 0.7 keeps the first two: 5/8, 3/8; T = 1/2 squares: 25/38, 9/38, 4/38
@pytest.mark.parametrize(
    ("params", "edges"),
    [(SamplingParams(), (0.5, 0.8)), (SamplingParams(top_p=0.7), (0.625, 1.0)), (SamplingParams(temperature=0.5), (25 / 38, 34 / 38))],
)
def test_tokens_are_drawn_at_the_edges_of_the_distribution(params, edges):
    logits_NV = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64).log().repeat(5, 1)
    near = torch.tensor([0.0, edges[0] - 1e-9, edges[0] + 1e-9, edges[1] - 1e-9, min(edges[1] + 1e-9, 1 - 1e-12)], dtype=torch.float64)
    last = 2 if edges[1] < 1 else 1
    assert draw_tokens(logits_NV, near, params).tolist() == [0, 0, 1, 1, last]


def test_a_token_without_probability_is_never_drawn():
    logits_NV = torch.tensor([[-math.inf, 0.0, -math.inf, 0.0, -math.inf]]).repeat(2, 1)
    assert draw_tokens(logits_NV, torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64), SamplingParams()).tolist() == [1, 3]


def test_only_the_whole_untempered_distribution_is_exact():
    sampler = TransformersSampler(counting())
    assert sampler.exact(SamplingParams())
    assert not any(sampler.exact(params) for params in (SamplingParams(temperature=0.9), SamplingParams(temperature=0), SamplingParams(top_p=0.99)))


@pytest.mark.parametrize(
    ("k", "params", "name"),
    [
        (0, SamplingParams(), "k"),
        (1, SamplingParams(temperature=-1.0), "temperature"),
        (1, SamplingParams(temperature=math.nan), "temperature"),
        (1, SamplingParams(top_p=0.0), "top_p"),
        (1, SamplingParams(max_tokens=0), "max_tokens"),
    ],
)
def test_settings_out_of_range_are_named(k, params, name):
    with pytest.raises(ConfigError, match=f"^{name}: out of range"):
        TransformersSampler(counting()).sample(asked(("6",)), k=k, params=params, seed=0)
