"""SFT: values worked by hand."""

from __future__ import annotations

from attune.core.spec import method
from tests.contracts.build import value_and_grads
from tests.contracts.golden import Golden, by_hand

SHOWN = by_hand(logp=[[-1.0, -2.0], [-3.0], [-9.0]], demos=[True, True, False])

GOLDEN = (
    Golden(says="each token weighs the same", batch=SHOWN, value=(1 + 2 + 3) / 3, grad={"logp": [-2 / 3, -1 / 3, 0]}),
    Golden(says="each demonstration weighs the same", batch=SHOWN, params={"per": "row"}, value=(1.5 + 3) / 2, grad={"logp": [-1 / 2, -1 / 2, 0]}),
)


def test_both_weightings_agree_on_equal_lengths() -> None:
    given = by_hand(logp=[[-1.0, -2.0], [-3.0, -0.5]], demos=[True, True])
    values = [float(value_and_grads(method(name), given)[0]) for name in ("sft", "sft_per_row")]
    assert values == [6.5 / 4, 6.5 / 4]
