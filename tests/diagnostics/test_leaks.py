"""Prompts on both sides of a split."""

from __future__ import annotations

from attune.core.record import Group, Prompt
from attune.diagnostics.leaks import leaks


def asking(name: str, text: str, *, turns: bool = False) -> Group:
    content = ({"role": "user", "content": text},) if turns else text
    return Group(id=name, contexts={"main": Prompt(content=content)})


def test_the_same_words_are_found_whatever_their_form() -> None:
    (finding,) = leaks([asking("a", "one"), asking("b", "two")], [asking("c", "two", turns=True), asking("d", "three")])
    assert (finding.level, finding.numbers, [record.id for record in finding.records]) == ("warn", {"held_out": 2, "shared": 1}, ["c"])


def test_clean_splits_are_quiet() -> None:
    (finding,) = leaks([asking("a", "one")], [asking("c", "two")])
    assert (finding.level, finding.mend) == ("ok", "")
    assert leaks([asking("a", "one")], []) == []
