"""References that follow the policy: their law against float64 arithmetic, when it acts, what it holds, and that a state put back is the state."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from attune.core.errors import RunError
from attune.policies.adapters import adapter_parameters, add_adapter
from attune.policies.causal import CausalPolicy
from attune.policies.moving import MovingReference
from attune.policies.references import learning
from tests import tiny

GROUPS = tiny.groups(2, 2)
ROWS = tiny.rows(GROUPS)


def adapted() -> CausalPolicy:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return CausalPolicy(add_adapter(tiny.model(), {"rank": 2}), tiny.tokenizer(chat="chatml"))


def walk(policy: CausalPolicy, steps: int) -> list[dict[str, Tensor]]:
    """Moves the policy's weights `steps` times in place, as an optimiser does; returns them as they were before and after each step, in float64."""
    seen = [{name: parameter.detach().double() for name, parameter in learning(policy.module).items()}]
    for step in range(steps):
        with torch.no_grad():
            for parameter in learning(policy.module).values():
                parameter.add_(0.1 * torch.cos(torch.arange(parameter.numel(), dtype=parameter.dtype) + step).view_as(parameter))
        seen.append({name: parameter.detach().double() for name, parameter in learning(policy.module).items()})
    return seen


@pytest.mark.parametrize("make", [tiny.policy, adapted])
@pytest.mark.parametrize(("alpha", "every"), [(0.1, 1), (0.6, 2), (1.0, 3)])
def test_its_weights_are_the_mixture_of_the_law(make: Callable[[], CausalPolicy], alpha: float, every: int) -> None:
    policy, other = make(), make()
    reference = MovingReference(policy, alpha=alpha, every=every)
    seen = walk(other, 7)
    wanted = seen[0]
    for step in range(1, 8):
        with torch.no_grad():
            for name, parameter in learning(policy.module).items():
                parameter.copy_(seen[step][name])
        reference.after_step(step)
        if step % every == 0:
            wanted = {name: alpha * seen[step][name] + (1 - alpha) * weight for name, weight in wanted.items()}
    held = reference.tensors()
    assert held.keys() == wanted.keys()
    assert max(float((held[name] - wanted[name]).abs().max()) for name in wanted) < (1e-12 if alpha == 1 else 1e-6)
    with torch.no_grad():
        for name, parameter in learning(other.module).items():
            parameter.copy_(wanted[name])
    encoded = policy.collate(GROUPS, ROWS)
    assert (reference.logp(encoded) - other.outputs(encoded, ("logp",))["logp"]).abs().max() < 2e-5


def test_between_two_changes_it_stands_still_and_a_copy_is_exact() -> None:
    policy = tiny.policy()
    encoded = policy.collate(GROUPS, ROWS)
    start = policy.outputs(encoded, ("logp",))["logp"].detach()
    reference = MovingReference(policy, alpha=1.0, every=3)
    found = []
    for step in range(1, 7):
        walk(policy, 1)
        reference.after_step(step)
        found.append((reference.logp(encoded), policy.outputs(encoded, ("logp",))["logp"]))
    assert torch.equal(found[0][0], start)
    assert torch.equal(found[1][0], start)
    assert torch.equal(found[2][0], found[2][1])
    assert torch.equal(found[3][0], found[2][1])
    assert torch.equal(found[4][0], found[2][1])
    assert torch.equal(found[5][0], found[5][1])
    assert not torch.equal(found[4][0], found[4][1])


def test_with_an_adapter_only_its_weights_are_held() -> None:
    policy = adapted()
    assert MovingReference(policy, alpha=0.1, every=1).tensors().keys() == adapter_parameters(policy.module).keys()


def test_small_steps_of_16_bit_weights_are_not_lost() -> None:
    """A thousandth of a step of 1/128 is far below the spacing of bfloat16 near 1 (1/128), so an average held in bfloat16 would never move."""
    policy = tiny.policy(dtype=torch.bfloat16)
    encoded = policy.collate(GROUPS, ROWS)
    reference = MovingReference(policy, alpha=0.001, every=1)
    assert torch.equal(reference.logp(encoded), policy.outputs(encoded, ("logp",))["logp"])  # at the start exactly the policy
    with torch.no_grad():
        for parameter in learning(policy.module).values():
            parameter.fill_(1.0)
    start = {name: tensor.clone() for name, tensor in reference.tensors().items()}
    for step in range(1, 11):
        reference.after_step(step)
    assert all(tensor.dtype == torch.float32 for tensor in reference.tensors().values())
    kept = 0.999**10
    assert max(float((tensor - (kept * start[name] + 1 - kept)).abs().max()) for name, tensor in reference.tensors().items()) < 1e-6
    assert all(tensor.dtype == torch.bfloat16 for tensor in MovingReference(policy, alpha=1.0, every=5).tensors().values())


def test_a_state_put_back_goes_on_to_the_last_bit() -> None:
    first, second = tiny.policy(), tiny.policy()
    reference = MovingReference(first, alpha=0.3, every=2)
    for step in range(1, 4):
        walk(first, 1)
        reference.after_step(step)
    walk(second, 3)
    again = MovingReference(second, alpha=0.3, every=2)
    again.load_tensors({name: tensor.clone() for name, tensor in reference.tensors().items()})
    for policy, one in ((first, reference), (second, again)):
        for parameter in learning(policy.module).values():
            parameter.data.copy_(torch.cos(torch.arange(parameter.numel(), dtype=parameter.dtype)).view_as(parameter))
        one.after_step(4)
    assert all(torch.equal(tensor, again.tensors()[name]) for name, tensor in reference.tensors().items())
    encoded = first.collate(GROUPS, ROWS)
    assert torch.equal(reference.logp(encoded), again.logp(encoded))
    with pytest.raises(RunError, match="does not fit the model"):
        again.load_tensors({"other": torch.zeros(1)})
