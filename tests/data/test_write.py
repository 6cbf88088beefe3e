"""Writing: all or nothing, the same bytes for the same groups, and foreign formats read back."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from attune.core.errors import FormatError, RecordError
from attune.core.record import Group, Prompt, Rating, Response, Source, Verdict
from attune.data.discovery import formats
from attune.data.read import read
from attune.data.write import write

ASKED = {"main": Prompt(content=({"role": "user", "content": "Why?"},), tools=({"name": "t"},))}
PAIR = Group(
    id="g",
    contexts=ASKED,
    responses=(Response(content="a"), Response(content="b"), Response(content=({"role": "assistant", "content": "c", "name": "n"},))),
    verdicts=(Verdict(tiers=((2,), (0,), (1,))),),
    source=Source(file="origin.jsonl", line=3),
)
RATED = Group(
    id="r", contexts={"main": Prompt(content="Why?")}, responses=(Response(content=" a"),), ratings=(Rating(response=0, value=0.0, scale=(0.0, 1.0)),)
)


@pytest.mark.parametrize("format", ["trl_preference", "openai_preference"])
def test_a_ranking_becomes_its_pairs_and_reads_back(tmp_path: Path, format: str) -> None:
    assert write([PAIR], tmp_path / "a.jsonl", format=format) == 3
    reading = read(tmp_path / "a.jsonl")
    (group,) = reading
    assert reading.format is formats()[format]
    assert group.contexts == ASKED
    texts = [response.content for response in group.responses]
    said = [tuple(texts[index] for (index,) in verdict.tiers) for verdict in group.verdicts]
    c = PAIR.responses[2].content
    assert said == [(c, "a"), (c, "b"), ("a", "b")]


def test_thumbs_read_back(tmp_path: Path) -> None:
    write([RATED], tmp_path / "a.jsonl", format="trl_unpaired")
    assert json.loads((tmp_path / "a.jsonl").read_text()) == {"id": "r", "prompt": "Why?", "completion": " a", "label": False}
    (group,) = read(tmp_path / "a.jsonl")
    assert (group.contexts, group.responses, group.ratings) == (RATED.contexts, RATED.responses, RATED.ratings)


@pytest.mark.parametrize(
    ("format", "group", "field"),
    [
        ("trl_preference", RATED, "verdicts"),
        ("trl_preference", Group(id="g", responses=PAIR.responses, verdicts=PAIR.verdicts), "contexts"),
        ("trl_preference", Group(id="g", contexts=ASKED, responses=PAIR.responses, verdicts=(Verdict(tiers=((0, 1),)),)), "verdicts[0].tiers"),
        ("trl_preference", Group(id="g", contexts=RATED.contexts, responses=PAIR.responses, verdicts=PAIR.verdicts), "chosen"),
        (
            "openai_preference",
            Group(id="g", contexts=ASKED, responses=(Response(content=None), Response(content="b")), verdicts=(Verdict(tiers=((0,), (1,))),)),
            "responses[0].content",
        ),
        ("openai_preference", Group(id="g", contexts=RATED.contexts, responses=PAIR.responses[:2], verdicts=(Verdict(tiers=((0,), (1,))),)), "prompt"),
        ("trl_unpaired", PAIR, "ratings"),
        ("trl_unpaired", Group(id="g", contexts=ASKED, responses=PAIR.responses, ratings=(Rating(response=0, value=4, scale=(1, 5)),)), "ratings[0]"),
    ],
)
def test_what_a_format_cannot_say_is_refused_and_nothing_is_written(tmp_path: Path, format: str, group: Group, field: str) -> None:
    with pytest.raises(RecordError) as caught:
        write([group], tmp_path / "a.jsonl", format=format)
    assert caught.value.field == field
    assert caught.value.file in ("origin.jsonl", f"group {group.id!r}")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    def broken() -> Iterator[Group]:
        yield PAIR
        raise RecordError("stop")

    for name in ("a.jsonl", "a.jsonl.gz", "a.parquet"):
        path = tmp_path / name
        path.write_bytes(b"old")
        with pytest.raises(RecordError, match="stop"):
            write(broken(), path)
        assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 3


def test_the_same_groups_make_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.jsonl.gz"):
        contents = []
        for _ in range(2):
            write([PAIR], tmp_path / name)
            contents.append((tmp_path / name).read_bytes())
        assert contents[0] == contents[1]
    assert gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()) == (tmp_path / "a.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("name", "format", "said"),
    [
        ("a.csv", "attune_native", "names that end in"),
        ("a.parquet", "trl_preference", "Parquet is written in attune's own format only"),
        ("a.jsonl", "pandalm", "can be read but not written"),
        ("a.jsonl", "nonsense", "there is no such format"),
        ("file/a.jsonl", "attune_native", "the file cannot be written"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path: Path, name: str, format: str, said: str) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FormatError, match=said):
        write([PAIR], tmp_path / name, format=format)


def test_bytes_have_no_place_in_a_foreign_format(tmp_path: Path) -> None:
    image = Group(id="g", contexts={"main": Prompt(content="p", images=(b"\x89",))}, responses=RATED.responses, ratings=RATED.ratings)
    with pytest.raises(RecordError, match="no plain JSON"):
        write([image], tmp_path / "a.jsonl", format="trl_unpaired")
