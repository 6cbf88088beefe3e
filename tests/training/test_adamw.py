"""AdamW over masters against the formula in float64, gradients of several passes, 8-bit moments, and state that lives elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from attune.config.recipe import OptimConfig, TrainConfig
from attune.runs.directory import RunDirectory
from attune.training.adamw import AdamW
from attune.training.engine import train
from tests import tiny
from tests.training.helpers import items, learner

LR, BETAS, EPS, DECAY = 1e-2, (0.9, 0.99), 1e-8, 0.1
OPTIM = OptimConfig(lr=1e-3, warmup=0.0, schedule="constant")


def made(parameters: Sequence[Tensor], *, lr: float = LR, **options: Any) -> AdamW:
    return AdamW([{"params": list(parameters), "weight_decay": DECAY}], lr=lr, betas=BETAS, eps=EPS, **options)


def numbers(*shape: int, seed: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def by_hand(weight: Tensor, gradients: Sequence[Tensor]) -> Tensor:
    """The formula in float64."""
    w, m, v = weight.double(), torch.zeros(weight.shape, dtype=torch.float64), torch.zeros(weight.shape, dtype=torch.float64)
    for t, gradient in enumerate(gradients, start=1):
        g = gradient.double()
        m, v = BETAS[0] * m + (1 - BETAS[0]) * g, BETAS[1] * v + (1 - BETAS[1]) * g * g
        step = (m / (1 - BETAS[0] ** t)) / ((v / (1 - BETAS[1] ** t)).sqrt() + EPS)
        w = w * (1 - LR * DECAY) - LR * step
    return w


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_it_is_the_formula_whatever_the_weights_are_held_in(dtype: torch.dtype) -> None:
    """Six steps; the gradients are rounded as a model of that type would give them."""
    weight = torch.nn.Parameter(numbers(17, 5, seed=0, dtype=dtype))
    gradients = [numbers(17, 5, seed=seed, dtype=dtype) for seed in range(1, 7)]
    wanted = by_hand(weight.detach(), gradients)
    optimizer = made([weight])
    for gradient in gradients:
        (weight * gradient).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    held = optimizer.state[weight].get("master", weight)
    assert (held - wanted).abs().max() < (1e-14 if dtype == torch.float64 else 1e-6)
    assert torch.equal(weight, held.to(dtype))
    assert ("master" in optimizer.state[weight]) == (dtype in (torch.bfloat16, torch.float16))


def test_gradients_of_several_passes_add_up_in_float32() -> None:
    """Eight of 1/256: a sum in bfloat16 that has reached 1 stays there; and random ones, to the last bit."""
    weight = torch.nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    optimizer = made([weight])
    for part in (1.0, *[1 / 256] * 8):
        (weight * part).sum().backward()
    assert torch.equal(optimizer.learning()[0].grad, torch.full((4,), 1 + 8 / 256))
    optimizer.zero_grad()
    parts = [numbers(4, seed=seed) for seed in range(8)]
    wanted = torch.zeros(4)
    for part in parts:
        (weight * part).sum().backward()
        wanted += part.float()
    assert torch.equal(optimizer.learning()[0].grad, wanted)


def test_steps_that_16_bits_would_swallow_are_kept() -> None:
    """A constant gradient moves Adam by lr a step: 200 steps of 1e-6 are three spacings of bfloat16 at 0.01, one step is a sixtieth."""
    start = torch.full((3,), 0.01).bfloat16()
    weight, alone = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    optimizer = AdamW([{"params": [weight], "weight_decay": 0.0}], lr=1e-6, betas=BETAS, eps=EPS)
    other = torch.optim.AdamW([alone], lr=1e-6, betas=BETAS, eps=EPS, weight_decay=0.0)
    for _ in range(200):
        for parameter, one in ((weight, optimizer), (alone, other)):
            (parameter * torch.tensor([0.5, -0.25, 2.0], dtype=torch.bfloat16)).sum().backward()
            one.step()
            one.zero_grad()
    wanted = start.double() - 2e-4 * torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)
    assert (optimizer.state[weight]["master"] - wanted).abs().max() < 1e-7
    assert (weight - wanted).abs().max() <= 2**-15  # half a spacing
    assert torch.equal(alone, start)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_offload_changes_no_number(dtype: torch.dtype) -> None:
    """Two passes an update, the gradient clipped: gradients are taken from the parameters as they come, and the step is the same."""
    held = []
    for offload in (False, True):
        weights = [torch.nn.Parameter(numbers(*shape, seed=9, dtype=dtype)) for shape in ((6, 4), (5,))]
        optimizer = made(weights, offload=offload)
        for update in range(4):
            for part in range(2):
                sum((weight * numbers(*weight.shape, seed=10 * update + part, dtype=dtype)).sum() for weight in weights).backward()
            assert all(weight.grad is None for weight in weights) == offload
            torch.nn.utils.clip_grad_norm_(optimizer.learning(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            assert all(tensor.grad is None for tensor in optimizer.learning())
        held.append([*weights, *(optimizer.state[weight][name] for weight in weights for name in ("exp_avg", "exp_avg_sq"))])
    assert all(torch.equal(one, other) for one, other in zip(*held, strict=True))


def test_a_later_optimiser_takes_the_place_of_the_one_before() -> None:
    weight = torch.nn.Parameter(numbers(3, seed=0))
    first, second = made([weight], offload=True), made([weight], offload=True)
    weight.sum().backward()
    assert torch.equal(second.learning()[0].grad, torch.ones(3))
    assert first.learning()[0].grad is None
    third = made([weight])
    weight.sum().backward()
    assert torch.equal(third.learning()[0].grad, torch.ones(3))


def test_a_parameter_without_gradient_stays() -> None:
    for offload in (False, True):
        weights = [torch.nn.Parameter(numbers(3, seed=seed)) for seed in range(2)]
        before = weights[1].detach().clone()
        optimizer = made(weights, offload=offload)
        weights[0].sum().backward()
        optimizer.step()
        assert torch.equal(weights[1], before)


def test_a_resumed_run_of_16_bits_is_the_undisturbed_one_to_the_last_bit(tmp_path: Path) -> None:
    def go(run: RunDirectory, stop: int, resume: bool) -> Tensor:
        policy = tiny.policy(dtype=torch.bfloat16)

        def stopping(done: int, total: int, said: Any) -> None:
            if done == stop:
                raise KeyboardInterrupt

        loop = TrainConfig(updates=5, groups_per_update=3, save_every=2)
        with suppress(KeyboardInterrupt):
            train(learner(policy, ["dpo"]), items(4), optim=OPTIM, loop=loop, seed=5, run=run, resume=resume, on_update=stopping)
        return torch.cat([parameter.detach().flatten() for parameter in policy.module.parameters()])

    undisturbed = go(RunDirectory(tmp_path / "whole"), 99, False)
    broken = RunDirectory(tmp_path / "broken")
    assert not torch.equal(go(broken, 3, False), undisturbed)
    assert torch.equal(go(broken, 99, True), undisturbed)
    losses = [[line["loss"] for line in RunDirectory(tmp_path / name).lines("metrics.jsonl")] for name in ("whole", "broken")]
    assert losses[0] == losses[1]


def test_eight_bit_moments_take_two_bytes_and_nearly_the_same_way() -> None:
    """The first step, from moments of 0, is the formula's; after thirty the way is that of 32 bits to a few hundredths."""
    pytest.importorskip("bitsandbytes")
    shape = (70, 61)  # 4,270 numbers: sixteen blocks and a part of one
    ways = {}
    for bits in (8, 32):
        weight = torch.nn.Parameter(numbers(*shape, seed=0))
        optimizer = made([weight], bits=bits)
        start = weight.detach().double()
        for update in range(30):
            (weight * (numbers(*shape, seed=1) + 0.5 * numbers(*shape, seed=2 + update))).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            if update == 0:
                gradient = numbers(*shape, seed=1) + 0.5 * numbers(*shape, seed=2)
                assert (optimizer.state[weight]["master"] - by_hand(start, [gradient])).abs().max() < 1e-6
        state = optimizer.state[weight]
        ways[bits] = state["master"].double() - start
        size = sum(value.numel() * value.element_size() for name, value in state.items() if name.startswith("exp_avg"))
        assert size / weight.numel() == pytest.approx(2 + 8 / 256 if bits == 8 else 8, rel=2e-3)
    assert (ways[8] - ways[32]).norm() / ways[32].norm() < 0.05


def test_eight_bit_state_survives_a_copy_and_small_tensors_are_plain() -> None:
    """What a checkpoint does: all state out by name, cleared, and put back; the next step is the same to the last bit."""
    pytest.importorskip("bitsandbytes")
    found = []
    for again in (False, True):
        weights = [torch.nn.Parameter(numbers(80, 80, seed=0)), torch.nn.Parameter(numbers(7, seed=1))]
        optimizer = made(weights, bits=8)
        for update in range(4):
            if again and update == 2:
                kept = {weight: {name: value.clone() for name, value in optimizer.state[weight].items()} for weight in weights}
                optimizer.state.clear()
                for weight, state in kept.items():
                    optimizer.state[weight].update(state)
            sum((weight * numbers(*weight.shape, seed=update)).sum() for weight in weights).backward()
            optimizer.step()
            optimizer.zero_grad()
        assert [optimizer.state[weight]["exp_avg"].dtype for weight in weights] == [torch.uint8, torch.float32]
        found.append(weights)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.gpu
@pytest.mark.parametrize(("offload", "bits"), [(False, 32), (True, 32), (False, 8), (True, 8)])
def test_on_a_gpu(offload: bool, bits: int) -> None:
    """The formula again, with state where it belongs."""
    if bits == 8:
        pytest.importorskip("bitsandbytes")
    weight = torch.nn.Parameter(numbers(70, 61, seed=0).cuda())
    gradients = [numbers(70, 61, seed=seed) for seed in range(1, 5)]
    wanted = by_hand(weight.detach().cpu(), gradients) - weight.detach().cpu().double()
    start = weight.detach().cpu().double()
    optimizer = made([weight], offload=offload, bits=bits)
    for gradient in gradients:
        (weight * gradient.cuda()).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    state = optimizer.state[weight]
    assert {value.device.type for name, value in state.items() if name != "step"} == {"cpu" if offload else "cuda"}
    way = state["master"].cpu().double() - start
    assert (way - wanted).norm() / wanted.norm() < (0.05 if bits == 8 else 1e-5)
    assert torch.equal(weight.cpu(), state["master"].cpu().bfloat16())
