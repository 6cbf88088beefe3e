"""The layout of a run on disk. Everything that looks at a run (resume, explain, report) reads it through here.

RUN/
  recipe.yaml        the resolved recipe
  provenance.json    versions, commit, command, seeds, data hashes, start and end
  stages.json        a chain only: the names of its stages, in order; each stage is a directory of this same layout
  data.json          what was read, kept, cut and dropped, with record ids
  doctor.json        the doctor's findings on the training data
  metrics.jsonl      a line an update or an evaluation: {"update", "split", ...numbers}
  evals.json         results of evaluations, by name
  samples.jsonl      responses side by side
  checkpoints/       update-000100/ ...
  model/             the model at the end (best or last), to be loaded again
  report.html
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attune.core.errors import RunError


class RunDirectory:
    """Reads and writes the files of one run.

    Args:
        path: the directory; created by the first write.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

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
        return [RunDirectory(self.path / name) for name in names] if names else [self]

    def write_json(self, name: str, value: Any) -> None:
        """Writes a JSON file, whole or not at all."""
        write_atomic(self.path / name, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=True) + "\n")

    def read_json(self, name: str) -> Any:
        """Returns what a JSON file holds, or None where there is none."""
        path = self.path / name
        return json.loads(path.read_text("utf-8")) if path.is_file() else None

    def append(self, name: str, lines: Iterable[Mapping[str, Any]]) -> None:
        """Appends JSON lines."""
        path = self.path / name
        with _writing(path), open(path, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)

    def lines(self, name: str) -> Iterator[dict[str, Any]]:
        """Yields the JSON lines of a file; a last line that was cut by a crash is left out."""
        path = self.path / name
        if not path.is_file():
            return
        with open(path, "rb") as file:  # a cut may fall inside a character
            for line in file:
                if line.endswith(b"\n"):
                    yield json.loads(line)

    def truncate_metrics(self, update: int) -> None:
        """Drops metrics after `update`: a resumed run writes them again, with the same numbers."""
        kept = [line for line in self.lines("metrics.jsonl") if line["update"] <= update]
        write_atomic(self.path / "metrics.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))


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
def _writing(path: Path) -> Iterator[None]:
    """Makes the folder of a file that is to be written; what the system refuses becomes a RunError that names the file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise RunError(f"cannot write: {error.strerror}", file=str(path)) from error
