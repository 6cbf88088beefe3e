"""Fault 15, files from somebody else: nothing in them runs, and each is refused in one line that names the reason, or read without harm."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest

from attune.recipes.run import run
from tests.conftest import Tally
from tests.faults import hostile
from tests.faults.forked import Ended, command, forked

WHAT = "hostile files: {}"


def judged(ended: Ended, marker: Path, words: str, what: str, tally: Tally) -> None:
    """Notes and asserts that nothing ran and that one line says why not."""
    ran = marker.exists()
    clean = ended.code == 2 and ended.said.startswith("attune: ") and ended.said.count("\n") == 1 and words in ended.said
    tally(15, WHAT.format(what), 1, ran or not clean)
    assert not ran, "the payload ran"
    assert clean, f"code {ended.code}: {ended.said}"


def some(cases: Any, short: tuple[str, ...]) -> list[Any]:
    return [pytest.param(name, marks=() if name in short else pytest.mark.slow) for name in cases]


@pytest.fixture
def dpo(places: dict[str, str], tmp_path: Path) -> list[str]:
    return ["run", "dpo", f"data.train={places['preferences']}", "train.updates=2", "train.groups_per_update=2", "--quiet", "--run-dir", str(tmp_path / "run")]


SHORT_MODELS = ("an index that names a pickle", "a template that reaches for the system", "tensors that overlap", "a template that never ends")


@pytest.mark.parametrize("case", some(hostile.REFUSED, SHORT_MODELS))
def test_a_hostile_model_is_refused(case: str, dpo: list[str], places: dict[str, str], tmp_path: Path, tally: Tally) -> None:
    spoil, words = hostile.REFUSED[case]
    model, marker = Path(shutil.copytree(places["model"], tmp_path / "model")), tmp_path / "marker"
    spoil(model, marker)
    judged(forked(command(*dpo, f"model.path={model}")), marker, words, "models", tally)


@pytest.mark.parametrize("case", some(hostile.HARMLESS, ("pickles beside sound weights",)))
def test_what_is_not_needed_is_not_opened(case: str, dpo: list[str], places: dict[str, str], tmp_path: Path, tally: Tally) -> None:
    model, marker = Path(shutil.copytree(places["model"], tmp_path / "model")), tmp_path / "marker"
    hostile.HARMLESS[case](model, marker)
    ended = forked(command(*dpo, f"model.path={model}"))
    tally(15, WHAT.format("models"), 1, marker.exists())
    assert not marker.exists()
    assert ended.code == 0, ended.said


@pytest.fixture(scope="session")
def adapter(places: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("adapted") / "run"
    loop = ["train.updates=1", "train.groups_per_update=2", "model.adapter={rank: 2}"]
    run("dpo", [f"model.path={places['model']}", f"data.train={places['preferences']}", *loop], directory=place, quiet=True)
    return place / "adapter"


@pytest.mark.parametrize("way", ["as the model", "as its adapter"])
@pytest.mark.parametrize("case", some(hostile.ADAPTERS, ()))
def test_a_hostile_adapter_is_refused(case: str, way: str, dpo: list[str], places: dict[str, str], adapter: Path, tmp_path: Path, tally: Tally) -> None:
    spoil, words = hostile.ADAPTERS[case]
    copied, marker = Path(shutil.copytree(adapter, tmp_path / "adapter")), tmp_path / "marker"
    spoil(copied, marker)
    apart = way == "as its adapter" and "above" not in case  # where the recipe names the model below it, what the adapter says of it is not read
    given = [f"model.path={places['model']}", f"model.adapter.path={copied}"] if apart else [f"model.path={copied}"]
    judged(forked(command(*dpo, *given)), marker, words, "adapters", tally)


TAGS = {
    "python/object/apply": "!!python/object/apply:os.system ['touch MARKER']",
    "python/object/new": "!!python/object/new:os.system ['touch MARKER']",
    "python/name": "!!python/name:os.system ''",
    "python/module": "!!python/module:antigravity ''",
    "python/object": "!!python/object:attune.core.record.Group {}",
    "a tag of its own": "!run 'touch MARKER'",
    "binary": "!!binary aGVsbG8=",
    "a set": "!!set {a, b}",
    "a million times itself": "[&a [x,x,x,x,x,x,x,x,x], &b [*a,*a,*a,*a,*a,*a,*a,*a,*a], &c [*b,*b,*b,*b,*b,*b,*b,*b,*b], &d [*c,*c,*c,*c,*c,*c,*c,*c,*c],"
    " &e [*d,*d,*d,*d,*d,*d,*d,*d,*d], &f [*e,*e,*e,*e,*e,*e,*e,*e,*e], &g [*f,*f,*f,*f,*f,*f,*f,*f,*f], &h [*g,*g,*g,*g,*g,*g,*g,*g,*g]]",
    "inside itself": "&a [*a]",
    "five thousand deep": "[" * 5000 + "]" * 5000,
}
WAYS = ("a recipe", "an override", "another library's configuration")


@pytest.mark.parametrize("way", some(WAYS, ("a recipe",)))
@pytest.mark.parametrize("case", some(TAGS, ("python/object/apply", "a million times itself")))
def test_yaml_builds_nothing(case: str, way: str, dpo: list[str], tmp_path: Path, tally: Tally) -> None:
    marker, text = tmp_path / "marker", TAGS[case].replace("MARKER", str(tmp_path / "marker"))
    file = tmp_path / "hostile.yaml"
    if way == "an override":
        arguments = [*dpo, f"model.chat={text}"]
    elif way == "a recipe":
        file.write_text(f"model: {{path: {text}}}\n", "utf-8")
        arguments = ["run", str(file)]
    else:
        file.write_text(f"model_name_or_path: x\nbeta: 0.1\nloss_type: {text}\n", "utf-8")
        arguments = ["import", str(file), "--method", "dpo"]
    judged(forked(command(*arguments)), marker, "", "YAML", tally)


def test_a_pickle_in_the_schema_of_a_table_is_not_opened(dpo: list[str], places: dict[str, str], tmp_path: Path, tally: Tally) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    marker, path = tmp_path / "marker", tmp_path / "data.parquet"
    said = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": pickle.dumps(hostile.Payload(marker))}
    fields = [pa.field("prompt", pa.string(), metadata=said), pa.field("chosen", pa.string()), pa.field("rejected", pa.string())]
    pq.write_table(pa.table([[f"q{n}" for n in range(9)], ["yes"] * 9, ["no"] * 9], schema=pa.schema(fields)), path)
    command_line = [text if not text.startswith("data.train=") else f"data.train={path}" for text in dpo]
    ended = forked(command(*command_line, f"model.path={places['model']}"))
    tally(15, WHAT.format("tables"), 1, marker.exists())
    assert not marker.exists()
    assert ended.code == 0, ended.said


def said_in(name: str, **changes: Any) -> Any:
    """Changes fields of a checkpoint's state.json; `...` takes one away."""

    def spoil(checkpoint: Path, marker: Path) -> None:
        said = json.loads((checkpoint / name).read_text("utf-8"))
        said = {key: value for key, value in {**said, **changes}.items() if value is not ...}
        (checkpoint / name).write_text(json.dumps(said), "utf-8")

    return spoil


def table(change: Any, name: str = "optimizer") -> Any:
    """Changes the tensors of a table, its size told truly in state.json."""

    def spoil(checkpoint: Path, marker: Path) -> None:
        from safetensors.torch import load_file, save_file

        path = checkpoint / f"{name}.safetensors"
        if change in (hostile.pickled, hostile.archived):
            change(path, marker)
        elif isinstance(change, bytes):
            path.write_bytes(change)
        else:
            save_file({key: change(key, value).contiguous() for key, value in load_file(path).items()}, path)
        said = json.loads((checkpoint / "state.json").read_text("utf-8"))
        said["files"][path.name] = path.stat().st_size
        (checkpoint / "state.json").write_text(json.dumps(said), "utf-8")

    return spoil


def outside(checkpoint: Path, marker: Path) -> None:
    """Has the weights lie in a file outside of the checkpoint, which is there."""
    said = json.loads((checkpoint / "state.json").read_text("utf-8"))
    elsewhere = checkpoint.parent.parent.parent / "elsewhere.safetensors"
    shutil.copy(checkpoint / "weights.safetensors", elsewhere)
    path = f"../../../{elsewhere.name}"
    said["files"][path] = elsewhere.stat().st_size
    said["tables"]["weights"] = {name: [[path, *place[1:]] for place in parts] for name, parts in said["tables"]["weights"].items()}
    (checkpoint / "state.json").write_text(json.dumps(said), "utf-8")


def link(checkpoint: Path, marker: Path) -> None:
    """Has a checkpoint that is about to be pruned be a link to somebody's folder."""
    kept = checkpoint.parent.parent.parent / "kept"
    shutil.copytree(checkpoint, kept)
    older = checkpoint.parent / "update-000000"
    older.symlink_to(kept, target_is_directory=True)


NOT_OURS = "state.json was not written by a run"
CHECKPOINTS: dict[str, tuple[Any, str]] = {
    "weights that lie outside": (outside, NOT_OURS),
    "no fingerprint": (said_in("state.json", fingerprint=...), NOT_OURS),
    "another recipe's fingerprint": (said_in("state.json", fingerprint="0" * 16), "another recipe"),
    "an update that is text": (said_in("state.json", update="../../x"), NOT_OURS),
    "an update below zero": (said_in("state.json", update=-1), NOT_OURS),
    "an update that is not its own": (said_in("state.json", update=10**9), NOT_OURS),
    "a best update that is a path": (said_in("state.json", best_update="../../x"), NOT_OURS),
    "no tables": (said_in("state.json", tables=None), NOT_OURS),
    "tables that are a list": (said_in("state.json", tables=[1]), NOT_OURS),
    "a table without parts": (said_in("state.json", tables={"weights": {"a": []}}), "does not fit"),
    "pickled weights": (table(hostile.pickled, "weights"), "cannot be read"),
    "an archive for moments": (table(hostile.archived), "cannot be read"),
    "weights with a lying header": (table(hostile.HEADERS["tensors that overlap"], "weights"), "cannot be read"),
    "moments that are not finite": (table(lambda key, value: value * float("nan") if value.is_floating_point() else value), "not finite"),
    "moments of another shape": (table(lambda key, value: value.flatten()[:1] if value.numel() > 1 else value), "does not fit"),
    "weights of another shape": (table(lambda key, value: value.flatten(), "weights"), "does not fit"),
    "a generator of another kind": (table(lambda key, value: value.float(), "states"), "does not fit"),
}
RESUMED = {"a link to somebody's folder": link, "a checkpoint that is no JSON": lambda checkpoint, marker: (checkpoint / "state.json").write_text("[") and None}


@pytest.fixture(scope="session")
def saved(places: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A run that was cut after its third update, and the command that goes on with it."""
    place = tmp_path_factory.mktemp("saved") / "run"
    data = ["dpo", f"model.path={places['model']}", f"data.train={places['preferences']}", "model.adapter={rank: 2}"]
    arguments = [*data, "train.updates=4", "train.groups_per_update=2", "train.save_every=1", "train.keep_last=2"]
    run(arguments[0], arguments[1:], directory=place, quiet=True)
    for made in ("model", "checkpoints/update-000004"):
        shutil.rmtree(place / made)
    (place / "outcome.json").unlink()
    provenance = json.loads((place / "provenance.json").read_text("utf-8"))
    del provenance["ended"]
    (place / "provenance.json").write_text(json.dumps(provenance), "utf-8")
    return place, ["run", *arguments, "--quiet", "--resume", "--run-dir"]


@pytest.mark.parametrize("case", some(CHECKPOINTS, ("weights that lie outside", "pickled weights")))
def test_a_hostile_checkpoint_is_refused(case: str, saved: tuple[Path, list[str]], tmp_path: Path, tally: Tally) -> None:
    place, marker = Path(shutil.copytree(saved[0], tmp_path / "run")), tmp_path / "marker"
    spoil, words = CHECKPOINTS[case]
    spoil(place / "checkpoints" / "update-000003", marker)
    judged(forked(command(*saved[1], place)), marker, words, "checkpoints", tally)


@pytest.mark.parametrize("case", some(RESUMED, ()))
def test_what_lies_beside_a_checkpoint_is_left_alone(case: str, saved: tuple[Path, list[str]], tmp_path: Path, tally: Tally) -> None:
    place, marker = Path(shutil.copytree(saved[0], tmp_path / "run")), tmp_path / "marker"
    RESUMED[case](place / "checkpoints" / "update-000003", marker)
    ended = forked(command(*saved[1], place))
    kept = not (tmp_path / "kept").exists() or any((tmp_path / "kept").iterdir())
    tally(15, WHAT.format("checkpoints"), 1, marker.exists() or not kept)
    assert kept
    assert (ended.code, ended.said.count("\n")) in ((0, 1), (2, 1)), ended.said


RUNS = {
    "stages outside": ("stages.json", '["../elsewhere"]'),
    "stages that are no names": ("stages.json", "[7]"),
    "no JSON": ("data.json", "{oops"),
    "JSON without end": ("doctor.json", "[" * 100_000),
    "lines that are no JSON": ("metrics.jsonl", "{oops\n"),
}


@pytest.mark.parametrize("case", some(RUNS, ("stages outside",)))
def test_the_report_of_a_hostile_run_holds_nothing_from_outside(case: str, saved: tuple[Path, list[str]], tmp_path: Path, tally: Tally) -> None:
    name, text = RUNS[case]
    place, elsewhere = (Path(shutil.copytree(saved[0], tmp_path / name)) for name in ("run", "elsewhere"))
    (elsewhere / "recipe.yaml").write_text("secret: hidden-elsewhere\n", "utf-8")
    (place / name).write_text(text, "utf-8")
    ended = forked(command("report", place))
    leaked = "hidden-elsewhere" in (place / "report.html").read_text("utf-8")
    tally(15, WHAT.format("run directories"), 1, leaked or ended.code != 0)
    assert not leaked
    assert ended.code == 0, ended.said


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in ("provenance.json", "metrics.jsonl")])
def test_a_run_with_a_broken_file_is_not_gone_on_with(name: str, saved: tuple[Path, list[str]], tmp_path: Path, tally: Tally) -> None:
    place = Path(shutil.copytree(saved[0], tmp_path / "run"))
    (place / name).write_text("{oops\n", "utf-8")
    judged(forked(command(*saved[1], place)), tmp_path / "marker", "not JSON", "run directories", tally)
