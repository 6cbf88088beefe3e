"""Joins equal prompts across all files of a data set, in bounded memory, and writes attune's own format."""

from __future__ import annotations

import heapq
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from attune.core.errors import FormatError
from attune.core.record import Group
from attune.data import codec, files, schema
from attune.data.account import Account
from attune.data.group import join, key, unique
from attune.data.read import read
from attune.data.write import SUFFIXES, write, writing

_BUCKET = 64 << 20  # bytes of source that a bucket holds on average; one bucket at a time is in memory
_MOST = 512  # buckets, each an open file


def prepare(
    paths: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    format: str | None = None,
    max_bad: float = 0.05,
    id_prefix: str = "",
    shard: int | None = None,
) -> Account:
    """Reads feedback, joins the groups of equal prompts wherever they stand, and writes them.

    Groups come out in the order in which their prompts first appeared. On the way they lie on disk beside `out` in buckets by a hash of
    what they must share to be joined, so that memory is bounded by a bucket, not by the data.

    Args:
        paths: what `read` takes.
        out: a file that ends in .jsonl, .jsonl.gz or .parquet; with `shard`, its name is numbered: feedback-00000.jsonl ...
        format: name of the sources' format; None: detected, for each file.
        max_bad: the largest share of records that may be unusable.
        id_prefix: put before every id.
        shard: groups a file; None: one file.

    Returns:
        The account of the whole, joined groups counted.

    Raises:
        FormatError, TooManyBadRecords: as `read` and `write` do; nothing is written then.
    """
    place = Path(out)
    if not place.name.lower().endswith(SUFFIXES):
        raise FormatError("the name does not say how to write", file=str(out), allowed="names that end in " + ", ".join(SUFFIXES))
    if shard is not None and shard < 1:
        raise FormatError("a shard holds groups", field="shard", value=shard, allowed="at least 1")
    reading = read(paths, format=format, max_bad=max_bad, group_equal=False, id_prefix=id_prefix)
    size = sum(os.path.getsize(file) for file in reading.files if not file.startswith(files.HUB))
    with writing(place):
        place.parent.mkdir(parents=True, exist_ok=True)
    with writing(place), TemporaryDirectory(dir=place.parent, prefix=".prepare-") as folder:
        buckets = _scatter(reading, Path(folder), min(_MOST, max(1, math.ceil(size / _BUCKET))))
        account = reading.account
        joined = [_join(bucket) for bucket in buckets]
        account.groups = sum(count for _, count in joined)
        account.merged = account.parsed - account.groups
        groups = unique(_in_order([path for path, _ in joined]), account)
        if shard is None:
            write(groups, place)
        else:
            for number in range(math.ceil(account.groups / shard)):
                write(islice(groups, shard), numbered(place, number))
    return account


def numbered(place: Path, number: int) -> Path:
    """Returns the name of a shard: the number stands before the suffix, five digits, from 0."""
    suffix = next(suffix for suffix in SUFFIXES if place.name.lower().endswith(suffix))
    return place.with_name(f"{place.name[: -len(suffix)]}-{number:05d}{place.name[-len(suffix) :]}")


def _scatter(groups: Iterable[Group], folder: Path, num: int) -> list[Path]:
    """Writes every group, behind its position, into the bucket of its key."""
    paths = [folder / f"{number}.jsonl" for number in range(num)]
    with ExitStack() as stack:
        streams: list[IO[str]] = [stack.enter_context(open(path, "w", encoding="utf-8")) for path in paths]
        for position, group in enumerate(groups):
            shared = key(group)
            streams[int(shared[:8], 16) % num].write(f"{position}\t{shared}\t{codec.dumps(schema.dump(group))}\n")
    return paths


def _join(bucket: Path) -> tuple[Path, int]:
    """Joins the groups of one bucket; returns where they lie now, in order of first appearance, and how many they are."""
    together: dict[str, list[tuple[int, str]]] = {}
    for position, shared, said in _lines(bucket):
        together.setdefault(shared, []).append((position, said))
    done = bucket.with_suffix(".joined")
    with open(done, "w", encoding="utf-8") as stream:
        for shared, same in together.items():
            said = same[0][1] if len(same) == 1 else codec.dumps(schema.dump(join([_group(one) for _, one in same]))) + "\n"
            stream.write(f"{same[0][0]}\t{shared}\t{said}")
    bucket.unlink()
    return done, len(together)


def _in_order(paths: Iterable[Path]) -> Iterator[Group]:
    for _, _, said in heapq.merge(*map(_lines, paths)):
        yield _group(said)


def _lines(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yields position, key and group (a line of JSON); no two positions are equal."""
    with open(path, encoding="utf-8") as stream:
        for line in stream:
            position, shared, said = line.split("\t", 2)
            yield int(position), shared, said


def _group(said: str) -> Group:
    group: Group = schema.load(Group, codec.loads(said))
    return group
