"""Where a prompt ends, who speaks in an answer, and dialogues in their several spellings."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attune.core.errors import RecordError
from attune.core.record import Prompt, Source
from attune.data import turns

U, A, S = ({"role": role, "content": role[0]} for role in ("user", "assistant", "system"))
B = {"role": "assistant", "content": "b"}
HERE = Source(file="f", line=1)


@pytest.mark.parametrize(
    ("chosen", "rejected", "prompt"),
    [
        ("The sky is blue.", "The sky is green.", "The sky is"),
        ("The sky is blue", "The sky is black", "The sky is"),
        ("The sky is blue", "The sky is blue too", "The sky is"),
        ("one  two", "one  three", "one"),
        ("Q: 2+2\nA: 4", "Q: 2+2\nA: 5", "Q: 2+2\nA:"),
        ("costs 3.14", "costs 3.15", "costs"),
        ("I can't", "I can", "I"),
        ("same words", "same words", "same"),
        ("天空是蓝色的", "天空是绿色的", "天空是"),
        ("thumbs 👍🏻 up", "thumbs 👍🏿 up", "thumbs"),
        ("x cafe\u0301 a", "x cafe b", "x"),
        ("blue", "green", ""),
        ("blue", "black", ""),
        ("", "", ""),
        (" a", " b", ""),
    ],
)
def test_a_text_is_cut_after_the_last_whole_word_both_share(chosen: str, rejected: str, prompt: str) -> None:
    end = turns.split_text(chosen, rejected)
    assert chosen[:end] == prompt
    assert turns.split_text(rejected, chosen) == end


@given(st.text("ab \n", max_size=12), st.text("ab \n", max_size=5), st.text("ab \n", max_size=5))
def test_a_cut_loses_nothing_and_cuts_no_word(shared: str, one: str, other: str) -> None:
    chosen, rejected = shared + one, shared + other
    end = turns.split_text(chosen, rejected)
    assert chosen[:end] == rejected[:end]
    if end:
        assert not chosen[end - 1].isspace()
        assert chosen[end].isspace()
        assert rejected[end].isspace()


@pytest.mark.parametrize(
    ("chosen", "rejected", "end"),
    [
        ([U, A], [U, B], 1),
        ([U, A], [U, A], 1),
        ([S, U, A, U, A], [S, U, A, U, B], 4),
        ([U, A, U, A], [U, A], 1),
        ([U, A, {"role": "tool", "content": "t"}, A], [U, B], 1),
    ],
)
def test_dialogues_are_cut_before_the_answer(chosen: list[Any], rejected: list[Any], end: int) -> None:
    assert turns.split_turns(chosen, rejected) == turns.split_turns(rejected, chosen) == end


@pytest.mark.parametrize(("chosen", "rejected"), [([U, A], [S, A]), ([A], [B]), ([U, U, A], [U, S, A]), ([U], [U])])
def test_dialogues_that_differ_before_any_answer_are_refused(chosen: list[Any], rejected: list[Any]) -> None:
    with pytest.raises(RecordError, match="before the assistant answers"):
        turns.split_turns(chosen, rejected)


def test_an_answer_is_text_where_text_is_all_it_is() -> None:
    assert turns.answer([A], "chosen") == "a"
    called = {"role": "assistant", "tool_calls": [{"id": "1"}]}
    tool = {"role": "tool", "content": "t"}
    assert turns.answer([called, tool, A], "chosen") == (called, tool, A)
    assert turns.answer([{**A, "thinking": "hm"}], "chosen") == ({**A, "thinking": "hm"},)
    for said, field in (([U], "chosen[0].role"), ([A, U], "chosen[1].role"), ([tool], "chosen[0].role")):
        with pytest.raises(RecordError) as caught:
            turns.answer(said, "chosen")
        assert caught.value.field == field


def test_what_is_offered_stays_with_the_prompt() -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    expected = Prompt(content="p", tools=(tool,), images=("a.png",), meta={"chat_template_kwargs": {"thinking": False}})
    record = {"tools": '[{"type": "function", "function": {"name": "f"}}]', "image": "a.png", "chat_template_kwargs": {"thinking": False}}
    assert turns.ask("p", record) == {"main": expected}
    assert turns.ask("p", {**record, "tools": [tool], "images": ["a.png"], "image": None}) == {"main": expected}
    assert turns.ask("p", {"tools": None, "images": None, "chat_template_kwargs": None}) == {"main": Prompt(content="p")}


@pytest.mark.parametrize(
    ("record", "field"),
    [({"tools": "{"}, "tools"), ({"tools": 3}, "tools"), ({"tools": ["f"]}, "tools[0]"), ({"chat_template_kwargs": "x"}, "chat_template_kwargs")],
)
def test_what_is_offered_wrongly_is_named(record: dict[str, Any], field: str) -> None:
    with pytest.raises(RecordError) as caught:
        turns.ask("p", record)
    assert caught.value.field == field


def test_every_turn_of_the_assistant_is_a_lesson() -> None:
    said = [S, U, A, U, {**B, "weight": 0}, U, {**A, "weight": 1}]
    made = list(turns.lessons(said, "messages", {"id": "x", "messages": said, "topic": "t"}, HERE))
    assert [(group.id, len(group.prompt.content), group.responses[0].content) for group in made] == [("x#2", 2, "a"), ("x#6", 6, "a")]
    # how much an earlier turn weighs changes nothing about what was said
    assert made[1].prompt.content == (S, U, A, U, B, U)
    assert made[0].meta == {"topic": "t"}
    (prompt,) = turns.lessons([S, U], "messages", {"id": "x"}, HERE)
    assert (prompt.id, prompt.responses) == ("x", ())
    for wrong, field in (([A, U], "messages[0]"), ([U, {**A, "weight": 0}], "messages[1]")):
        with pytest.raises(RecordError) as caught:
            list(turns.lessons(wrong, "messages", {}, HERE))
        assert caught.value.field == field


def test_sharegpt_tags_become_roles() -> None:
    tags = [("system", "system"), ("human", "user"), ("function_call", "assistant"), ("observation", "tool"), ("gpt", "assistant")]
    said = turns.sharegpt([{"from": tag, "value": tag} for tag, _ in tags], "conversations")
    assert said == tuple({"role": role, "content": tag} for tag, role in tags)
    assert turns.dialogue({"c": [{"from": "human", "value": "h"}], "system": "s"}, "c") == (
        {"role": "system", "content": "s"},
        {"role": "user", "content": "h"},
    )
    assert turns.dialogue({"c": [{"from": "system", "value": "own"}], "system": "s"}, "c") == ({"role": "system", "content": "own"},)
    for wrong, field in (
        ([{"from": "bot", "value": "x"}], "c[0].from"),
        ([{"from": "human", "value": 3}], "c[0].value"),
        ([{"role": "bot", "content": ""}], "c[0].role"),
        ([], "c"),
        ("x", "c"),
    ):
        with pytest.raises(RecordError) as caught:
            turns.sharegpt(wrong, "c")
        assert caught.value.field == field


def test_alpaca_parts_become_turns() -> None:
    record = {"instruction": "Add.", "input": "1, 2", "system": "s", "history": [["q", "a"]]}
    assert turns.alpaca(record) == (
        {"role": "system", "content": "s"},
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": "Add.\n1, 2"},
    )
    assert turns.alpaca({"instruction": "Add.", "input": "", "history": None}) == ({"role": "user", "content": "Add."},)
    with pytest.raises(RecordError, match=r"history\[1\]"):
        turns.alpaca({"instruction": "i", "history": [["q", "a"], ["q"]]})


def test_helpsteer_prompts_hold_turns() -> None:
    assert turns.extra_id("Hi\n<extra_id_1>Assistant\nHello!\n\nSo?\n<extra_id_1>User\nBye", "prompt") == (
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!\n\nSo?"},
        {"role": "user", "content": "Bye"},
    )
    assert turns.extra_id("c#", "prompt") == ({"role": "user", "content": "c#"},)
    with pytest.raises(RecordError, match="ends with the user's turn"):
        turns.extra_id("Hi\n<extra_id_1>Assistant\nHello", "prompt")
