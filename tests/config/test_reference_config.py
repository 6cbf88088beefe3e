"""The section `reference`: each field belongs to one source or cache, which needs it; elsewhere it would change nothing and is refused."""

from __future__ import annotations

from typing import Any

import pytest

from attune.config.load import build_recipe, dump_recipe, parse_yaml
from attune.config.recipe import ReferenceConfig, Stage
from attune.core.errors import ConfigError

STAGE: dict[str, Any] = {"name": "s", "model": {"path": "m"}, "data": {"train": "d.jsonl"}, "objectives": [{"name": "dpo"}]}

WHOLE: list[dict[str, Any]] = [
    {"source": "ema", "decay": 0.99},
    {"source": "refreshed", "alpha": 0.6, "every": 64},
    {"source": "refreshed", "alpha": 1.0, "every": 512},
    {"source": "checkpoint", "path": "folder"},
    {"cache": "disk", "folder": "kept"},
]


def made(**reference: Any) -> Stage:
    return build_recipe({**STAGE, "reference": reference}).stages[0]


@pytest.mark.parametrize("reference", WHOLE)
def test_a_whole_section_is_read_and_written(reference: dict[str, Any]) -> None:
    stage = made(**reference)
    assert {name: getattr(stage.reference, name) for name in reference} == reference
    again = parse_yaml(dump_recipe(stage.reference))
    assert ReferenceConfig(**again) == stage.reference


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ({"source": "ema"}, "source ema needs decay"),
        ({"source": "refreshed", "alpha": 0.6}, "source refreshed needs every"),
        ({"source": "refreshed", "every": 4}, "source refreshed needs alpha"),
        ({"source": "checkpoint"}, "source checkpoint needs path"),
        ({"decay": 0.9}, "decay belongs to source ema; the source is auto"),
        ({"source": "ema", "decay": 0.9, "alpha": 0.5}, "alpha belongs to source refreshed; the source is ema"),
        ({"source": "initial", "every": 3}, "every belongs to source refreshed"),
        ({"source": "adapter_off", "path": "x"}, "path belongs to source checkpoint"),
        ({"folder": "x"}, "folder belongs to cache disk"),
        ({"source": "ema", "decay": 1.0}, "less than 1"),
        ({"source": "ema", "decay": 0.0}, "greater than 0"),
        ({"source": "refreshed", "alpha": 0.0, "every": 4}, "greater than 0"),
        ({"source": "refreshed", "alpha": 0.5, "every": 0}, "greater than or equal to 1"),
    ],
)
def test_a_field_that_would_change_nothing_or_lacks_is_refused(reference: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        made(**reference)


def test_the_reference_may_be_what_an_earlier_stage_made() -> None:
    chain = [{**STAGE, "name": "a"}, {**STAGE, "name": "b", "reference": {"source": "checkpoint", "path": "stage:a"}}]
    assert build_recipe({"name": "chain", "stages": chain}).stages[1].reference.path == "stage:a"
    with pytest.raises(ConfigError, match="stage:b is not an earlier stage"):
        build_recipe({"name": "chain", "stages": [chain[0], {**chain[1], "reference": {"source": "checkpoint", "path": "stage:b"}}]})
