"""Answers inside an open thinking block are named; closed ones, cut ones and templates without such a block are not."""

from __future__ import annotations

import pytest

from attune.diagnostics.encoding import Reader, encode
from attune.diagnostics.tokens.thinking import thinking
from attune.policies.templates import Template
from tests import tiny
from tests.diagnostics.make import group

GROUPS = [group("t1", "2+2\n</think>\n\n4", "4"), group("t2", "<think>\nr\n</think>4"), group("t3", "five")]


def reader(begun: str, *, chat: str = "auto", **limits: int) -> Reader:
    jinja = tiny.HASTY.replace("<think>\n", begun)
    return Reader(template=Template(tiny.tokenizer(chat=jinja), chat=chat), overlong="cut", **limits)


@pytest.mark.parametrize(("begun", "closing"), [("<think>\n", "</think>"), ("<think>", "</think>")])
def test_responses_that_never_close_the_block_are_listed(begun: str, closing: str) -> None:
    (found,) = thinking(encode(GROUPS, reader(begun)))
    assert (found.level, found.numbers) == ("warn", {"opened": 4, "unclosed": 2})
    assert [(record.id, record.line, record.detail) for record in found.records] == [
        ("t1", 1, f"response 1: no {closing}"),
        ("t3", 3, f"response 0: no {closing}"),
    ]
    (right,) = thinking(encode(GROUPS[1:2], reader(begun)))
    assert (right.level, right.records, right.mend) == ("ok", (), "")


def test_other_names_of_the_block() -> None:
    for begun, closing in (("[THINK]", "[/THINK]"), ("<seed:think>", "</seed:think>"), ("<reasoning>\n", "</reasoning>")):
        (found,) = thinking(encode([group("t1", f"r{closing}4", "4</think>")], reader(begun)))
        assert (found.numbers["unclosed"], found.records[0].detail) == (1, f"response 1: no {closing}")


def test_a_response_that_lost_its_end_is_not_blamed() -> None:
    (found,) = thinking(encode([group("t1", "word " * 30 + "</think>4")], reader("<think>\n", max_response_tokens=5)))
    assert (found.numbers["opened"], found.numbers["unclosed"]) == (1, 0)


def test_nothing_is_said_where_no_block_is_open() -> None:
    for model in (reader(""), reader("<think>\n\n</think>\n\n"), reader("<think>\n", chat="none")):
        assert thinking(encode(GROUPS, model)) == ()
