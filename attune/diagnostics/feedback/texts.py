"""Responses that say nothing: empty ones, blank ones, and those whose text is withheld."""

from __future__ import annotations

from collections.abc import Sequence

from attune.core.record import Group
from attune.diagnostics.finding import Finding, graded, many, ref
from attune.diagnostics.judgments import decided, judgments


def texts(groups: Sequence[Group]) -> tuple[Finding, ...]:
    """Returns "texts": how many responses hold no word, how many of them were preferred, and how many are withheld.

    A response that consists of tool calls alone is not empty.
    """
    responses = [(group, index) for group in groups for index in range(len(group.responses))]
    if not responses:
        return ()
    empty = [(group, index) for group, index in responses if _empty(group, index)]
    withheld = [(group, index) for group, index in responses if group.responses[index].content is None]
    blank = {(id(group), index) for group, index in empty}
    preferred = {(id(judgment.group), judgment.preferred) for judgment in decided(judgments(groups))} & blank
    records = [ref(group, f"response {index} is empty" + (" and was preferred" if (id(group), index) in preferred else "")) for group, index in empty]
    records += [ref(group, f"the text of response {index} is withheld") for group, index in withheld]
    level = graded(len(empty), len(responses))
    return (
        Finding(
            name="texts",
            level="note" if level == "ok" and withheld else level,
            headline=f"of {many(len(responses), 'response')}, {len(empty):,} are empty ({len(preferred):,} of them preferred) and {len(withheld):,} withheld",
            numbers={"responses": len(responses), "empty": len(empty), "empty_preferred": len(preferred), "withheld": len(withheld)},
            records=tuple(records),
            mend="drop the empty responses: the only thing to learn from one is to stop at once" if empty else "",
        ),
    )


def _empty(group: Group, index: int) -> bool:
    response = group.responses[index]
    if response.content is None or response.text.strip():
        return False
    return isinstance(response.content, str) or not any(turn.get("tool_calls") or _parts(turn.get("content")) for turn in response.content)


def _parts(content: object) -> bool:
    return isinstance(content, (list, tuple)) and any(part.get("type") != "text" for part in content)
