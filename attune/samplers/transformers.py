"""Samples from a causal model of transformers, on this machine. Letters: N rows, L prompt tokens, V vocabulary, T sampled tokens."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from attune.core.errors import AttuneError, ConfigError
from attune.core.protocols import SamplingParams
from attune.core.record import Group, Prompt, Response
from attune.policies.causal import evaluating


class TextTemplate(Protocol):
    """What turns a sampled reply into text."""

    @property
    def stop_ids(self) -> tuple[int, ...]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


class CausalModel(Protocol):
    """What is sampled from: policies.causal.CausalPolicy, or anything with these."""

    @property
    def module(self) -> Any: ...

    @property
    def template(self) -> TextTemplate: ...

    @property
    def max_positions(self) -> int | None: ...

    def prompt_ids(self, prompt: Prompt) -> tuple[int, ...]: ...


@dataclass(frozen=True, slots=True)
class _Row:
    group: int
    sample: int
    prompt_ids: tuple[int, ...]
    limit: int
    # tokens it may have
    uniforms: np.ndarray
    # [limit] in [0, 1), one for each token


class TransformersSampler:
    """Draws responses token by token, with a cache of keys and values.

    Each sample has a generator of its own, seeded by the seed, the group's id and the sample's number, and each token takes one number
    of it: other groups, their order and the batch size change nothing but the last digits of the probabilities.
    """

    def __init__(self, policy: CausalModel, *, batch_size: int = 64, name: str | None = None, on_progress: Callable[[int, int], None] | None = None) -> None:
        """Samples from the policy's weights as they are when `sample` is called.

        Args:
            policy: the model, its template and its limit.
            batch_size: responses drawn at once.
            name: goes into Response.generator; None: the model's own name or path.
            on_progress: called with responses done and responses in all.
        """
        if batch_size < 1:
            raise ConfigError("out of range", field="batch_size", value=batch_size, allowed="at least 1")
        self.policy, self.batch_size, self.on_progress = policy, batch_size, on_progress
        self.name = name or getattr(policy.module.config, "name_or_path", "") or "policy"

    def exact(self, params: SamplingParams) -> bool:
        """Returns whether samples drawn so follow the policy exactly: T = 1 and nothing cut off (the weights are always the current ones)."""
        return params.temperature == 1 and params.top_p == 1

    def sample(self, groups: Sequence[Group], *, k: int, params: SamplingParams, seed: int) -> list[Group]:
        """Returns the groups with k new responses each; what was said about the old ones is dropped with them.

        Response.token_ids holds the stop token if one was drawn. Response.logps are the policy's own, at T = 1 and over the whole
        vocabulary, in float32 or wider, whatever temperature and top_p drew: of the distribution that was drawn from only where `exact`.
        Response.meta["finish"] is "stop", or "length" where max_tokens or the model's positions ended it.

        Args:
            groups: prompts.
            k: responses to each.
            params: temperature (0: the likeliest token), top_p (the smallest set of tokens with this mass), max_tokens.
            seed: of the draws; any integer.

        Raises:
            ConfigError: a parameter out of range. AttuneError: a prompt that leaves no position for a response.
        """
        _check(k, params)
        rows = [row for index, group in enumerate(groups) for row in self._rows(index, group, k, params.max_tokens, seed)]
        rows.sort(key=lambda row: -len(row.prompt_ids))
        found: dict[tuple[int, int], Response] = {}
        with torch.no_grad(), evaluating(self.policy.module):
            for start in range(0, len(rows), self.batch_size):
                chunk = rows[start : start + self.batch_size]
                for row, ids, logps in zip(chunk, *self._draw(chunk, params), strict=True):
                    found[row.group, row.sample] = self._response(ids, logps)
                if self.on_progress is not None:
                    self.on_progress(len(found), len(rows))
        return [replace(group, responses=tuple(found[index, sample] for sample in range(k)), verdicts=(), ratings=()) for index, group in enumerate(groups)]

    def _rows(self, index: int, group: Group, k: int, max_tokens: int, seed: int) -> list[_Row]:
        ids = self.policy.prompt_ids(group.prompt)
        room = max_tokens if self.policy.max_positions is None else min(max_tokens, self.policy.max_positions - len(ids))
        if room < 1 or not ids:
            raise AttuneError(
                "the prompt leaves no room for a response", field=group.id, value=len(ids), allowed=f"1 to {self.policy.max_positions} tokens less one"
            )
        return [_Row(index, sample, ids, room, _generator(seed, group.id, sample).random(room)) for sample in range(k)]

    def _response(self, ids: list[int], logps: list[float]) -> Response:
        stopped = ids[-1] in self.policy.template.stop_ids
        text = self.policy.template.decode(ids[:-1] if stopped else ids)
        return Response(content=text, generator=self.name, token_ids=tuple(ids), logps=tuple(logps), meta={"finish": "stop" if stopped else "length"})

    def _draw(self, rows: Sequence[_Row], params: SamplingParams) -> tuple[list[list[int]], list[list[float]]]:
        """Returns the ids and log-probabilities of one response a row."""
        model, device = self.policy.module, self.policy.module.device
        ids_NL, attention_NL = _left_padded([row.prompt_ids for row in rows], device)
        position_NL = (attention_NL.cumsum(-1) - 1).clamp(min=0)
        steps = max(row.limit for row in rows)
        uniform_NT = torch.tensor(np.stack([np.pad(row.uniforms, (0, steps - row.limit)) for row in rows]), device=device)
        limit_N = torch.tensor([row.limit for row in rows], device=device)
        stop_S = torch.tensor(self.policy.template.stop_ids, device=device)
        length_N = torch.zeros_like(limit_N)
        open_N = torch.ones_like(limit_N, dtype=torch.bool)
        drawn, logps, cache = [], [], None
        for step in range(steps):
            output = model(**_inputs(model, ids_NL, attention_NL, position_NL), past_key_values=cache, use_cache=True)
            logits_NV, cache = output.logits[:, -1], output.past_key_values
            token_N = draw_tokens(logits_NV, uniform_NT[:, step], params)
            drawn.append(token_N)
            logps.append(_logp(logits_NV, token_N))
            length_N = length_N + open_N
            open_N = open_N & ~torch.isin(token_N, stop_S) & (length_N < limit_N)
            if not open_N.any():
                break
            ids_NL, position_NL = token_N[:, None], position_NL[:, -1:] + 1
            attention_NL = torch.cat((attention_NL, torch.ones_like(token_N)[:, None]), -1)
        lengths = length_N.tolist()
        ids_NT, logp_NT = torch.stack(drawn, -1).tolist(), torch.stack(logps, -1).tolist()
        return [row[:num] for row, num in zip(ids_NT, lengths, strict=True)], [row[:num] for row, num in zip(logp_NT, lengths, strict=True)]


def draw_tokens(logits_NV: Tensor, uniform_N: Tensor, params: SamplingParams) -> Tensor:
    """Returns one token a row: the first whose cumulative probability, in the order of the vocabulary, exceeds the row's uniform number.

    Args:
        logits_NV: of any float type.
        uniform_N: float64 in [0, 1).
        params: temperature and top_p; the tokens kept by top_p are the likeliest ones, until their mass at this temperature reaches it.

    Returns:
        [N] long.
    """
    if params.temperature == 0:
        return logits_NV.argmax(-1)
    p_NV = torch.softmax(logits_NV.double() / params.temperature, -1)
    if params.top_p < 1:
        sorted_NV, order_NV = p_NV.sort(-1, descending=True)
        kept_NV = sorted_NV.cumsum(-1) - sorted_NV < params.top_p
        p_NV = torch.zeros_like(p_NV).scatter(-1, order_NV, torch.where(kept_NV, sorted_NV, 0.0))
    mass_NV = p_NV.cumsum(-1)
    return torch.searchsorted(mass_NV, (uniform_N * mass_NV[:, -1])[:, None], right=True).squeeze(-1)


def _logp(logits_NV: Tensor, token_N: Tensor) -> Tensor:
    wide_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
    return wide_NV.gather(-1, token_N[:, None]).squeeze(-1) - wide_NV.logsumexp(-1)


def _generator(seed: int, group: str, sample: int) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}\n{sample}\n{group}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def _left_padded(prompts: Sequence[tuple[int, ...]], device: torch.device) -> tuple[Tensor, Tensor]:
    longest = max(len(ids) for ids in prompts)
    ids_NL = torch.tensor([[0] * (longest - len(ids)) + list(ids) for ids in prompts], device=device)
    attention_NL = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts], device=device)
    return ids_NL, attention_NL


def _inputs(model: Any, ids_NL: Tensor, attention_NL: Tensor, position_NL: Tensor) -> dict[str, Any]:
    """Returns what the model's forward pass takes; only the last position's logits are asked for where it lets us."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    taken = inspect.signature(inner.forward).parameters
    given = {"input_ids": ids_NL, "attention_mask": attention_NL, "position_ids": position_NL, "logits_to_keep": 1}
    return {name: value for name, value in given.items() if name in taken}


def _check(k: int, params: SamplingParams) -> None:
    if k < 1:
        raise ConfigError("out of range", field="k", value=k, allowed="at least 1")
    if not params.temperature >= 0:
        raise ConfigError("out of range", field="temperature", value=params.temperature, allowed="at least 0")
    if not 0 < params.top_p <= 1:
        raise ConfigError("out of range", field="top_p", value=params.top_p, allowed="above 0, at most 1")
    if params.max_tokens < 1:
        raise ConfigError("out of range", field="max_tokens", value=params.max_tokens, allowed="at least 1")
