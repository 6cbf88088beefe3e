"""The contract suite is worth what it catches: every planted mistake is caught by the check that it is meant for, which the right method passes."""

from __future__ import annotations

import re

import pytest
import torch

from attune.core.batch import Batch
from attune.core.errors import MissingField
from attune.core.spec import method
from tests.contracts.checks import CHECKS
from tests.contracts.mutants import MUTANTS, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.label)
def test_a_planted_mistake_is_caught(mutant: Mutant) -> None:
    CHECKS[mutant.caught_by](method(mutant.of))
    with pytest.raises(AssertionError, match=re.escape(mutant.says)):
        CHECKS[mutant.caught_by](mutant.method())


def test_every_check_catches_something() -> None:
    assert {mutant.caught_by for mutant in MUTANTS} == set(CHECKS)


def test_a_missing_column_is_named_with_its_maker() -> None:
    with pytest.raises(MissingField, match=r"ref_logp.*frozen"):
        method("dpo").spec.fn(Batch(columns={"mask": torch.ones(2, 1, dtype=torch.bool), "logp": torch.zeros(2, 1)}, num_groups=1))
