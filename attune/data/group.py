"""Joins groups that ask the same: one prompt, all responses to it, all that was said about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from attune.core.record import MAIN, TEMPLATE_OPTIONS, Group, Response
from attune.data.account import Account
from attune.data.codec import digest, pack

DOUBTS = "doubts"
"""Key of `Group.meta` under which a format notes what is odd about a record it could read: {field: reason}."""

ALSO = "also"
"""Key of `Group.meta` that lists the groups which joined this one: their id and source, and what of their meta differs."""


def key(group: Group) -> str:
    """Returns what two groups must share to be joined: the main prompt and all others (turns, tools, images, template arguments), user and criterion.

    Groups without a main prompt, or without any, share their id: their responses answer prompts of their own (one a model, one a side).

    Returns:
        64 hex digits; equal for equal content, whatever file or line it came from.
    """
    if MAIN not in group.contexts:
        return digest(["id", group.id, group.user, group.criterion])
    return digest(["prompts", _prompts(group), group.user, group.criterion])


def _prompts(group: Group) -> dict[str, Any]:
    return {name: [prompt.content, prompt.tools, prompt.images, prompt.meta.get(TEMPLATE_OPTIONS)] for name, prompt in group.contexts.items()}


def merge(groups: Iterable[Group]) -> list[Group]:
    """Joins groups with equal `key`, in order of first appearance; contexts of one name that differ keep two groups apart.

    Two responses of different groups are one when content, generator and context are equal and nothing else about them disagrees (what
    one lacks, the other fills in; spans of both are kept). Two responses of the same group stay two, even if equal: somebody compared
    them. All verdicts and ratings are kept, with their indices moved.

    Args:
        groups: any groups, in memory once joined.

    Returns:
        The joined groups; the first one's id, source and meta win, the others are listed in meta under "also".
    """
    together: dict[str, list[list[Group]]] = {}
    found: list[list[Group]] = []
    for group in groups:
        families = together.setdefault(key(group), [])
        family = next((family for family in families if all(_compatible(group, one) for one in family)), None)
        if family is None:
            family = []
            families.append(family)
            found.append(family)
        family.append(group)
    return [join(same) for same in found]


def _compatible(one: Group, other: Group) -> bool:
    if MAIN in one.contexts:
        return True  # the key holds every prompt
    ours, theirs = _prompts(one), _prompts(other)
    return all(ours[name] == theirs[name] for name in ours.keys() & theirs.keys())


def unique(groups: Iterable[Group], account: Account) -> Iterator[Group]:
    """Yields groups with no id twice: a later group of another prompt gets file and line behind its id, and a doubt in `account`."""
    seen: set[str] = set()
    for group in groups:
        name = group.id
        if name in seen:
            file, line = (group.source.file, group.source.line) if group.source else ("", None)
            stem = f"{name}@{PurePath(file).name}:{line}"
            name = next(made for made in (stem, *(f"{stem}.{copy}" for copy in range(2, len(seen) + 3))) if made not in seen)
            account.doubt(f"another prompt has the same id; this group is called {name!r}", file=file, line=line, field="id", id=group.id)
            group = replace(group, id=name)
        seen.add(name)
        yield group


def doubts(group: Group) -> Iterator[tuple[str | None, str]]:
    """Yields (field, reason) for what is odd about a group: an empty response, equal responses of which one is preferred, what its format noted."""
    yield from ((f"responses[{index}].content", "the response is empty") for index, response in enumerate(group.responses) if response.content == "")
    contents = [None if response.content is None else digest([response.content, response.context]) for response in group.responses]
    twice = {content for content, count in Counter(contents).items() if count > 1 and content is not None}
    for index, verdict in enumerate(group.verdicts if twice else ()):
        tiers = [{contents[response] for response in tier} & twice for tier in verdict.tiers]
        if sum(map(len, tiers)) > len(set().union(*tiers)):
            yield f"verdicts[{index}].tiers", "one response is preferred to another with the same content"
    noted = group.meta.get(DOUBTS)
    if isinstance(noted, Mapping):
        yield from ((str(field), str(reason)) for field, reason in noted.items())


def join(same: Sequence[Group]) -> Group:
    """Returns one group made of those with equal `key`, as `merge` says."""
    first = same[0]
    if len(same) == 1:
        return first
    responses, verdicts, ratings, also = list(first.responses), list(first.verdicts), list(first.ratings), list(first.meta.get(ALSO, ()))
    positions: dict[str, list[int]] = {}
    for index, response in enumerate(responses):
        if response.content is not None:
            positions.setdefault(_identity(response), []).append(index)
    for group in same[1:]:
        moved = _place(group, responses, positions)
        verdicts += [
            replace(
                verdict,
                tiers=tuple(tuple(moved[index] for index in tier) for tier in verdict.tiers),
                presented=None if verdict.presented is None else tuple(moved[index] for index in verdict.presented),
            )
            for verdict in group.verdicts
        ]
        ratings += [replace(rating, response=moved[rating.response]) for rating in group.ratings]
        also += [_trace(first, group), *group.meta.get(ALSO, ())]
    contexts = {name: prompt for group in reversed(same) for name, prompt in group.contexts.items()}
    return replace(first, contexts=contexts, responses=tuple(responses), verdicts=tuple(verdicts), ratings=tuple(ratings), meta={**first.meta, ALSO: also})


def _place(group: Group, responses: list[Response], positions: dict[str, list[int]]) -> list[int]:
    """Puts the responses of `group` into `responses`; returns where each went. No two of them go to one place."""
    moved: list[int] = []
    for response in group.responses:
        candidates = positions.setdefault(_identity(response), [])
        for index in candidates:
            if index not in moved and _agree(responses[index], responses, response, group.responses):
                break
        else:
            index = len(responses)
            responses.append(replace(response, edit=None))
            if response.content is not None:
                candidates.append(index)
        moved.append(index)
    for response, index in zip(group.responses, moved, strict=True):
        edit = None if response.edit is None else replace(response.edit, of=moved[response.edit.of])
        responses[index] = _fill(responses[index], replace(response, edit=edit))
    return moved


def _identity(response: Response) -> str:
    return digest([response.content, response.generator, response.context])


def _agree(one: Response, ones: Sequence[Response], other: Response, others: Sequence[Response]) -> bool:
    """Whether nothing that both responses say differs."""
    said, heard = _statements(one, ones), _statements(other, others)
    return all(said[what] == heard[what] for what in said.keys() & heard.keys())


def _statements(response: Response, responses: Sequence[Response]) -> dict[tuple[str, ...], Any]:
    """What a response says that it can say only once. The sampler's tokens and their log-probabilities are one statement."""
    edit = response.edit
    said: dict[tuple[str, ...], Any] = {
        ("sample",): None if response.token_ids is None and response.logps is None else (response.token_ids, response.logps),
        ("steps",): response.steps,
        ("critique",): response.critique,
        # the content an edit started from stands in for its index, which means nothing in another group
        ("edit",): None if edit is None else (responses[edit.of].content, edit.changes, edit.annotator, edit.reason),
    }
    said |= {("score", aspect): score for aspect, score in response.scores.items()}
    said |= {("meta", name): value for name, value in response.meta.items()}
    return {what: value for what, value in said.items() if value is not None}


def _fill(one: Response, other: Response) -> Response:
    sample = other if one.token_ids is None and one.logps is None else one
    spans = one.spans
    if other.spans is not None:
        spans = (*(one.spans or ()), *(span for span in other.spans if span not in (one.spans or ())))
    return replace(
        one,
        token_ids=sample.token_ids,
        logps=sample.logps,
        steps=other.steps if one.steps is None else one.steps,
        critique=other.critique if one.critique is None else one.critique,
        edit=other.edit if one.edit is None else one.edit,
        spans=spans,
        scores={**one.scores, **{aspect: score for aspect, score in other.scores.items() if aspect not in one.scores}},
        meta={**one.meta, **{name: value for name, value in other.meta.items() if name not in one.meta}},
    )


def _trace(first: Group, group: Group) -> dict[str, Any]:
    source = group.source
    trace: dict[str, Any] = {"id": group.id}
    if source is not None:
        trace |= {"file": source.file, "line": source.line, "format": source.format}
    kept = {name: value for name, value in group.meta.items() if name != ALSO and (name not in first.meta or pack(first.meta[name]) != pack(value))}
    prompts = {name: dict(prompt.meta) for name, prompt in group.contexts.items() if prompt.meta and prompt.meta != first.contexts[name].meta}
    return trace | ({"meta": kept} if kept else {}) | ({"prompt_meta": prompts} if prompts else {})
