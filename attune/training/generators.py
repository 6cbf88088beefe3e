"""Where the random generators of the CPU and of every GPU stand: taken and put back together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def generator_states() -> list[Tensor]:
    """Returns the state of the CPU's generator, then those of the GPUs in order."""
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else ())]


def set_generator_states(states: Sequence[Tensor]) -> None:
    """Puts states back that `generator_states` returned; those of GPUs that are not here are left out."""
    torch.set_rng_state(states[0])
    for device, state in zip(range(torch.cuda.device_count()), states[1:], strict=False):
        torch.cuda.set_rng_state(state, device)
