"""A world with an untrained model, built once: enough to run every recipe for a few updates."""

from __future__ import annotations

import pytest

from attune.worlds.language import Built, build


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(tmp_path_factory.mktemp("world"), size="tiny", num_demonstrations=40, num_preferences=24, num_prompts=12)


def settings(built: Built) -> list[str]:
    """The overrides that point the shipped chain at the world, with a few updates a stage."""
    return [
        f"sft.model.path={built.model}",
        f"sft.data.train={built.demonstrations}",
        f"reward.data.train={built.preferences}",
        f"dpo.data.train={built.preferences}",
        f"compare.evaluate.prompts={built.prompts}",
        "compare.evaluate.max_tokens=12",
        "train.groups_per_update=8",
        "train.updates=3",
        "train.eval_every=2",
    ]
