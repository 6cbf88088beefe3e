"""What ranks need is imported before they are forked: once, in place of once each."""

from __future__ import annotations

import importlib

import pytest

from attune.training.distributed import SINGLE
from tests.distributed.setting import Setting, go

LATER = ("torch.distributed.fsdp", "torch.distributed.tensor")
"""Imported where weights are sharded."""


@pytest.fixture(scope="session", autouse=True)
def warm() -> None:
    for name in LATER:
        importlib.import_module(name)
    go(Setting(updates=1, lora=True, reference="adapter_off"), SINGLE)
