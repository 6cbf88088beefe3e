"""The memory that a dry run says a training needs, against what one then held: within 15 %."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Tally

CASES = ("full", "full, several passes", "lora", "bfloat16")


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads a process's peak from /proc")
@pytest.mark.parametrize("case", CASES)
def test_the_estimate_is_within_15_percent_of_a_real_peak(case: str, tally: Tally) -> None:
    """Two processes with one model of 13 million weights: one estimates, the other trains two updates; the bare program is left out of both."""
    numbers = []
    for how in ("guess", "run"):
        done = subprocess.run([sys.executable, str(Path(__file__).parent / "peak.py"), how, case], check=True, capture_output=True, text=True)
        numbers.append(float(done.stdout.split()[-1]))
    error = numbers[0] / numbers[1] - 1
    tally(10, f"memory estimates ({case})", 1, int(abs(error) >= 0.15), f"{numbers[0] / 2**20:.0f} MiB for {numbers[1] / 2**20:.0f}: {error:+.0%}")
    assert abs(error) < 0.15, numbers
