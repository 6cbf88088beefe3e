"""SimPO: values worked by hand and the invariants of its page."""

from __future__ import annotations

from dataclasses import replace
from math import exp, log

import pytest

from attune.core.spec import method
from tests.contracts.build import value_and_grads
from tests.contracts.golden import Golden, by_hand

SIMPO = method("simpo")
PAIR = by_hand(logp=[[-1.0, -2.0], [-3.0]], pairs=[(0, 1)])
# means -1.5 and -3: beta 2 makes h = 3


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


GOLDEN = (
    Golden(says="h - gamma = 2", batch=PAIR, value=log(1 + exp(-2)), grad={"logp": [-2 * sigmoid(-2), 2 * sigmoid(-2)]}),
    Golden(says="gamma is absolute, not times beta", batch=PAIR, params={"beta": 4.0, "gamma": 2.0}, value=log(1 + exp(-4))),
    Golden(
        says="the margin is asked of whichever side a vote names",
        batch=by_hand(logp=[[-1.0, -2.0], [-3.0]], pairs=[(0, 1)], target=[0.75]),
        value=0.75 * log(1 + exp(-2)) + 0.25 * log(1 + exp(4)),
    ),
    Golden(says="a mean of -1e4 against 0", batch=by_hand(logp=[[-1e4, -1e4], [0.0]], pairs=[(0, 1)]), value=2e4 + 1),
)


def test_repeating_every_token_changes_nothing_where_a_sum_would_double() -> None:
    once, twice = (by_hand(logp=[[-0.5, -1.0] * times, [-2.0, -0.2] * times], pairs=[(0, 1)]) for times in (1, 2))
    assert float(value_and_grads(SIMPO, once)[0]) == pytest.approx(float(value_and_grads(SIMPO, twice)[0]), rel=1e-15)


def test_equal_responses_cost_the_margin() -> None:
    given = by_hand(logp=[[-1.0], [-1.0]], pairs=[(0, 1)])
    for gamma in (0.0, 0.5, 3.0):
        assert float(value_and_grads(replace(SIMPO, params={"gamma": gamma}), given)[0]) == pytest.approx(log(1 + exp(gamma)), rel=1e-14)


@pytest.mark.parametrize(
    ("name", "ratio"),
    [("simpo_mistral_base", 0.8), ("simpo_mistral_instruct", 0.1), ("simpo_llama3_instruct", 0.55), ("simpo_llama3_instruct_v2", 0.3), ("simpo_gemma2", 0.5)],
)
def test_presets_are_the_authors_ratio_of_gamma_to_beta(name: str, ratio: float) -> None:
    params = method(name).params
    assert params["gamma"] / params["beta"] == pytest.approx(ratio, rel=1e-15)
