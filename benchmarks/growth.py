"""How cost grows with the work: attune alone, one thing made larger at a time. About ten minutes; writes growth.json and growth.md beside the other results.

    python -m benchmarks.growth [--quick] [--threads 2] [--out FOLDER]

Letters: T unique tokens of an update, A pairs of tokens that attend, M response tokens, V vocabulary.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import streaming
from benchmarks.bench import RESULTS
from benchmarks.driver import Failed, Row, Worker, prepare, specification
from benchmarks.machine import machine
from benchmarks.material import Shape
from benchmarks.tables import GIB

WARM, TIMED = 1, 5
OPTIONS = {"mode": "fast", "objective": "sft", "signal": {"name": "demonstrations", "params": {"which": "all"}}}
"""Every response is imitated: an objective that any number of responses can feed, so that nothing but the size differs."""

SECONDS_TERMS = ("one", "T", "A", "MV", "V")
MEMORY_TERMS = ("one", "T", "V")


def shape_of(name: str, *, prompt: int = 1024, responses: int = 2, vocabulary: int = 32_000, response: int = 64, **size: int) -> Shape:
    """Returns one prompt an update with responses of one length."""
    fixed: dict[str, Any] = {"prompt": (prompt, prompt), "response": (response, response), "groups_per_update": 1}
    return Shape(name=name, vocabulary=vocabulary, responses=responses, **fixed, **size)


def series(*, quick: bool) -> dict[str, list[Shape]]:
    """Returns what grows -> its shapes, smallest first."""
    small = {"hidden": 128, "layers": 2, "intermediate": 384} if quick else {}
    prompts = (256, 512, 1024) if quick else (256, 512, 1024, 2048, 4096, 8192)
    responses = (1, 2, 4) if quick else (1, 2, 4, 8, 16)
    vocabularies = (8_000, 16_000) if quick else (32_000, 64_000, 128_000, 256_000)
    plain = {"vocabulary": vocabularies[0], **small}
    return {
        "prompt": [shape_of(f"{number}", prompt=number, **plain) for number in prompts],
        "responses": [shape_of(f"{number}", responses=number, **plain) for number in responses],
        "vocabulary": [shape_of(f"{number:,}", **{**plain, "vocabulary": number}) for number in vocabularies],
    }


def work(shape: Shape) -> dict[str, float]:
    """Returns how much an update of a shape has to do, by the letters above."""
    prompt, response, num = shape.prompt[0], shape.response[0], shape.responses
    pairs = prompt * (prompt + 1) // 2 + num * (response * prompt + response * (response + 1) // 2)
    return {"one": 1, "T": prompt + num * response, "A": pairs, "MV": num * response * shape.vocabulary, "V": shape.vocabulary}


def measure_alone(shape: Shape, *, threads: int) -> dict[str, Any]:
    """Returns the seconds of each timed update and the peak memory of one shape in a process of its own."""
    row = Row(key="growth", side="attune", label=shape.name, precision="bf16", options=OPTIONS)
    with tempfile.TemporaryDirectory(prefix="attune-growth-") as name:
        folder = Path(name)
        prepare(shape, folder, updates=WARM + TIMED)
        worker = Worker(row, specification(shape, row, folder, updates=WARM + TIMED, threads=threads), scratch=folder)
        try:
            worker.hear()
            said = worker.turn(WARM, TIMED)
        except Failed as error:
            return {"failed": str(error)}
        finally:
            worker.end()
    return {"seconds": said["seconds"], "peak": said["peak"], "failed": None}


def fit(points: Sequence[tuple[Mapping[str, float], float]], terms: Sequence[str]) -> tuple[dict[str, float], float]:
    """Returns the cost as a sum of terms with coefficients of 0 or more, and the largest error relative to what was measured.

        cost ~ sum_t c_t work_t,   c = argmin_{c >= 0} sum_i (prediction_i / cost_i - 1)^2

    Args:
        points: (work, cost) of each shape; cost above 0.
        terms: names in the work.
    """
    import numpy as np
    from scipy.optimize import nnls

    table = np.array([[found[term] for term in terms] for found, _ in points], dtype=float)
    costs = np.array([cost for _, cost in points])
    scale = table.max(axis=0)  # so that the solver sees numbers near 1
    coefficients, _ = nnls(table / scale / costs[:, None], np.ones(len(points)))
    error = np.abs(table / scale @ coefficients / costs - 1).max()
    return dict(zip(terms, (coefficients / scale).tolist(), strict=True)), float(error)


def page(results: Mapping[str, Any]) -> str:
    """Returns the tables in Markdown."""
    lines = ["# Cost as work grows", "", INTRODUCTION.strip(), "", f"Machine: {results['machine']['text']}; {results['threads']} threads.", ""]
    for name, points in results["series"].items():
        lines += [f"| {name} | unique tokens | attending pairs | seconds an update | peak memory | seconds by the fit |", "|---|---|---|---|---|---|"]
        for point in points:
            cells = f"| {point['name']} | {point['work']['T']:,} | {point['work']['A']:,} |"
            if point["failed"]:
                lines.append(f"{cells} {point['failed']} | | |")
                continue
            guess = sum(results["fit"]["seconds"][term] * point["work"][term] for term in SECONDS_TERMS)
            lines.append(f"{cells} {median(point['seconds']):.3f} | {point['peak'] / GIB:.2f} GiB | {guess:.3f} |")
        lines.append("")
    time, memory = results["fit"]["seconds"], results["fit"]["gib"]
    lines += [
        f"Seconds: {time['one']:.3f} + {1e6 * time['T']:.1f}e-6 a unique token + {1e9 * time['A']:.2f}e-9 an attending pair + "
        f"{1e12 * time['MV']:.1f}e-12 a response token and word + {1e6 * time['V']:.2f}e-6 a word; largest error {results['fit']['seconds_error']:.0%}. "
        f"Memory: {memory['one']:.2f} GiB + {1e6 * memory['T']:.0f}e-6 a unique token + {1e6 * memory['V']:.1f}e-6 a word; "
        f"largest error {results['fit']['gib_error']:.0%}. No coefficient is below 0.",
        "",
        "## More data",
        "",
        f"Streamed training of a small model, {results['data_updates']} updates of 16 groups: start-up from the command to the first update, and resident "
        "memory after the last.",
        "",
        streaming.table(results["data"]),
        "",
    ]
    return "\n".join(lines)


INTRODUCTION = """
attune alone, in its fast mode: one prompt an update with its responses of 64 tokens, a prompt of 1,024, two responses and a vocabulary of 32,000
unless the row says otherwise. Every response is imitated. All the rows together are described by one sum: a constant, the unique tokens, the
pairs of tokens that attend to each other, and the vocabulary (its head at response tokens, its optimiser).
"""


def main() -> int:
    parser = argparse.ArgumentParser(description="cost as work grows")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that everything runs")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": machine(), "threads": options.threads, "series": {}}
    measured: list[tuple[Mapping[str, float], float, float]] = []
    for name, shapes in series(quick=options.quick).items():
        results["series"][name] = []
        for shape in shapes:
            found = {"name": shape.name, "work": work(shape), **measure_alone(shape, threads=options.threads)}
            results["series"][name].append(found)
            if found["failed"] is None:
                measured.append((found["work"], median(found["seconds"]), found["peak"] / GIB))
            print(f"{name} {shape.name}: " + (found["failed"] or f"{median(found['seconds']):.3f} s, {found['peak'] / GIB:.2f} GiB"), flush=True)
    time, time_error = fit([(found, cost) for found, cost, _ in measured], SECONDS_TERMS)
    memory, memory_error = fit([(found, peak) for found, _, peak in measured], MEMORY_TERMS)
    results["fit"] = {"seconds": time, "seconds_error": time_error, "gib": memory, "gib_error": memory_error}
    sizes, results["data_updates"] = ((100, 1_000), 5) if options.quick else ((1_000, 10_000, 100_000, 1_000_000), 50)
    results["data"] = streaming.measure(sizes, results["data_updates"])
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "growth.json").write_text(json.dumps(results, indent=1) + "\n")
    (options.out / "growth.md").write_text(page(results))
    print(f"written: {options.out / 'growth.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
