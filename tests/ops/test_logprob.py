"""Token log-probabilities: worked by hand, the same in tiles, and without the logits of everything."""

from __future__ import annotations

import math

import pytest
import torch

from attune.ops.logprob import target_logps, token_logps


def test_by_hand() -> None:
    hidden = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    weight = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    got = token_logps(hidden, weight, torch.tensor([0, 2]))
    # logits (1, 0, 0) and (0, 2, 0)
    assert got.tolist() == pytest.approx([1 - math.log(math.e + 2), -math.log(math.e**2 + 2)], abs=1e-15)


def test_bias_scale_and_soft_cap_by_hand() -> None:
    hidden = torch.tensor([[3.0]], dtype=torch.float64)
    weight = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    got = token_logps(hidden, weight, torch.tensor([1]), torch.tensor([0.5, 0.0], dtype=torch.float64), softcap=2.0, scale=0.5)
    first, second = 2 * math.tanh(0.5 * 3.5 / 2), 2 * math.tanh(0.5 * -3.0 / 2)
    assert got.item() == pytest.approx(second - math.log(math.exp(first) + math.exp(second)), abs=1e-15)


@pytest.fixture
def drawn() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    hidden, weight, bias = (torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((11, 6), (17, 6), (17,)))
    return hidden, weight, bias, torch.randint(17, (11,))


@pytest.mark.parametrize("tile", [1, 3, 11, 50])
def test_tiles_change_neither_value_nor_gradient(drawn: tuple[torch.Tensor, ...], tile: int) -> None:
    hidden, weight, bias, target = drawn
    coefficient = torch.arange(11, dtype=torch.float64) - 4
    oracle = torch.log_softmax(3 * torch.tanh((hidden @ weight.T + bias) / 3), -1)[torch.arange(11), target]
    wanted = torch.autograd.grad((coefficient * oracle).sum(), (hidden, weight, bias))
    got = token_logps(hidden, weight, target, bias, softcap=3.0, tile=tile)
    assert torch.allclose(got, oracle, rtol=0, atol=1e-13)
    for ours, theirs in zip(torch.autograd.grad((coefficient * got).sum(), (hidden, weight, bias)), wanted, strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)


def test_gradient_is_the_numeric_one(drawn: tuple[torch.Tensor, ...]) -> None:
    hidden, weight, bias, target = drawn
    assert torch.autograd.gradcheck(lambda h, w, b: token_logps(h, w, target, b, tile=4), (hidden, weight, bias))


def test_tiles_keep_no_logits_for_backward() -> None:
    hidden, weight, target = torch.randn(64, 4, requires_grad=True), torch.randn(1000, 4, requires_grad=True), torch.randint(1000, (64,))
    kept: list[int] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        token_logps(hidden, weight, target, tile=8)
    assert max(kept, default=0) < 8 * 1000


def test_low_precision_inputs_are_summed_in_float32() -> None:
    torch.manual_seed(0)
    hidden, weight, target = torch.randn(32, 64).bfloat16(), torch.randn(500, 64).bfloat16(), torch.randint(500, (32,))
    exact = torch.log_softmax(hidden.double() @ weight.double().T, -1)[torch.arange(32), target]
    got = token_logps(hidden, weight, target)
    assert got.dtype == torch.float32
    assert (got - exact).abs().max() < 2e-5
    assert target_logps(torch.randn(2, 3).half(), torch.tensor([0, 1])).dtype == torch.float32


def test_large_logits_stay_finite() -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0]])
    assert target_logps(logits, torch.tensor([0])).item() == 0.0
    assert target_logps(logits, torch.tensor([1])).item() == -2e4


def test_no_token_at_all() -> None:
    hidden = torch.zeros(0, 4, requires_grad=True)
    got = token_logps(hidden, torch.randn(5, 4), torch.zeros(0, dtype=torch.long))
    assert got.shape == (0,)
    got.sum().backward()
