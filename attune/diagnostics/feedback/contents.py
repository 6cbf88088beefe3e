"""What there is: groups by kind, responses, feedback and who gave it, and how much of it can be trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from attune.core.record import Group
from attune.diagnostics.finding import Finding, many, ref
from attune.diagnostics.judgments import kind

_KINDS = {0: "prompt to sample from", 2: "pair"}
_MANY = {"prompt to sample from": "prompts to sample from"}


def contents(groups: Sequence[Group]) -> tuple[Finding, ...]:
    """Returns the counts ("contents") and which groups no model can be trained on ("trainable")."""
    if not groups:
        return (Finding(name="contents", level="error", headline="there are 0 groups", mend="there is nothing to train on"),)
    kinds = Counter(_kind(group) for group in groups)
    responses = [response for group in groups for response in group.responses]
    verdicts = [verdict for group in groups for verdict in group.verdicts]
    ratings = [rating for group in groups for rating in group.ratings]
    annotators = {verdict.annotator for verdict in verdicts} | {rating.annotator for rating in ratings}
    named = [name for name in annotators if name is not None]
    numbers = {
        "groups": len(groups),
        "kinds": dict(kinds),
        "responses": len(responses),
        "verdicts": len(verdicts),
        "ratings": len(ratings),
        "scores": sum(len(response.scores) for response in responses),
        "spans": sum(len(response.spans or ()) for response in responses),
        "steps": sum(len(response.steps or ()) for response in responses),
        "edits": sum(response.edit is not None for response in responses),
        "contexts": dict(Counter(name for group in groups for name in group.contexts)),
        "annotators": dict(Counter(map(kind, named))),
        "generators": len({response.generator for response in responses if response.generator is not None}),
    }
    said = ", ".join(many(num, name, _MANY.get(name)) for name, num in kinds.most_common())
    headline = f"{many(len(groups), 'group')} ({said}) with {many(len(responses), 'response')}, {many(len(verdicts), 'verdict')}, "
    headline += f"{many(len(ratings), 'rating')} by {many(len(named), 'named annotator')}"
    return Finding(name="contents", level="ok", headline=headline, numbers=numbers), _trainable(groups)


def _kind(group: Group) -> str:
    num = len(group.responses)
    if num == 1:
        return "rated response" if group.ratings or group.responses[0].scores else "demonstration"
    return _KINDS.get(num, "list")


def _trainable(groups: Sequence[Group]) -> Finding:
    reasons = [(group, group.untrainable) for group in groups]
    records = tuple(ref(group, reason) for group, reason in reasons if reason)
    counts = Counter(reason for _, reason in reasons if reason)
    num = len(groups) - len(records)
    why = "; ".join(f"{count:,}: {reason}" for reason, count in counts.most_common())
    return Finding(
        name="trainable",
        level="ok" if not records else "note" if num else "warn",
        headline=f"{num:,} of {many(len(groups), 'group')} can be trained on" + (f" ({why})" if why else ""),
        numbers={"trainable": num, "groups": len(groups), "reasons": dict(counts)},
        records=records,
        mend=""
        if not records
        else "these groups are left out of training"
        if num
        else "analyse this feedback, do not train on it: it lacks what a model would read",
    )
