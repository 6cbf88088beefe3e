"""Formats are found by file name, are disjoint, and never crash on a spoilt record."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import zipfile
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

import attune
from attune.core.errors import FormatError, RecordError
from attune.core.record import Source
from attune.data import discovery
from attune.data.discovery import formats
from tests.data.samples import SAMPLES, spoilt

GENERAL = [(name, record) for name, records in SAMPLES.items() for record in records]


@pytest.mark.parametrize(("name", "record"), GENERAL, ids=[f"{name}-{number}" for number, (name, _) in enumerate(GENERAL)])
def test_a_well_formed_record_is_recognised_by_its_format_alone_and_gives_groups(name: str, record: dict[str, Any]) -> None:
    assert [one for one, format in formats().items() if format.recognises(record)] == [name]
    assert list(formats()[name].parse(record, Source(file="f", line=1)))


def test_real_records_are_recognised_by_one_format_each(shared_data: Path) -> None:
    for path in sorted(shared_data.glob("*.jsonl*")):
        with gzip.open(path, "rt") if path.suffix == ".gz" else open(path) as stream:
            records = [json.loads(line) for line in islice(stream, 60)]
        names = {tuple(name for name, format in formats().items() if format.recognises(record)) for record in records}
        assert len(names) == 1, path.name
        assert len(names.pop()) == 1, path.name


@pytest.mark.parametrize("name", list(SAMPLES))
def test_a_spoilt_record_is_a_record_error_with_a_field_and_never_a_crash(name: str) -> None:
    tried = refused = 0
    for record in SAMPLES[name]:
        for wrong in spoilt(record):
            tried += 1
            try:
                formats()[name].recognises(wrong)
                list(formats()[name].parse(wrong, Source(file="f", line=1)))
            except RecordError as error:
                refused += error.field is not None
            else:
                continue
    assert tried >= refused > tried / 4


def test_every_format_says_what_it_is() -> None:
    for name, format in formats().items():
        assert format.name == name
        assert format.title
        assert "\n" not in format.title
        assert format.fields
    assert set(SAMPLES) <= set(formats())


def test_several_fitting_formats_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    one = formats()["trl_text"]
    monkeypatch.setattr(discovery, "formats", lambda: {"trl_text": one, "twin": replace(one, name="twin")})
    with pytest.raises(FormatError, match=r"several formats fit; .*allowed: trl_text, twin"):
        discovery.detect([{"text": "x"}], file="f")


def test_formats_are_found_inside_a_zip(tmp_path: Path) -> None:
    package = Path(attune.__path__[0])
    with zipfile.ZipFile(tmp_path / "attune.zip", "w") as archive:
        for path in package.rglob("*.py"):
            archive.write(path, Path("attune") / path.relative_to(package))
    code = "from attune.data import discovery; print(discovery.__file__, *discovery.formats())"
    made = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(tmp_path / "attune.zip")}, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    where, *names = made.stdout.split()
    assert "attune.zip" in where
    assert names == list(formats())
