"""Verdicts taken apart into comparisons of two responses, and what makes two responses, prompts or annotators the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from attune.core.record import Content, Group, Verdict
from attune.data.codec import digest
from attune.data.parts import GOLD, JUDGE, PROGRAM

NOBODY = "(nobody named)"
"""Stands for the annotator of feedback that does not say whose it is."""

Kind = Literal["people", "judges", "gold"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgment:
    """What one verdict says about two responses."""

    group: Group
    verdict: Verdict
    first: int
    second: int
    # indices into the group's responses, first < second
    order: int
    # 1: the first is better; -1: the second; 0: a tie

    @property
    def annotator(self) -> str:
        return self.verdict.annotator or NOBODY

    @property
    def criterion(self) -> str | None:
        return self.verdict.criterion or self.group.criterion

    @property
    def preferred(self) -> int:
        """Index of the better response; only for decided judgments."""
        assert self.order, "a tie prefers nobody"
        return self.first if self.order > 0 else self.second

    @property
    def dispreferred(self) -> int:
        """Index of the worse response; only for decided judgments."""
        return self.first + self.second - self.preferred


def judgments(groups: Iterable[Group]) -> list[Judgment]:
    """Returns every two responses that a verdict compares: K (K - 1) / 2 of them for a ranking of K."""
    found = []
    for group in groups:
        for verdict in group.verdicts:
            tier_of = {index: tier for tier, members in enumerate(verdict.tiers) for index in members}
            for first, second in combinations(sorted(tier_of), 2):
                order = (tier_of[second] > tier_of[first]) - (tier_of[second] < tier_of[first])
                found.append(Judgment(group=group, verdict=verdict, first=first, second=second, order=order))
    return found


def decided(among: Iterable[Judgment]) -> list[Judgment]:
    """Returns the judgments that are no ties."""
    return [judgment for judgment in among if judgment.order]


def texts_known(judgment: Judgment) -> bool:
    """Says whether neither text of a judgment is withheld."""
    responses = judgment.group.responses
    return responses[judgment.first].content is not None and responses[judgment.second].content is not None


def identities(group: Group) -> tuple[str, ...]:
    """Returns a key for each response: equal for equal content in the same context, one of its own for each withheld one."""
    return tuple(
        f"withheld {index} of {group.id}" if response.content is None else f"{response.context}: {_key(response.content)}"
        for index, response in enumerate(group.responses)
    )


def asked(group: Group) -> str | None:
    """Returns a key that is equal for groups with equal prompts, tools and images; None for a group without a prompt."""
    if not group.contexts:
        return None
    if all(isinstance(prompt.content, str) and not prompt.tools and not prompt.images for prompt in group.contexts.values()):
        return "\0".join(f"{name}: {prompt.content}" for name, prompt in sorted(group.contexts.items()))
    return digest({name: [prompt.content, prompt.tools, prompt.images] for name, prompt in group.contexts.items()})


def _key(content: Content) -> str:
    """Returns text as it stands, which is quick, and a digest of turns, marked as one."""
    return content if isinstance(content, str) else "\0" + digest(content)


def kind(annotator: str | None) -> Kind:
    """Returns what an annotator is, by name: a model that judges, a label held to be true (or computed), a person otherwise."""
    name = annotator or ""
    if name.startswith(JUDGE):
        return "judges"
    return "gold" if name == PROGRAM or name.startswith(GOLD) else "people"
