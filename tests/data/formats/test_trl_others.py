"""TRL's types without preferences: completions, prompts, texts, steps."""

from __future__ import annotations

from typing import Any

import pytest

from attune.core.errors import RecordError
from attune.core.record import Group, Prompt, Source, Step
from attune.data.discovery import formats

HERE = Source(file="f", line=1)


def only(format: str, record: dict[str, Any]) -> Group:
    assert formats()[format].recognises(record)
    (group,) = formats()[format].parse(record, HERE)
    return group


def test_a_completion_is_a_demonstration() -> None:
    group = only("trl_completion", {"prompt": "The sky is", "completion": " blue.", "topic": "sky"})
    assert (group.prompt.content, [response.content for response in group.responses], group.meta) == ("The sky is", [" blue."], {"topic": "sky"})
    turns = {"prompt": "Why?", "completion": [{"role": "assistant", "content": "So."}]}
    assert only("trl_completion", turns).prompt.content == ({"role": "user", "content": "Why?"},)
    with pytest.raises(RecordError, match="completion"):
        only("trl_completion", {"prompt": "p", "completion": None})


def test_a_prompt_keeps_what_a_reward_needs() -> None:
    group = only("trl_prompt", {"prompt": [{"role": "user", "content": "2+2"}], "answer": "4", "images": ["a"]})
    assert (group.responses, group.meta, group.prompt) == ((), {"answer": "4"}, Prompt(content=({"role": "user", "content": "2+2"},), images=("a",)))
    with pytest.raises(RecordError, match="prompt"):
        only("trl_prompt", {"prompt": ""})


def test_a_text_has_no_prompt() -> None:
    group = only("trl_text", {"text": "The sky is blue."})
    assert group.contexts == {}
    assert [response.content for response in group.responses] == ["The sky is blue."]
    assert group.untrainable
    assert group.id != only("trl_text", {"text": "The sky is green."}).id


def test_steps_end_where_the_next_begins() -> None:
    group = only("trl_stepwise", {"prompt": "p", "completions": ["ab", "cde", "f"], "labels": [True, False, False]})
    (response,) = group.responses
    assert response.content == "ab\ncde\nf"
    assert response.steps == (Step(end=3, label=1.0), Step(end=7, label=0.0), Step(end=8, label=0.0))
    for change, field in (({"labels": [True]}, "labels"), ({"labels": [True, 0, 1]}, "labels[1]"), ({"completions": ["a", 3, "b"]}, "completions[1]")):
        with pytest.raises(RecordError) as caught:
            only("trl_stepwise", {"prompt": "p", "completions": ["ab", "cde", "f"], "labels": [True, False, False], **change})
        assert caught.value.field == field
