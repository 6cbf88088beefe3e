"""Settings of the machine: products of float32 are what was asked for, and memory that is freed stays."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from attune.training.machine import tune


@pytest.fixture(autouse=True)
def _put_back() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("precision", ["highest", "medium"])
def test_the_precision_of_products_is_set(precision: str) -> None:
    assert tune(precision) == (platform.libc_ver()[0] == "glibc")
    assert torch.get_float32_matmul_precision() == precision


FREED = """
import resource, torch
from attune.training.machine import tune

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

tune()
block = torch.full((1 << 24,), 3.0)
held = resident()
del block
print(held - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_a_big_block_that_is_freed_stays_with_the_process() -> None:
    """64 MiB: glibc alone would hand them back at once. In a process of its own: what a process freed before says where the block lies."""
    done = subprocess.run([sys.executable, "-c", FREED], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 1 << 24
