"""`attune score`: a reward model over a file of feedback."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from attune.config.recipe import ModelConfig
from attune.core.errors import AttuneError, FormatError, RecordError
from attune.core.record import MAIN, Group, Prompt, Response
from attune.data.read import read, read_table
from attune.data.write import write
from attune.evals.reward_accuracy import reward_accuracy
from attune.evals.reward_bench import reward_bench
from attune.policies.causal import CausalPolicy
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
        What was read and scored, and the agreement with the verdicts if there are any.

    Raises:
        FormatError: no response can be scored, or `out` cannot be written to (said before anything is scored).
        AttuneError: the model was never trained to give rewards.
    """
    reading = read(data, format=format)
    groups = list(reading)
    policy = load_model(ModelConfig(path=model, head="scalar"), path=model)
    lines = [reading.account.summary()]

    def scored() -> Iterator[Group]:
        scores, reasons = _scores(policy, groups)
        num = sum(score is not None for row in scores for score in row)
        if not num:
            raise FormatError("no response can be scored", file=data, value=reasons or "no responses")
        lines.append(f"{num} responses scored, {sum(map(len, scores)) - num} could not be read")
        lines.extend(f"  not read: {reason}" for reason in reasons)
        if any(group.verdicts for group in groups):
            lines.append(str(reward_accuracy(groups, scores)))
        yield from map(_with_scores, groups, scores)

    if out is None:
        list(scored())
    else:
        write(scored(), out)
        lines.append(str(out))
    return "\n".join(lines)


def score_bench(data: str, model: str) -> str:
    """Scores a RewardBench-style file (prompt, chosen, rejected, subset)."""
    records = list(read_table(data))
    if not records:
        raise FormatError("there is no record", file=data, allowed="at least one")
    reward = ScalarReward(load_model(ModelConfig(path=model, head="scalar"), path=model))

    def scorer(asked: Sequence[tuple[Any, Any]]) -> list[float]:
        return [scores[0] for scores in reward.score([_asked(number // 2, *pair) for number, pair in enumerate(asked)])]

    try:
        return str(reward_bench(records, scorer))
    except AttuneError as error:
        raise error.at(file=data) from None


def _asked(record: int, prompt: Any, response: Any) -> Group:
    where = f"records[{record}]"
    try:
        return Group(id=where, contexts={MAIN: Prompt(content=prompt)}, responses=(Response(content=response),))
    except RecordError as error:
        error.field = f"{where}.{error.field}"
        raise


def _scores(policy: CausalPolicy, groups: Sequence[Group]) -> tuple[list[list[float | None]], list[str]]:
    """Returns a score for every response, None where the model cannot read it, and the reasons for those."""
    refused = [policy.admit(group) for group in groups]
    cut = [_only(group, [i for i in range(len(group.responses)) if i not in skip]) for group, skip in zip(groups, refused, strict=True)]
    given = [iter(row) for row in ScalarReward(policy).score(cut)]
    scores = [
        [None if index in skip else next(said) for index in range(len(group.responses))] for group, skip, said in zip(groups, refused, given, strict=True)
    ]
    return scores, sorted({reason for skip in refused for reason in skip.values()})


def _only(group: Group, kept: list[int]) -> Group:
    """Returns the group with some of its responses and without feedback, which would name the others."""
    responses = tuple(dataclasses.replace(group.responses[index], edit=None) for index in kept)
    return dataclasses.replace(group, responses=responses, verdicts=(), ratings=())


def _with_scores(group: Group, scores: list[float | None]) -> Group:
    pairs = zip(group.responses, scores, strict=True)
    return dataclasses.replace(group, responses=tuple(r if s is None else dataclasses.replace(r, scores={**r.scores, ASPECT: s}) for r, s in pairs))
