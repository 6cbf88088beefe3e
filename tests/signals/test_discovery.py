"""Signals are found by the name of their file, explain their parameters, and refuse what they do not know."""

from __future__ import annotations

import inspect

import pytest

from attune.core.errors import ConfigError
from attune.core.record import Group
from attune.core.signal import Signal
from attune.core.spec import check_params, module, modules, parameters
from tests.signals.groups import beats, group, rated

NAMES = list(modules("attune.signals"))


def test_the_names() -> None:
    assert {"all_pairs", "best_worst", "adjacent_ranks", "threshold", "vote", "thumbs", "win_lose", "demonstrations"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_signal_takes_a_group_and_explains_its_parameters(name: str) -> None:
    fn = getattr(module("attune.signals", name), name)
    said = inspect.getdoc(fn) or ""
    for part in ("Args:", "Returns:", *(f"{parameter}:" for parameter in parameters(fn))):
        assert part in said
    full = group(3, verdicts=[beats(0, (1, 2))], ratings=rated(5, 2, 3), scores=[{"s": 1.0}, {"s": 2.0}, {"s": 0.0}])
    for given in (full, group(1), Group(id="empty")):
        assert isinstance(fn(given), Signal)


@pytest.mark.parametrize(
    ("name", "params"), [("all_pairs", {"ties": "win"}), ("threshold", {"min_gap": -1.0}), ("vote", {"min_votes": 0}), ("vote", {"by": "me"})]
)
def test_wrong_parameters_are_refused(name: str, params: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"{name}."):
        check_params(name, getattr(module("attune.signals", name), name), params)
