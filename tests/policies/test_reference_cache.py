"""The store of log-probabilities: first writer wins, nothing torn is believed, and two processes fill one folder, one of them killed."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from attune.core.errors import RunError
from attune.policies import reference_cache
from attune.policies.reference_cache import Index, Store, build
from tests.faults.forked import begin, forked, wait


def key(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def row(number: int, add: float = 0.0) -> Tensor:
    """Row `number` has 1 + number % 7 steps, each -number - add."""
    return torch.full((1 + number % 7,), -float(number) - add)


def store(folder: Path | None, said: list[str] | None = None, identity: str = "me") -> Store:
    return Store(folder, identity, (said if said is not None else []).append)


def filled(folder: Path | None, numbers: range, add: float = 0.0) -> Store:
    made = store(folder)
    for number in numbers:
        made.put(key(number), row(number, add))
    made.flush()
    return made


def right(made: Store, numbers: range, add: float = 0.0) -> bool:
    found = [made.get(key(number)) for number in numbers]
    return all(one is not None and torch.equal(one, row(number, add)) for number, one in zip(numbers, found, strict=True))


@pytest.mark.parametrize("on_disk", [True, False])
def test_what_is_put_comes_back(tmp_path: Path, on_disk: bool) -> None:
    made = filled(tmp_path if on_disk else None, range(3000))
    assert right(made, range(3000))
    assert key(3000) not in made
    assert made.get(key(3000)) is None
    assert len(list(tmp_path.iterdir())) == (3 if on_disk else 0)  # a shard after 1,024 rows, another, and the rest


def test_keys_that_begin_alike_are_told_apart() -> None:
    index, first, second = Index(), bytes(8) + b"a" * 24, bytes(8) + b"b" * 24
    shards = [build({first.hex(): torch.tensor([-1.0])}), build({second.hex(): torch.tensor([-2.0]), (b"z" * 32).hex(): torch.tensor([-3.0])})]
    for number, shard in enumerate(shards):
        index.add(number, shard.keys.numpy())
    assert list(index.candidates(first)) == [(0, 0), (1, 0)]
    assert list(index.candidates(b"z" * 32)) == [(1, 1)]
    index.remove(0)
    assert list(index.candidates(first)) == [(1, 0)]
    made = store(None)
    made.put(first.hex(), torch.tensor([-1.0]))
    made.flush()
    assert second.hex() not in made
    made.put(second.hex(), torch.tensor([-2.0]))
    made.flush()
    assert [float(found) for found in (made.get(first.hex()), made.get(second.hex())) if found is not None] == [-1.0, -2.0]


def test_the_first_value_of_a_row_is_everybodys(tmp_path: Path) -> None:
    """Two stores that do not know of each other compute the same rows, differently in the last digit: both then read what was written first."""
    first, second = store(tmp_path), store(tmp_path)
    for number in range(20):
        first.put(key(number), row(number))
    for number in range(10, 30):
        second.put(key(number), row(number, add=0.5))
    first.flush()
    second.flush()
    assert right(second, range(20))
    assert right(second, range(20, 30), add=0.5)
    first.refresh()
    assert right(first, range(20, 30), add=0.5)
    written = [load_file(path) for path in sorted(tmp_path.glob("*.safetensors"))]
    assert [len(shard["checks"]) for shard in written] == [20, 10]  # each row once


def test_a_number_that_was_taken_meanwhile_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process publishes between the look at the folder and the link: the next number is taken, and what it holds is not written again."""
    mine = store(tmp_path)
    for number in range(20):
        mine.put(key(number), row(number, add=0.5))
    link, raced = os.link, []

    def late(source: Path, target: Path) -> None:
        if not raced:
            raced.append(target)
            monkeypatch.setattr(os, "link", link)
            filled(tmp_path, range(5))
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    mine.flush()
    assert raced == [tmp_path / "00000001.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000001.safetensors", "00000002.safetensors"]
    assert right(mine, range(5))
    assert right(mine, range(5, 20), add=0.5)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def another_identity(path: Path) -> None:
    save_file(load_file(path), path, metadata={"identity": "somebody else"})


def lying_lengths(path: Path) -> None:
    """The header says that a tensor ends beyond the file."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["logp"]["data_offsets"][1] += 4000
    header["logp"]["shape"][0] += 1000
    said = json.dumps(header).encode()
    path.write_bytes(len(said).to_bytes(8, "little") + said + data[8 + length :])


def starts_beyond(path: Path) -> None:
    parts = load_file(path)
    parts["starts"] = parts["starts"] * 3
    save_file(parts, path, metadata={"identity": "me"})


def zeroed(path: Path) -> None:
    """A block of the numbers that never reached the disk."""
    parts = load_file(path)
    parts["logp"][8:12] = 0
    save_file(parts, path, metadata={"identity": "me"})


@pytest.mark.parametrize("damage", [cut, empty, another_identity, lying_lengths, starts_beyond, zeroed])
def test_a_damaged_shard_is_set_aside_and_made_again(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    filled(tmp_path, range(10))
    filled(tmp_path, range(10, 20))
    damage(tmp_path / "00000001.safetensors")
    said: list[str] = []
    again = store(tmp_path, said)
    assert right(again, range(10, 20))
    lost = [number for number in range(10) if again.get(key(number)) is None]
    assert lost == list(range(10)) or (damage is zeroed and lost)  # what was read before the damage met the eye was sound
    assert len(said) == 1
    assert "00000001.safetensors" in said[0]
    assert (tmp_path / "00000001.torn").exists()
    for number in range(10):
        if again.get(key(number)) is None:
            again.put(key(number), row(number))
    again.flush()
    assert not (tmp_path / "00000001.safetensors").exists()  # a number is never used twice: others may hold what it was
    assert right(store(tmp_path, said), range(20))
    assert len(said) == 1


def test_a_full_disk_leaves_no_part(tmp_path: Path) -> None:
    made = store(tmp_path / "cache")
    made.put(key(1), row(1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(RunError, match=r"cannot write cached log-probabilities.*reference\.cache=memory"):
            made.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, previous)
    assert list((tmp_path / "cache").iterdir()) == []
    made.flush()
    assert right(store(tmp_path / "cache"), range(1, 2))


def test_a_folder_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here first", "utf-8")
    made = store(tmp_path / "file" / "cache")
    made.put(key(1), row(1))
    with pytest.raises(RunError, match="cannot write cached log-probabilities"):
        made.flush()
    at_place = store(tmp_path / "file")
    at_place.put(key(1), row(1))
    with pytest.raises(RunError, match="cannot write cached log-probabilities"):
        at_place.flush()


def test_what_killed_processes_left_is_swept_away_a_day_later(tmp_path: Path) -> None:
    old, new = tmp_path / ".old.tmp", tmp_path / ".new.tmp"
    for path in (old, new):
        path.write_bytes(b"half a shard")
    os.utime(old, (time.time() - 90_000,) * 2)
    store(tmp_path)
    assert not old.exists()
    assert new.exists()


def test_reading_maps_and_does_not_load(tmp_path: Path) -> None:
    """A shard of 64 MiB is opened, and two of its rows read, in less than that."""
    big = torch.full((1 << 20,), -1.0)
    made = store(tmp_path)
    for number in range(18):
        made.put(key(number), (big if number > 1 else big[:3]) - number)
    made.flush()

    def read() -> None:
        before = resident()
        again = store(tmp_path)
        found = [again.get(key(0)), again.get(key(1))]
        print(resident() - before, *(float(one[0]) for one in found if one is not None))

    if not Path("/proc/self/statm").exists():
        pytest.skip("memory is told elsewhere")
    said = forked(read).said.split()
    assert int(said[0]) < 40 << 20
    assert said[1:] == ["-1.0", "-2.0"]


def resident() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def work(folder: Path, numbers: range, hangs: int | None) -> None:
    """Fills a folder in shards of ten rows; on its way to link shard number `hangs` it stops for good, what it has written lying there without a name."""
    reference_cache.MIN_ROWS = 10
    link = os.link
    linked: list[Path] = []

    def linking(source: Path, target: Path) -> None:
        linked.append(target)
        if len(linked) == hangs:
            (folder / "hangs").touch()
            time.sleep(60)
        link(source, target)

    pytest.MonkeyPatch().setattr(os, "link", linking)
    made = store(folder)
    for number in numbers:
        if key(number) not in made:
            made.put(key(number), row(number))
    made.flush()


def test_two_processes_fill_one_folder_and_one_is_killed_in_the_middle(tmp_path: Path) -> None:
    tmp_path.joinpath("cache").mkdir()
    folder = tmp_path / "cache"
    first, second = begin(lambda: work(folder, range(100), 4)), begin(lambda: work(folder, range(100, 200), None))
    while not (folder / "hangs").exists():
        time.sleep(0.001)
    os.kill(first[0], signal.SIGKILL)
    assert wait(*first).code == -signal.SIGKILL
    assert wait(*second).code == 0
    third = begin(lambda: work(folder, range(80), None))  # begins after the death, and finds both ones' rows
    assert wait(*third).code == 0
    said: list[str] = []
    left = store(folder, said)
    assert said == []
    assert right(left, range(80))
    assert right(left, range(100, 200))
    assert left.get(key(90)) is None
    shards = [load_file(path) for path in sorted(folder.glob("*.safetensors"))]
    keys = [bytes(one.numpy()) for shard in shards for one in shard["keys"]]
    assert len(keys) == len(set(keys)) == 180  # each row once
    assert [len(shard["checks"]) for shard in shards] == [10] * 18
    assert len(list(folder.glob(".*.tmp"))) == 1  # what the killed one was about to name; nobody reads it


def test_shards_grow_with_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_cache, "MIN_ROWS", 4)
    monkeypatch.setattr(reference_cache, "MAX_ROWS", 20)
    filled(tmp_path, range(1000))
    sizes = [len(load_file(path)["checks"]) for path in sorted(tmp_path.glob("*.safetensors"))]
    assert sum(sizes) == 1000
    assert sizes[:16] == [4] * 16
    assert max(sizes) == 20
    assert sizes[:-1] == sorted(sizes[:-1])
