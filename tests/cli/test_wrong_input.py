"""Whatever is wrong with the input, there is one line that says what and where, exit code 2, and nothing is left behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from string import Template

import pytest

from attune.config.recipe import ModelConfig
from attune.core.errors import ConfigError
from attune.recipes.assemble import load_model
from attune.worlds.language import Built
from tests.cli.conftest import Attune
from tests.cli.wrong import CASES

RECORD = '{"prompt": "a", "chosen": "b", "rejected": "c", "subset": "hep-go"}\n'

FILES = {
    "broken_yaml": ("broken.yaml", "model: [1,\n  path: }"),
    "list_yaml": ("list.yaml", "- 1"),
    "unknown_yaml": ("unknown.yaml", "model: {path: x}\nobjectivess: []\n"),
    "trl_yaml": ("trl.yaml", "model_name_or_path: x\ndataset_name: y\nbeta: 0.1\n"),
    "empty": ("empty.jsonl", ""),
    "not_json": ("not_json.jsonl", "{oops\n"),
    "unknown": ("unknown.jsonl", '{"colour": 1}\n'),
    "long": ("long.jsonl", json.dumps({"prompt": "word " * 3000})),
    "jinja": ("broken.jinja", "{% for %}"),
    "text": ("notes.txt", "x"),
    "utf16": ("utf16.jsonl", '{"prompt": "a"}\n'.encode("utf-16").decode("latin-1")),
    "table": ("table.jsonl", '{"model": "a", "session_id": "b", "score": 1, "output_len": 3}\n'),
    "bench": ("bench.jsonl", RECORD),
    "no_subset": ("no_subset.jsonl", RECORD + '{"prompt": "a", "chosen": "b", "rejected": "c"}\n'),
    "no_text": ("no_text.jsonl", RECORD + '{"prompt": "a", "chosen": "b", "rejected": 7, "subset": "hep-go"}\n'),
}


@pytest.fixture(scope="module")
def places(world: Built, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Every `$name` of the cases: sound files and models, and broken ones."""
    folder = tmp_path_factory.mktemp("wrong")
    found = {name: folder / file for name, (file, _) in FILES.items()}
    for name, (_, text) in FILES.items():
        found[name].write_text(text, "latin-1")
    told = {"attune": 1, "contexts": {}, "responses": [{"content": "x"}, {"content": "y"}], "verdicts": [{"tiers": [[0], [1]]}]}
    found["promptless"] = folder / "promptless.jsonl"
    found["promptless"].write_text("".join(json.dumps({**told, "id": name}) + "\n" for name in "abc"), "utf-8")
    found["bad"] = folder / "bad.jsonl"
    found["bad"].write_text("\n".join([*world.preferences.read_text("utf-8").splitlines()[:10], *["{oops"] * 3]), "utf-8")
    for name in ("pickled", "lying", "mute", "nameless", "garbled"):
        found[name] = shutil.copytree(world.model, folder / name)
    (found["pickled"] / "model.safetensors").rename(found["pickled"] / "pytorch_model.bin")
    (found["lying"] / "model.safetensors").write_bytes(b"\xff" * 64)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (found["mute"] / name).unlink()
    (found["nameless"] / "config.json").unlink()
    (found["garbled"] / "config.json").write_text("{oops", "utf-8")
    found["endless"] = endless(world.model, folder / "endless")
    for name in ("hollow", "taken"):
        found[name] = folder / name
        found[name].mkdir()
    (found["taken"] / "provenance.json").write_text('{"recipe": "0123456789abcdef"}', "utf-8")
    (found["taken"] / "sft").mkdir()
    for name in ("metrics.jsonl", "sft/metrics.jsonl"):
        (found["taken"] / name).write_text('{"update": 0, "split": "eval"}\n', "utf-8")
    found["reward"] = folder / "reward"
    load_model(ModelConfig(path=str(world.model), head="scalar"), path=str(world.model), new_head=True).save(str(found["reward"]))
    found |= {"model": world.model, "demonstrations": world.demonstrations, "preferences": world.preferences, "prompts": world.prompts}
    return {name: str(path) for name, path in found.items()}


def endless(model: Path, folder: Path) -> Path:
    """A copy of a model that knows no end: neither its tokenizer, nor its template, nor its configuration names a token for it."""
    shutil.copytree(model, folder)
    for name, key in (("tokenizer_config.json", "eos_token"), ("config.json", "eos_token_id")):
        said = json.loads((folder / name).read_text("utf-8"))
        del said[key]
        (folder / name).write_text(json.dumps(said), "utf-8")
    for name in ("chat_template.jinja", "generation_config.json"):
        (folder / name).unlink()
    return folder


@pytest.mark.parametrize("case", CASES)
def test_wrong_input_gets_one_line(case: str, attune: Attune, places: dict[str, str], tmp_path: Path) -> None:
    arguments, expected = CASES[case]
    result = attune(*(Template(argument).substitute(places, run=tmp_path / "run") for argument in arguments))
    assert result.code == 2, result
    assert result.err.startswith("attune: ")
    assert result.err.endswith("\n")
    assert result.err.count("\n") == 1, result.err
    assert result.out == ""
    for words in expected:
        assert words in result.err
    assert not list(tmp_path.glob("o.*")), "a refused command leaves no output"


def test_what_was_there_before_a_refusal_is_there_after_it(attune: Attune, places: dict[str, str], tmp_path: Path) -> None:
    kept = tmp_path / "kept.jsonl"
    kept.write_text("old\n", "utf-8")
    assert attune("data", "prepare", places["bad"], "--out", kept).code == 2
    assert attune("score", places["prompts"], "--model", places["reward"], "--out", kept).code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["kept.jsonl"]
    assert kept.read_text("utf-8") == "old\n"


def test_a_mended_command_works_in_the_same_directory(attune: Attune, places: dict[str, str]) -> None:
    """A run that was refused before its first update has not taken its directory."""
    command = ["run", "dpo", f"model.path={places['model']}", "train.updates=1", "train.groups_per_update=4", "--quiet"]
    assert attune(*command, f"data.train={places['empty']}").code == 2
    mended = attune(*command, f"data.train={places['preferences']}")
    assert (mended.code, mended.out) == (0, "runs/dpo/report.html\n")


@pytest.mark.parametrize("arguments", [("--debug", "run", "nowhere.yaml"), ("run", "nowhere.yaml", "--debug")])
def test_debug_lets_the_error_through(arguments: tuple[str, ...], attune: Attune) -> None:
    with pytest.raises(ConfigError, match="no such recipe"):
        attune(*arguments)


def test_debug_shows_a_wrong_option_too(attune: Attune) -> None:
    with pytest.raises(Exception, match="frobnicate") as caught:
        attune("--debug", "frobnicate")
    assert type(caught.value).__name__ == "UsageError"


def test_what_the_system_refuses_is_one_line(attune: Attune, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> str:
        raise OSError(28, "No space left on device", "/disk/model.safetensors")

    monkeypatch.setattr("attune.recipes.describe.overview", full)
    result = attune("methods")
    assert (result.code, result.out, result.err) == (2, "", "attune: /disk/model.safetensors: No space left on device\n")


def test_a_bug_of_attune_is_not_dressed_up_as_wrong_input(attune: Attune, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attune.recipes.describe.overview", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        attune("methods")


def test_an_interrupt_says_how_to_go_on(attune: Attune, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped() -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("attune.recipes.describe.overview", stopped)
    result = attune("methods")
    assert result.code == 130
    assert "--resume" in result.err
    assert result.err.count("\n") == 1
