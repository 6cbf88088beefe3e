"""Each probe of tokens against rows written by hand: quiet on right ones, loud on one planted fault."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from attune.core.record import Group, Response
from attune.diagnostics import tokens as package
from attune.diagnostics.doctor import probes
from attune.diagnostics.encoding import Encoding
from attune.diagnostics.finding import Finding
from attune.diagnostics.tokens.boundary import boundary
from attune.diagnostics.tokens.nothing import nothing
from attune.diagnostics.tokens.start import start
from attune.diagnostics.tokens.stop import stop
from attune.diagnostics.tokens.token_identical import token_identical
from attune.diagnostics.tokens.token_length import token_length
from attune.diagnostics.tokens.unknown import unknown
from attune.policies.templates import Tokens
from tests.diagnostics.make import won
from tests.diagnostics.tokens.fake import BOS, STOP, UNK, encoding, one, tokens

Probe = Callable[[Encoding], Sequence[Finding]]


def with_one(fault: Tokens, num: int = 40) -> Encoding:
    """Right rows, one of which is replaced by a faulty one."""
    groups = [one(f"g{index}") for index in range(num)]
    return encoding({(index, 0): fault if index == 3 else tokens() for index in range(num)}, groups)


FAULTS: list[tuple[Probe, Tokens, str, str]] = [
    (boundary, tokens(prompt=(BOS, 4)), "error", "broken"),
    (start, tokens(prompt=(BOS, BOS, 5)), "error", "wrong"),
    (start, tokens(prompt=(5,)), "error", "wrong"),
    (start, tokens(response=(BOS, 7, STOP)), "error", "in_response"),
    (stop, tokens(response=(7, 8)), "error", "lacking"),
    (stop, tokens(response=(7, STOP), supervised=(True, False)), "error", "lacking"),
    (stop, tokens(response=(7, 8), response_cut=3), "warn", "cut_off"),
    (nothing, tokens(response=()), "error", "zero"),
    (nothing, tokens(supervised=(False, False)), "error", "zero"),
    (nothing, tokens(response=(STOP,)), "warn", "stop_only"),
    (unknown, tokens(response=(UNK, UNK, STOP)), "warn", "unknown"),
]


@pytest.mark.parametrize(
    ("probe", "fault", "level", "number"), FAULTS, ids=[f"{probe.__name__}-{number}-{place}" for place, (probe, *_, number) in enumerate(FAULTS)]
)
def test_a_planted_fault_is_found_in_its_row_and_nowhere_else(probe: Probe, fault: Tokens, level: str, number: str) -> None:
    (found,) = probe(with_one(fault))
    assert (found.level, found.numbers[number]) == (level, 2 if number == "unknown" else 1)
    assert [record.id for record in found.records] == ["g3"]
    (quiet,) = probe(with_one(tokens()))
    assert (quiet.level, quiet.numbers[number], quiet.records) == ("ok", 0, ())


def test_all_probes_have_nothing_to_say_about_no_rows() -> None:
    empty = encoding({}, [one()])
    assert [name for name, probe in probes(package).items() if probe(empty)] == []


def test_what_tokenising_both_texts_as_one_would_merge() -> None:
    groups = [one(f"g{index}") for index in range(3)]
    # 5 before 6 becomes 56; a prompt that itself holds 5 6 does not tokenise back, so nothing can be said
    rows = {(0, 0): tokens(response=(6, STOP)), (1, 0): tokens(), (2, 0): tokens(prompt=(BOS, 5, 6), response=(6, STOP))}
    (found,) = boundary(encoding(rows, groups, prompt=(BOS, 5)))
    assert (found.numbers["would_merge"], found.numbers["unknown"], found.numbers["broken"]) == (1, 1, 1)


def test_a_model_without_a_start_token_needs_none() -> None:
    groups = [one("g0"), one("g1")]
    (found,) = start(encoding({(0, 0): tokens(prompt=(5,)), (1, 0): tokens(prompt=(6,))}, groups, start_ids=()))
    assert (found.level, found.numbers["expected"]) == ("ok", 0)


def test_the_stop_token_of_another_turn_counts_as_a_control_token() -> None:
    # id 0 is a control token too: a tool call may end with one of its own
    (found,) = stop(encoding({(0, 0): tokens(response=(7, BOS))}, [one()]))
    assert found.level == "ok"


def test_unknown_rate() -> None:
    """Two of 4 * 40 + 1 tokens."""
    (found,) = unknown(with_one(tokens(response=(UNK, UNK, STOP))))
    assert (found.numbers["tokens"], found.numbers["unknown"]) == (161, 2)
    assert "1.24 %" in found.headline


def pair(name: str) -> Group:
    return replace(one(name), responses=(Response(content="a"), Response(content="b")), verdicts=(won(0, 1),))


def test_pairs_of_the_same_tokens() -> None:
    groups = [pair(f"g{index}") for index in range(30)]
    rows = {(place, index): tokens(response=(7 + index, STOP)) for place in range(30) for index in (0, 1)}
    assert token_identical(encoding(rows, groups))[0].level == "ok"
    rows[4, 1] = rows[4, 0]
    (found,) = token_identical(encoding(rows, groups))
    assert (found.level, found.numbers["pairs"], [record.id for record in found.records]) == ("warn", 30, ["g4"])


def test_percentiles_and_difference_in_tokens() -> None:
    """Responses of 1 to 20 tokens, the odd ones preferred to the next even ones: 1 token shorter each; 95 % of the lengths are at most 19."""
    groups = [pair(f"g{index}") for index in range(10)]
    rows = {(place, index): tokens(response=(7,) * (2 * place + index) + (STOP,)) for place in range(10) for index in (0, 1)}
    lengths, difference = token_length(encoding(rows, groups))
    assert lengths.numbers["response"] == {"5": 1, "50": 10, "95": 19, "100": 20}
    assert lengths.numbers["prompt"] == {"5": 2, "50": 2, "95": 2, "100": 2}
    assert lengths.numbers["supervised"] == 210
    assert (difference.name, difference.numbers["difference"].value, difference.numbers["longer_wins"].value) == ("token_difference", -1.0, 0.0)
    assert difference.level == "warn"
