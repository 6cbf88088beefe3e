"""Settings of the machine that a training runs with: how freed memory is kept, and how exact float32 products are."""

from __future__ import annotations

import ctypes
import platform

import torch

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # malloc.h
_NEVER = 2**31 - 1  # bytes at the top of the heap that are not given back
_PAD = 64 * 2**20


def tune(matmul: str = "highest") -> bool:
    """Sets up this process for training; called once, before the model is read.

    On Linux with glibc, big blocks of memory that are freed stay with the process: a training frees and takes the same ones again in every pass, and
    each time the kernel would have to fill them with zeros. What the process holds at its peak changes by a few
    hundredths: docs/concepts/precision.md has numbers.

    Args:
        matmul: precision of float32 products: "highest", "high" or "medium", see torch.set_float32_matmul_precision.

    Returns:
        Whether memory is kept; elsewhere than with glibc nothing is done about it.
    """
    torch.set_float32_matmul_precision(matmul)
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(name, value) == 1 for name, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER), (_TOP_PAD, _PAD)))
