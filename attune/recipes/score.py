"""`attune score`: a reward model over a file of feedback."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from attune.config.recipe import ModelConfig
from attune.core.errors import FormatError
from attune.core.record import Group, Prompt, Response
from attune.data.read import read, read_table
from attune.data.write import write
from attune.evals.reward_accuracy import reward_accuracy
from attune.evals.reward_bench import reward_bench
from attune.recipes.assemble import load_model
from attune.rewards.scalar import ScalarReward

ASPECT = "reward"
"""Under this name a score is written into Response.scores."""


def score_file(data: str, model: str, *, out: Path | None = None, format: str | None = None) -> str:
    """Scores every response that the model can read.

    Args:
        data: a file of feedback.
        model: folder or hub id of a reward model.
        out: where the feedback goes with the scores added; None: nowhere.
        format: of the data; None: recognised.

    Returns:
        What was scored, and the agreement with the verdicts if there are any.
    """
    policy = load_model(ModelConfig(path=model, head="scalar"), path=model)
    groups = list(read(data, format=format))
    refused = [policy.admit(group) for group in groups]
    cut = [_only(group, [i for i in range(len(group.responses)) if i not in skip]) for group, skip in zip(groups, refused, strict=True)]
    given = ScalarReward(policy).score(cut)
    scores: list[list[float | None]] = []
    for group, skip, row in zip(groups, refused, given, strict=True):
        said = iter(row)
        scores.append([None if index in skip else next(said) for index in range(len(group.responses))])
    lines = [f"{sum(len(row) for row in given)} responses scored, {sum(map(len, refused))} could not be read"]
    reasons = sorted({reason for skip in refused for reason in skip.values()})
    lines += [f"  not read: {reason}" for reason in reasons]
    if any(group.verdicts for group in groups):
        lines.append(str(reward_accuracy(groups, scores)))
    if out is not None:
        write([_scored(group, row) for group, row in zip(groups, scores, strict=True)], out)
        lines.append(str(out))
    return "\n".join(lines)


def score_bench(data: str, model: str) -> str:
    """Scores a RewardBench-style file (prompt, chosen, rejected, subset)."""
    policy = load_model(ModelConfig(path=model, head="scalar"), path=model)
    reward = ScalarReward(policy)

    def scorer(asked: Sequence[tuple[str, str]]) -> list[float]:
        groups = [
            Group(id=str(n), contexts={"main": Prompt(content=prompt)}, responses=(Response(content=response),)) for n, (prompt, response) in enumerate(asked)
        ]
        for group in groups:
            if refused := policy.admit(group):
                raise FormatError(f"a response cannot be scored: {refused[0]}", file=data, value=group.prompt.content)
        return [scores[0] for scores in reward.score(groups)]

    return str(reward_bench(list(read_table(data)), scorer))


def _only(group: Group, kept: list[int]) -> Group:
    """Returns the group with some of its responses and without feedback, which would name the others."""
    responses = tuple(dataclasses.replace(group.responses[index], edit=None) for index in kept)
    return dataclasses.replace(group, responses=responses, verdicts=(), ratings=())


def _scored(group: Group, scores: list[float | None]) -> Group:
    pairs = zip(group.responses, scores, strict=True)
    return dataclasses.replace(group, responses=tuple(r if s is None else dataclasses.replace(r, scores={**r.scores, ASPECT: s}) for r, s in pairs))
