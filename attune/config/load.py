"""Reading a recipe: YAML, overrides from the command line, defaults of a chain, and errors that name the field."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from attune.config.recipe import SECTIONS, Recipe, Section
from attune.core.errors import ConfigError

_LARGEST = 100_000  # values in one text


class _Loader(yaml.SafeLoader):
    """Safe YAML (no tags that build objects) in which, as in YAML 1.2, 1e-5 is a number, and off, on, yes and no are words.

    Aliases are written out, so a text whose aliases name aliases could hold a billion values; that many are refused before they are made.
    """

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._sizes: dict[yaml.Node, int] = {}  # values in a node, aliases written out

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        if node is None:
            return None
        if alias and node not in self._sizes:
            raise yaml.MarkedYAMLError(problem="a value that holds itself", problem_mark=node.start_mark)
        if not alias:
            inner = [] if isinstance(node, yaml.ScalarNode) else [part for item in node.value for part in (item if isinstance(item, tuple) else (item,))]
            self._sizes[node] = 1 + sum(self._sizes[part] for part in inner)
        if self._sizes[node] > _LARGEST:
            raise yaml.MarkedYAMLError(problem=f"more than {_LARGEST:,} values, aliases written out", problem_mark=node.start_mark)
        return node


_Loader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789"))


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe file and applies `section.key=value` overrides.

    Args:
        path: a YAML file.
        overrides: as on the command line; `optim.lr=1e-6` holds for every stage, `dpo.optim.lr=1e-6` for the stage `dpo`, lists take an
            index: `objectives.0.params.beta=0.2`.

    Raises:
        ConfigError: names the file, the field, the value and what is allowed.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError("no such recipe file", file=str(path))
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError("the recipe is not UTF-8", file=str(path), line=error.object[: error.start].count(b"\n") + 1) from None
    raw = parse_yaml(text, file=str(path))
    if not isinstance(raw, dict):
        raise ConfigError("a recipe is a mapping", file=str(path), value=raw)
    raw.setdefault("name", path.stem)
    return build_recipe(raw, overrides, file=str(path))


def build_recipe(raw: Mapping[str, Any], overrides: Sequence[str] = (), *, file: str | None = None) -> Recipe:
    """Checks a recipe given as a mapping; see load_recipe."""
    top = json.loads(_dumps(raw, file))
    stages = top.pop("stages", None)
    if stages is None:
        stage = {"name": "run", **_overridden(top, overrides, ())}
        return _validated({"name": stage["name"], "stages": [stage]}, overrides, single=True, file=file)
    if not isinstance(stages, list) or not all(isinstance(stage, dict) and isinstance(stage.get("name"), str) for stage in stages):
        raise ConfigError("stages are a list of mappings with a name", file=file, field="stages", value=stages)
    names = tuple(stage["name"] for stage in stages)
    if clash := set(names) & set(SECTIONS):
        raise ConfigError("a stage is called like a section", file=file, field="stages", value=min(clash), allowed=f"a name other than {', '.join(SECTIONS)}")
    defaults = _overridden(top, [text for text in overrides if text.split(".")[0] not in names], names)
    name = defaults.pop("name", "run")
    merged = []
    for stage in stages:
        own = [text.partition(".")[2] for text in overrides if text.split(".")[0] == stage["name"]]
        below = defaults if "objectives" in stage or "data" in stage else {key: value for key, value in defaults.items() if key != "data"}
        merged.append(_overridden(_merge(below, stage), own, names))
    return _validated({"name": name, "stages": merged}, overrides, single=False, file=file)


def dump_recipe(recipe: Section) -> str:
    """Returns a recipe, or a part of one, as YAML with every field that was set or has a default; reading it gives the same recipe."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)


def fingerprint(recipe: Recipe) -> str:
    """Returns a hash of everything in the recipe; equal recipes, and no others, have equal ones."""
    return hashlib.sha256(json.dumps(recipe.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()[:16]


def parse_yaml(text: str, *, file: str | None = None, field: str | None = None) -> Any:
    """Returns what a YAML text holds; tags that would build objects are refused. File and field are for the message."""
    try:
        return yaml.load(text, Loader=_Loader)
    except RecursionError:
        raise ConfigError("not YAML: nested too deeply", file=file, field=field, value=text if field else ...) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        line = mark.line + 1 if mark and field is None else None
        raise ConfigError(f"not YAML: {problem}", file=file, line=line, field=field, value=text if field else ...) from None


def _dumps(raw: Any, file: str | None, field: str | None = None) -> str:
    try:
        return json.dumps(raw)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"a recipe holds text, numbers, lists and mappings only: {error}", file=file, field=field) from None


def _overridden(tree: dict[str, Any], overrides: Sequence[str], stages: Sequence[str]) -> dict[str, Any]:
    tree = json.loads(json.dumps(tree))
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError("an override has the form section.key=value", value=text)
        parts = key.split(".")
        if parts[0] not in SECTIONS:
            raise ConfigError("no such section", field=key, value=value, allowed=", ".join((*SECTIONS, *stages)))
        read = parse_yaml(value, field=key)
        _dumps(read, None, field=key)
        _set(tree, parts, read, key)
    return tree


def _set(tree: Any, parts: Sequence[str], value: Any, key: str) -> None:
    for part in parts[:-1]:
        if isinstance(tree, list):
            tree = tree[_index(tree, part, key)]
        else:
            if not isinstance(tree.get(part), (dict, list)):
                tree[part] = {}
            tree = tree[part]
        if not isinstance(tree, (dict, list)):
            raise ConfigError("the recipe gives this in its short form", field=key, value=tree, mend="set the whole of it, or write it out in the recipe")
    if isinstance(tree, list):
        tree[_index(tree, parts[-1], key)] = value
    else:
        tree[parts[-1]] = value


def _index(items: list[Any], part: str, key: str) -> int:
    if not part.isdigit() or int(part) >= len(items):
        raise ConfigError("an index into a list", field=key, value=part, allowed=f"0 to {len(items) - 1}")
    return int(part)


def _merge(below: Any, above: Any) -> Any:
    """Returns `above` with what it leaves out taken from `below`; lists are replaced, not joined."""
    if isinstance(below, dict) and isinstance(above, dict):
        return {**below, **{key: _merge(below.get(key), value) for key, value in above.items()}}
    return above


def _validated(raw: dict[str, Any], overrides: Sequence[str], *, single: bool, file: str | None) -> Recipe:
    try:
        return Recipe.model_validate_json(json.dumps(raw))
    except ValidationError as error:
        first = error.errors()[0]
        loc = [str(part) for part in first["loc"]]
        own = loc[2:] if loc[:1] == ["stages"] else loc
        stage = [] if single or own == loc else [raw["stages"][int(loc[1])]["name"]]
        value = first["input"] if first["type"] not in {"missing", "value_error"} else ...
        said = {"extra_forbidden": "no such field", "missing": "a required field is missing"}.get(first["type"], first["msg"].removeprefix("Value error, "))
        allowed = ", ".join(_fields(loc)) if first["type"] == "extra_forbidden" else None
        given = any(".".join(path).startswith(text.partition("=")[0]) for text in overrides for path in (own, [*stage, *own]))
        raise ConfigError(said, file=None if given else file, field=".".join([*stage, *own]) or None, value=value, allowed=allowed) from None


def _fields(loc: Sequence[str]) -> list[str]:
    """Returns the fields of the section in which the last part of a place was looked for."""
    section: type[BaseModel] = Recipe
    for part in loc[:-1]:
        if part in section.model_fields:
            section = next(_sections(section.model_fields[part].annotation), section)
    return list(section.model_fields)


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yields the sections that a type is made of (a section, an optional one, a list of them)."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _sections(part)
