"""What the writers of foreign formats share: which pairs a group holds, and what a prompt looks like in a record."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

from attune.core.errors import RecordError
from attune.core.record import TEMPLATE_OPTIONS, Content, Group, Message, Prompt, Response
from attune.data import turns


def strict_pairs(group: Group) -> Iterator[tuple[Prompt, Content, Content]]:
    """Yields (prompt, better answer, worse answer) for every two responses of different tiers of a verdict, verdicts in order.

    Raises:
        RecordError: the group says something that a pair cannot: no prompt, no verdict, a tie, a withheld text, a comparison across prompts.
    """
    if not group.verdicts:
        raise RecordError("a pair needs a verdict", field="verdicts", value=(), allowed="at least one")
    for index, verdict in enumerate(group.verdicts):
        if any(len(tier) > 1 for tier in verdict.tiers):
            raise RecordError("a pair cannot say a tie", field=f"verdicts[{index}].tiers", value=verdict.tiers, allowed="one response a tier")
        for (better,), (worse,) in combinations(verdict.tiers, 2):
            first, second = group.responses[better], group.responses[worse]
            if first.context != second.context:
                raise RecordError("a pair answers one prompt", field=f"verdicts[{index}].tiers", value=[first.context, second.context])
            yield context(group, first), text(group, better), text(group, worse)


def context(group: Group, response: Response) -> Prompt:
    """Returns the prompt that a response answers. Raises RecordError where the source holds none."""
    if response.context not in group.contexts:
        raise RecordError("the group has no prompt", field="contexts", value=dict(group.contexts), allowed=repr(response.context))
    return group.contexts[response.context]


def text(group: Group, index: int) -> Content:
    """Returns what a response says. Raises RecordError where it is withheld."""
    content = group.responses[index].content
    if content is None:
        raise RecordError("the text is withheld", field=f"responses[{index}].content", value=None, allowed="text or turns")
    return content


def offer(prompt: Prompt) -> dict[str, Any]:
    """Undoes `turns.ask`: returns the fields in which a record holds a prompt and what is offered with it."""
    said: dict[str, Any] = {"prompt": prompt.content if isinstance(prompt.content, str) else list(prompt.content)}
    said |= {"tools": list(prompt.tools)} if prompt.tools else {}
    said |= {"images": list(prompt.images)} if prompt.images else {}
    return said | ({TEMPLATE_OPTIONS: prompt.meta[TEMPLATE_OPTIONS]} if TEMPLATE_OPTIONS in prompt.meta else {})


def reply(prompt: Prompt, content: Content, where: str) -> str | list[Message]:
    """Returns an answer in the kind of its prompt: text after text, turns after turns. Raises RecordError, naming `where`, for turns after text."""
    if isinstance(prompt.content, str):
        if not isinstance(content, str):
            raise RecordError("a text is answered by a text", field=where, value=content, allowed="text")
        return content
    return turns.said(content)
