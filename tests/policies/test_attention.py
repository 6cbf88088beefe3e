"""Shared-prefix attention against a dense softmax over everything a token may see, in float64; and the pieces of a line by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from attune.policies import attention
from attune.policies.attention import Piece, pieces, shared_attention
from tests import tiny

# two trees: 10 -> (10 -> (20, 20), 40) and 30
SIGHT = [100] * 10 + [60] * 10 + [40] * 20 + [60] * 20 + [100] * 40 + [130] * 30
POSITION = [*range(20), *range(20, 40), *range(20, 40), *range(10, 50), *range(30)]


def sights() -> Tensor:
    return torch.tensor([SIGHT, POSITION])[None, None]


def inputs(dtype: torch.dtype = torch.float64, *, length: int = 130, device: str = "cpu") -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(1, heads, length, 16, generator=draw, dtype=torch.float64).to(device, dtype).requires_grad_() for heads in (4, 2, 2)]


def dense(query: Tensor, key: Tensor, value: Tensor, *, scale: float, window: int | None = None, softcap: float | None = None) -> Tensor:
    """The definition, over all pairs of tokens."""
    place, (sight, position) = torch.arange(query.shape[2]), sights()[0, 0]
    seen = (place[None] <= place[:, None]) & (place[:, None] < sight[None])
    if window is not None:
        seen &= position[:, None] - position[None] < window
    score = query @ key.repeat_interleave(2, 1).transpose(-1, -2) * scale
    if softcap is not None:
        score = softcap * torch.tanh(score / softcap)
    return (score.masked_fill(~seen, -torch.inf).softmax(-1) @ value.repeat_interleave(2, 1)).transpose(1, 2)


def test_pieces_by_hand() -> None:
    assert pieces(SIGHT) == [
        Piece(0, 40, 0, 40, True),
        Piece(40, 60, 40, 60, True),
        Piece(60, 100, 60, 100, True),
        Piece(100, 130, 100, 130, True),
        Piece(60, 100, 0, 10, False),
        Piece(40, 60, 0, 20, False),
    ]
    assert pieces([5] * 5) == [Piece(0, 5, 0, 5, True)]  # one response: nothing branches
    assert pieces([9] * 3 + [5] * 2 + [7] * 2 + [9] * 2) == [  # a prompt of 3, three responses of 2
        Piece(0, 5, 0, 5, True),
        Piece(5, 7, 5, 7, True),
        Piece(7, 9, 7, 9, True),
        Piece(5, 9, 0, 3, False),
    ]


@pytest.mark.parametrize("queries", [128, 7])
@pytest.mark.parametrize("window", [None, 13, 45])
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_values_and_gradients_are_those_of_the_dense_softmax(queries: int, window: int | None, softcap: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "BLOCK_QUERIES", queries)
    given = inputs()
    got = shared_attention(*given, sights(), scale=0.35, window=window, softcap=softcap)
    wanted = dense(*given, scale=0.35, window=window, softcap=softcap)
    assert (got - wanted).abs().max() < 1e-14
    upstream = torch.sin(torch.arange(got.numel(), dtype=torch.float64)).view_as(got)
    for one, other in zip(torch.autograd.grad(got, given, upstream), torch.autograd.grad(wanted, given, upstream), strict=True):
        assert (one - other).abs().max() < 1e-13


def test_bfloat16_is_as_near_as_its_last_digit() -> None:
    # values of about 1 are rounded to 8 bits once, at the end: by at most 2^-9 of themselves, and the largest is below 4
    given = inputs(torch.bfloat16)
    got = shared_attention(*given, sights(), scale=0.25)
    wanted = dense(*(one.double() for one in given), scale=0.25)
    assert got.dtype == torch.bfloat16
    assert wanted.abs().max() < 4
    assert (got - wanted).abs().max() <= 4 * 2**-9


def test_dropout_drops_the_same_weights_in_both_directions_and_keeps_the_mean() -> None:
    given = [one[:, :, :12].detach().requires_grad_() for one in inputs()]
    line = torch.tensor([[12] * 4 + [8] * 4 + [12] * 4, [*range(8), *range(4, 8)]])[None, None]

    def dropped(*tensors: Tensor) -> Tensor:
        torch.manual_seed(3)
        return shared_attention(*tensors, line, scale=0.3, dropout=0.4)

    assert torch.autograd.gradcheck(dropped, given)
    with torch.no_grad():
        torch.manual_seed(0)
        drawn = torch.stack([shared_attention(*given, line, scale=0.3, dropout=0.4) for _ in range(3000)])
        error = drawn.std(0) / 3000**0.5
        whole = shared_attention(*given, line, scale=0.3)
    assert ((drawn.mean(0) - whole).abs() <= 5 * error).all()  # 5 standard errors, 768 numbers
    assert (drawn.std(0) > 0).any()


@pytest.mark.parametrize("window", [None, 13])
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_the_way_of_the_gpu_sees_the_same(window: int | None, softcap: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    # uncompiled, FlexAttention runs on a CPU as well, forward only
    from torch.nn.attention import flex_attention

    monkeypatch.setattr(attention, "_compiled", lambda name: getattr(flex_attention, name))
    with torch.no_grad():
        given = [one.detach() for one in inputs()]
        got = attention._flex(*given, sights(), 0.35, window, softcap).transpose(1, 2)
        assert (got - dense(*given, scale=0.35, window=window, softcap=softcap)).abs().max() < 1e-14


def test_other_inputs_of_the_model_are_computed_as_before() -> None:
    ids = torch.tensor([[5, 6, 7, 8, 0], [9, 10, 11, 12, 13]])
    mask = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]])
    for architecture in ("llama", "gemma2", "gpt2"):
        model: Any = tiny.model(architecture)
        before = model(ids, attention_mask=mask).logits
        assert attention.implement(model)
        assert torch.equal(model(ids, attention_mask=mask).logits, before)
        assert model.generate(ids[1:], max_new_tokens=3, do_sample=False).shape == (1, 8)
        assert attention.implement(model)
