"""The layout of a run on disk. Everything that looks at a run (resume, explain, report) reads it through here.

RUN/
  recipe.yaml        the resolved recipe
  provenance.json    versions, commit, command, seeds, data hashes, start and end
  stages.json        a chain only: the names of its stages, in order; each stage is a directory of this same layout
  intake.jsonl       streamed data only: what became of the records of each update
  data.json          what was read, kept, cut and dropped, with record ids
  doctor.json        the doctor's findings on the training data
  passes.json        the budget of passes that was chosen for this machine, see recipes/passes.py
  metrics.jsonl      a line an update or an evaluation: {"update", "split", ...numbers}
  events.jsonl       where memory ran out: a line for each pass that became smaller and each row that was left out
  evals.json         results of evaluations, by name
  samples.jsonl      responses side by side
  outcome.json       updates done, whether it stopped early, metrics before, after and of the last update; written when model/ is whole
  cache/             indices of streamed data, and log-probabilities that reference.cache=disk keeps
  checkpoints/       update-000100/ ... and best-000060/ with early stopping
  adapter/           of an adapter: it alone, at the end
  model/             the model at the end (best or last), to be loaded again; an adapter is merged into it
  report.html
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attune.core.errors import RunError

_REFUSED = re.compile(r"\(os error \d+\)")
"""How Rust writes an error of the system."""


class RunDirectory:
    """Reads and writes the files of one run.

    Args:
        path: the directory; created by the first write.
        writes: whether anything is written; of several processes in one run, only the first one's is.
    """

    def __init__(self, path: str | Path, *, writes: bool = True) -> None:
        self.path, self.writes = Path(path), writes

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @classmethod
    def existing(cls, path: str | Path) -> RunDirectory:
        """Returns the run at `path`; raises RunError where there is none."""
        run = cls(path)
        if not (run / "provenance.json").is_file():
            raise RunError("no run in this directory", file=str(path), allowed="a directory that holds provenance.json")
        return run

    @property
    def stages(self) -> list[RunDirectory]:
        """The stages of a chain in order; a single run is its own only stage."""
        names = self.read_json("stages.json")
        for name in names or ():
            if not isinstance(name, str) or Path(name).name != name:
                raise RunError("a stage is a folder of the run", file=str(self.path / "stages.json"), value=name)
        return [RunDirectory(self.path / name) for name in names] if names else [self]

    def write_json(self, name: str, value: Any) -> None:
        """Writes a JSON file, whole or not at all."""
        self.write_text(name, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=True) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Writes a text file, whole or not at all."""
        if self.writes:
            write_atomic(self.path / name, text)

    def read_json(self, name: str) -> Any:
        """Returns what a JSON file holds, or None where there is none; raises RunError where it holds no JSON."""
        path = self.path / name
        try:
            return json.loads(path.read_text("utf-8")) if path.is_file() else None
        except (ValueError, RecursionError) as error:
            raise RunError(f"the file is not JSON: {error}", file=str(path)) from error

    def append(self, name: str, lines: Iterable[Mapping[str, Any]]) -> None:
        """Appends JSON lines."""
        if not self.writes:
            return
        path = self.path / name
        with _writing(path), open(path, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)

    def lines(self, name: str) -> Iterator[dict[str, Any]]:
        """Yields the JSON lines of a file; a last line that was cut by a crash is left out."""
        path = self.path / name
        if not path.is_file():
            return
        with open(path, "rb") as file:  # a cut may fall inside a character
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    return
                try:
                    yield json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise RunError(f"the line is not JSON: {error}", file=str(path), line=number) from error

    def truncate(self, name: str, update: int) -> None:
        """Drops the JSON lines of updates after `update`: a resumed run writes them again, with the same numbers."""
        kept = [line for line in self.lines(name) if line["update"] <= update]
        self.write_text(name, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))


def write_atomic(path: Path, text: str) -> None:
    """Writes a text file so that a reader sees the old one or the new one, never a part, also after a crash."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with _writing(path):
        try:
            with open(aside, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)


@contextmanager
def filling(folder: Path) -> Iterator[Path]:
    """Yields an empty folder aside; when all of its files are written they take their places in `folder`, and where one cannot be written none does."""
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    with _writing(folder):
        try:
            aside.mkdir()
            yield aside
            for path in sorted(path for path in aside.rglob("*") if path.is_file()):
                place = folder / path.relative_to(aside)
                place.parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, place)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Takes away what a crash left half-written below a folder: files and folders put aside under a hidden name."""
    for path in [path for path in folder.rglob(".*.tmp") if path.exists()]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Makes the folder of a file that is to be written; what the system refuses becomes a RunError that names the file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise RunError(f"cannot write: {error.strerror or error}", file=str(path)) from error
    except Exception as error:  # libraries written in Rust have no type of their own for it; tokenizers raises a bare Exception
        if not _REFUSED.search(str(error)):
            raise
        raise RunError(f"cannot write: {error}", file=str(path)) from error


def sync(path: Path) -> None:
    """Waits until a file, or a folder's names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
