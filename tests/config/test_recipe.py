"""Recipes: strict, with errors that name file, field, value and what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from attune.config.load import build_recipe, dump_recipe, fingerprint, load_recipe, parse_yaml
from attune.config.recipe import Recipe
from attune.core.errors import ConfigError

SHIPPED = Path(__file__).parent.parent.parent / "attune" / "recipes" / "yaml"
ONE: dict[str, Any] = {"name": "x", "model": {"path": "m"}, "data": {"train": "a.jsonl", "signal": ["vote"]}, "objectives": [{"name": "dpo"}]}
CHAIN: dict[str, Any] = {
    "name": "c",
    "optim": {"lr": 1e-4},
    "stages": [
        {"name": "first", "model": {"path": "m"}, "data": {"train": "a"}, "objectives": [{"name": "sft"}]},
        {"name": "second", "model": {"path": "stage:first"}, "data": {"train": "b"}, "objectives": [{"name": "dpo"}], "optim": {"lr": 1e-6}},
    ],
}


def test_a_dumped_recipe_reads_as_itself() -> None:
    for raw in (ONE, CHAIN):
        recipe = build_recipe(raw)
        assert build_recipe(parse_yaml(dump_recipe(recipe))) == recipe


def test_top_level_sections_are_the_defaults_of_every_stage() -> None:
    recipe = build_recipe(CHAIN)
    assert [stage.optim.lr for stage in recipe.stages] == [1e-4, 1e-6]
    assert build_recipe(CHAIN, ["second.optim.lr=3e-6", "train.epochs=2"]).stages[1].optim.lr == 3e-6
    assert [stage.train.epochs for stage in build_recipe(CHAIN, ["train.epochs=2"]).stages] == [2, 2]


def test_numbers_are_numbers() -> None:
    assert parse_yaml("a: 1e-5")["a"] == 1e-5
    assert parse_yaml("a: 1.5e+3")["a"] == 1500.0


def test_off_is_a_word_and_false_is_not() -> None:
    assert parse_yaml("[off, no, false, True]") == ["off", "no", False, True]


def test_tags_that_build_objects_are_refused() -> None:
    with pytest.raises(ConfigError):
        parse_yaml("!!python/object/apply:os.system ['true']")


@pytest.mark.parametrize(
    ("override", "field"),
    [
        ("optim.lrr=1", "optim.lrr"),
        ("optim.lr=-1", "optim.lr"),
        ("optim.lr=fast", "optim.lr"),
        ("train.updates=1.5", "train.updates"),
        ("train.groups_per_update=0", "train.groups_per_update"),
        ("model.head=both", "model.head"),
        ("data.max_bad=1", "data.max_bad"),
        ("nothing.lr=1", "nothing.lr"),
        ("objectives.3.name=x", "objectives.3.name"),
        ("model.trust_remote_code=yes please", "model.trust_remote_code"),
        ("optim.betas=[0.9]", "optim.betas.1"),
        ("data.signal.0.params.ties=keep", "data.signal.0.params.ties"),
    ],
)
def test_errors_name_the_field(override: str, field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_recipe(ONE, [override])
    assert caught.value.field == field


@pytest.mark.parametrize("change", [{"model": {"path": "m", "adapter": {"dropout": 0.1}}}, {"objectives": []}, {"model": {"path": "stage:x"}}, {"model": {}}])
def test_combinations_that_mean_nothing_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        build_recipe({**ONE, **change})


def test_the_file_and_line_of_broken_yaml_are_named(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("name: x\nmodel: {path: [\n")
    with pytest.raises(ConfigError) as caught:
        load_recipe(path)
    assert caught.value.file == str(path)
    assert caught.value.line == 3


def test_every_field_changes_the_fingerprint() -> None:
    """Walks all scalar fields of the schema: each other value gives another fingerprint, or is refused."""
    recipe = build_recipe(ONE)
    base, seen = fingerprint(recipe), 0
    other: dict[type, list[Any]] = {bool: [True, False], int: [1, 7], float: [0.3, 0.7], str: ["initial", "scalar", "zz"], type(None): [3, 0.5, "x"]}
    for section, fields in recipe.stages[0].model_dump(mode="json").items():
        if not isinstance(fields, dict):
            continue
        for name, value in fields.items():
            for candidate in other.get(type(value), []):
                if candidate == value:
                    continue
                try:
                    changed = build_recipe({**ONE, section: {**ONE.get(section, {}), name: candidate}})
                except ConfigError:
                    continue
                assert fingerprint(changed) != base, f"{section}.{name}"
                seen += 1
    assert seen >= 30


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipes_are_complete_but_for_model_and_data(path: Path) -> None:
    overrides = ["model.path=m", "data.train=a.jsonl"]
    stages = parse_yaml(path.read_text("utf-8")).get("stages")
    if stages:
        overrides = [*(f"{stage['name']}.data.train=a.jsonl" for stage in stages if "objectives" in stage), "sft.model.path=m", "reward.model.path=stage:sft"]
        overrides += ["compare.evaluate.prompts=a.jsonl"] if any(stage["name"] == "compare" for stage in stages) else []
    recipe = load_recipe(path, overrides)
    assert isinstance(recipe, Recipe)
    from attune.recipes.assemble import check

    check(recipe)
