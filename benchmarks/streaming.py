"""Memory and start-up of streamed training as the data grow: the same 50 updates over 10,000 groups and over a million.

    python -m benchmarks.streaming [--groups 10000 1000000] [--updates 50] [--out FILE]

Each size runs in a process of its own: a small model, DPO, full weights, the reference computed in each update. Said are the seconds from the start
of the process to the first update (imports, index, model, doctor on a sample, first evaluation; of CPU time too, since a busy machine takes longer),
and the resident memory after the last one.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.machine import machine

MIB = 2**20
TEXT = """why does how can what is the river tide mountain engine letter window garden forest answer question colour weight reason
summer winter water light sound paper stone metal never always often because before after between under over"""
WORDS = TEXT.split()


def write_groups(path: Path, num: int) -> None:
    """Writes groups as `attune data prepare` would: a prompt that no other group has, two responses, one verdict."""
    draw = random.Random(num)
    with open(path, "w", encoding="utf-8") as file:
        for number in range(num):
            said = [" ".join(draw.choices(WORDS, k=draw.randint(*words))) for words in ((4, 10), (3, 9), (3, 9))]
            record = {
                "attune": 1,
                "source": None,
                "id": f"g{number}",
                "contexts": {"main": {"content": f"{number}: {said[0]}?"}},
                "responses": [{"content": said[1]}, {"content": said[2]}],
                "verdicts": [{"tiers": [[0], [1]]}],
            }
            file.write(json.dumps(record, separators=(",", ":")) + "\n")


def resident(name: str = "VmRSS") -> float:
    """Returns MiB of this process: VmRSS now, VmHWM at most so far."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("this system does not say what is resident")


def work(folder: Path, data: Path, updates: int, began: float) -> dict[str, Any]:
    """Trains, in this process; returns what was measured."""
    from attune.recipes import train_stage
    from attune.recipes.run import run

    found: dict[str, Any] = {}
    train = train_stage.train

    def watched(learner: Any, items: Sequence[Any], held_out: Sequence[Any], *, on_update: Any, **options: Any) -> Any:
        found["groups"] = len(items)

        def noted(done: int, total: int, metrics: Mapping[str, float]) -> None:
            if done == 1:
                found["start_seconds"], found["start_cpu_seconds"] = time.time() - began - metrics["seconds"], time.process_time()
            on_update(done, total, metrics)
            found["resident_mib"], found["loss"] = resident(), metrics["loss"]

        return train(learner, items, held_out, on_update=noted, **options)

    settings = ["data.streaming=true", f"train.updates={updates}", "train.save_every=25", "train.groups_per_update=16"]
    began_run = time.time()
    with patch.object(train_stage, "train", watched):
        run("dpo", [f"model.path={folder / 'model'}", f"data.train={data}", *settings], directory=folder / f"run-{data.stem}", quiet=True)
    return {**found, "run_seconds": time.time() - began_run, "peak_mib": resident("VmHWM"), "data_mib": data.stat().st_size / MIB}


def build(folder: Path) -> None:
    """Saves a small model with its tokenizer."""
    from attune.worlds.miniature import build_model, build_tokenizer

    tokenizer = build_tokenizer([TEXT])
    build_model(tokenizer, size="small").save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")


def measure(sizes: Sequence[int], updates: int) -> list[dict[str, Any]]:
    """Returns a row for each size."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="attune-streaming-") as place:
        folder = Path(place)
        build(folder)
        for num in sizes:
            data = folder / f"{num}.jsonl"
            write_groups(data, num)
            said = subprocess.run(
                [sys.executable, "-m", "benchmarks.streaming", "--work", str(folder), str(data), str(updates), str(time.time())],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            rows.append({"records": num, **json.loads(said.stdout.splitlines()[-1])})
            data.unlink()
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the rows in Markdown, memory also as a share of the first row's."""
    lines = ["| groups | file, MiB | start-up, s | of CPU time, s | resident after the updates, MiB | of the first row's | peak, MiB |", "|" + " ---: |" * 7]
    for row in rows:
        share = row["resident_mib"] / rows[0]["resident_mib"]
        cells = (
            f"{row['records']:,}",
            f"{row['data_mib']:.0f}",
            f"{row['start_seconds']:.1f}",
            f"{row['start_cpu_seconds']:.1f}",
            f"{row['resident_mib']:.0f}",
            f"{share:.3f}",
            f"{row['peak_mib']:.0f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measures and prints."""
    if sys.argv[1:2] == ["--work"]:
        folder, data, updates, began = sys.argv[2:]
        print(json.dumps(work(Path(folder), Path(data), int(updates), float(began))))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--groups", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--updates", type=int, default=50)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = measure(options.groups, options.updates)
    print(f"{machine()['text']}; {options.updates} updates of 16 groups\n\n{table(rows)}")
    if options.out is not None:
        options.out.write_text(json.dumps({"machine": machine(), "updates": options.updates, "rows": rows}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
