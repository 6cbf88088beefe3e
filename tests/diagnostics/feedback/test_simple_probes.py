"""Texts, equal texts, duplicates, ties and what there is: counted by hand, quiet on clean data."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attune.core.record import Prompt, Rating, Response
from attune.diagnostics.feedback.contents import contents
from attune.diagnostics.feedback.duplicates import duplicates
from attune.diagnostics.feedback.identical import identical
from attune.diagnostics.feedback.texts import texts
from attune.diagnostics.feedback.ties import ties
from tests.diagnostics.make import clean, group, lines, said, won


@pytest.mark.parametrize("probe", [contents, duplicates, identical, texts, ties])
def test_clean_pairs_are_quiet(probe: object) -> None:
    assert callable(probe)
    assert {finding.level for finding in probe(clean())} == {"ok"}


def test_kinds_are_counted() -> None:
    groups = [
        group("g0"),
        group("g1", "demonstrated"),
        group("g2", "rated", ratings=[Rating(response=0, value=1)]),
        group("g3", "a", "b", verdicts=[won(0, 1, by="ann"), won(0, 1, by="judge:j")]),
        group("g4", "a", "b", "c", prompt=""),
    ]
    counts, trainable = contents(groups)
    assert counts.numbers["kinds"] == {"prompt to sample from": 1, "demonstration": 1, "rated response": 1, "pair": 1, "list": 1}
    assert (counts.numbers["responses"], counts.numbers["verdicts"], counts.numbers["ratings"]) == (7, 2, 1)
    assert counts.numbers["annotators"] == {"people": 1, "judges": 1}
    assert (trainable.level, trainable.numbers["trainable"], trainable.numbers["reasons"]) == ("note", 4, {"the source holds no prompt": 1})
    assert [record.id for record in trainable.records] == ["g4"]


def test_nothing_to_train_on_is_a_warning_and_no_group_an_error() -> None:
    assert contents([group("g0", "a", "b", prompt=""), group("g1", None, None)])[1].level == "warn"
    assert contents([])[0].level == "error"


def test_empty_and_withheld_responses_are_listed() -> None:
    groups = [*clean(97), group("e0", " \n", "full", verdicts=[won(0, 1)]), group("e1", "", "full", verdicts=[won(1, 0)]), group("e2", None, "full")]
    (found,) = texts(groups)
    assert found.numbers == {"responses": 200, "empty": 2, "empty_preferred": 1, "withheld": 1}
    assert [record.detail for record in found.records] == ["response 0 is empty and was preferred", "response 0 is empty", "the text of response 0 is withheld"]
    assert found.level == "warn"


def test_a_tool_call_or_an_image_is_not_empty() -> None:
    call = ({"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f"}}]},)
    picture = ({"role": "assistant", "content": [{"type": "image", "image": "x.png"}]},)
    silent = ({"role": "assistant", "content": ""},)
    (found,) = texts([group("e0", call, picture, silent)])
    assert [record.detail for record in found.records] == ["response 2 is empty"]


def test_equal_texts_are_found_where_they_are_compared() -> None:
    groups = lines(clean(60), (3, 9), group("x", "same", "same", verdicts=[won(0, 1)]))
    (found,) = identical(groups)
    # 58 groups with two verdicts each, and two with one
    assert (found.numbers["comparisons"], found.numbers["identical"], found.numbers["ties"]) == (118, 2, 0)
    assert [(record.id, record.file, record.line) for record in found.records] == [("clean-3", "made.jsonl", 3), ("clean-9", "made.jsonl", 9)]
    assert found.level == "warn"


def test_equal_texts_called_a_tie_are_only_noted_and_many_decided_ones_are_an_error() -> None:
    tied = group("i0", "same", "same", verdicts=[said((0, 1))])
    assert identical([*clean(20), tied])[0].level == "note"
    assert identical([group("i0", "same", "same", verdicts=[won(0, 1)])])[0].level == "error"


def test_equal_texts_in_different_contexts_are_different() -> None:
    joint = replace(
        group("j0"),
        contexts={"left": Prompt(content="l"), "right": Prompt(content="r")},
        responses=(Response(content="same", context="left"), Response(content="same", context="right")),
        verdicts=(won(0, 1),),
    )
    assert identical([joint])[0].numbers["identical"] == 0


def test_repeated_prompts_and_verdicts() -> None:
    groups = [
        group("g0", "a", "b", prompt="same", verdicts=[won(0, 1, by="ann"), won(0, 1, by="bob")]),
        group("g1", "b", "a", prompt="same", verdicts=[won(1, 0, by="ann"), won(0, 1, by="bob")]),
    ]
    prompts, verdicts = duplicates(groups)
    assert (prompts.level, prompts.numbers["repeated"], prompts.records[0].id) == ("note", 1, "g1")
    # ann says of the swapped pair what she said before; bob says the opposite, which is another probe's matter
    assert (verdicts.level, verdicts.numbers["repeated"], verdicts.records[0].detail) == ("warn", 1, "verdict 0 by ann")


def test_a_verdict_in_the_other_order_of_showing_is_no_repetition_and_nobody_named_is_only_noted() -> None:
    shown = group("g0", "a", "b", verdicts=[said((0,), (1,), by="j", shown=(0, 1)), said((0,), (1,), by="j", shown=(1, 0))])
    assert duplicates([shown])[1].level == "ok"
    assert duplicates([group("g0", "a", "b", verdicts=[won(0, 1), won(0, 1)])])[1].level == "note"


def test_ties_by_annotator() -> None:
    groups = [group(f"t{index}", "a", "b", verdicts=[said((0, 1), by="ann") if index < 3 else won(0, 1, by="ann"), won(1, 0, by="bob")]) for index in range(10)]
    (found,) = ties(groups)
    assert (found.numbers["ties"], found.numbers["comparisons"], found.level) == (3, 20, "note")
    assert found.numbers["share"].value == pytest.approx(0.15)
    assert found.numbers["by_annotator"]["ann"].value == pytest.approx(0.3)
    assert found.numbers["by_annotator"]["bob"].value == 0
    assert [record.id for record in found.records] == ["t0", "t1", "t2"]


def test_mostly_ties_warn_and_nothing_but_ties_is_an_error() -> None:
    tie = group("t", "a", "b", verdicts=[said((0, 1))])
    assert ties([*clean(2), *[tie] * 5])[0].level == "warn"
    assert ties([tie, tie])[0].level == "error"


def test_a_tier_of_three_is_three_ties() -> None:
    assert ties([group("t0", "a", "b", "c", "d", verdicts=[said((0, 1, 2), (3,))])])[0].numbers["ties"] == 3
