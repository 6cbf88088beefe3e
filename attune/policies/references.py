"""What a policy is compared with: a frozen copy, the model under its adapter, the adapter as it was loaded; and their cache.

Letters: N rows, T steps.
"""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from attune.core.errors import AttuneError
from attune.core.protocols import Encoded
from attune.policies import adapters
from attune.policies.causal import CausalPolicy, evaluating

SHARD_ROWS = 4096
"""Rows after which a cache writes what is new."""


class Reference(Protocol):
    """Fixed weights that give log-probabilities."""

    @property
    def identity(self) -> str: ...

    # content hash of weights, chat template and layout

    def logp(self, encoded: Encoded) -> Tensor: ...

    # [N,T] nats, 0 where not supervised; no gradient, no dropout


class ModelReference:
    """Log-probabilities under a policy's weights as a switch leaves them."""

    def __init__(self, policy: CausalPolicy, switch: Callable[[], AbstractContextManager[None]], *, adapter: bool) -> None:
        self._policy, self._switch, self._adapter = policy, switch, adapter

    @cached_property
    def identity(self) -> str:
        with self._switch():
            return fingerprint(self._policy, adapter=self._adapter)

    def logp(self, encoded: Encoded) -> Tensor:
        """Returns [N,T] nats, without gradient and without dropout; the policy's mode and weights are as before."""
        with torch.no_grad(), evaluating(self._policy.module), self._switch():
            return self._policy.outputs(encoded, ("logp",))["logp"]


def as_it_is(policy: CausalPolicy) -> ModelReference:
    """Returns the policy's own weights, whatever they are when asked: its start, for whoever asks before the first update."""
    return ModelReference(policy, nullcontext, adapter=True)


def frozen_copy(policy: CausalPolicy) -> ModelReference:
    """Returns the policy as it is now, in weights of its own. With an adapter, `adapter_off` needs no second model."""
    module = copy.deepcopy(policy.module).requires_grad_(False)
    return ModelReference(policy.with_module(module), nullcontext, adapter=True)


def adapter_off(policy: CausalPolicy) -> ModelReference:
    """Returns the model under the policy's adapter; raises ConfigError where there is none."""
    adapters.check_adapter(policy)
    return ModelReference(policy, lambda: adapters.adapter_off(policy), adapter=False)


def adapter_as_loaded(policy: CausalPolicy) -> ModelReference:
    """Returns the policy with its adapter's weights of now, whatever they become; raises ConfigError where there is no adapter."""
    adapters.check_adapter(policy)
    parameters = adapters.adapter_parameters(policy.module)
    loaded = {name: parameter.detach().clone() for name, parameter in parameters.items()}

    @contextmanager
    def switch() -> Any:
        current = {name: parameter.data for name, parameter in parameters.items()}
        try:
            for name, parameter in parameters.items():
                parameter.data = loaded[name]
            yield
        finally:
            for name, parameter in parameters.items():
                parameter.data = current[name]

    return ModelReference(policy, switch, adapter=True)


def cached(reference: Reference, *, folder: str | None = None, identity: str | None = None) -> CachedReference:
    """Returns the reference with each row computed once.

    Args:
        reference: whose weights do not change.
        folder: where the numbers are kept for later runs; None: in memory only.
        identity: whose numbers they are; None: the reference's own content hash.
    """
    return CachedReference(reference, folder, reference.identity if identity is None else identity)


class CachedReference:
    """A reference that keeps what it computed, by the content of a row and never by its place in the data."""

    def __init__(self, reference: Reference, folder: str | None, identity: str) -> None:
        self._reference, self.identity = reference, identity
        self._rows: dict[str, Tensor] = {}
        self._new: list[str] = []
        self._folder = None if folder is None else os.path.join(folder, hashlib.sha256(identity.encode()).hexdigest()[:16])
        self._read()

    def logp(self, encoded: Encoded) -> Tensor:
        """Returns [N,T] nats, computed only if a row of these has not been seen."""
        if any(key not in self._rows for key in encoded.keys):
            self._keep(encoded, self._reference.logp(encoded).cpu())
        logp_M = torch.cat([self._rows[key] for key in encoded.keys]).to(encoded.mask.device)
        return torch.zeros(encoded.mask.shape, dtype=logp_M.dtype, device=logp_M.device).masked_scatter(encoded.mask, logp_M)

    def flush(self) -> None:
        """Writes the rows that are new since the last time into a shard of their own; without a folder, nothing."""
        if self._folder is None or not self._new:
            return
        from safetensors.torch import save_file

        os.makedirs(self._folder, exist_ok=True)
        name = hashlib.sha256("".join(sorted(self._new)).encode()).hexdigest()[:32]
        path = os.path.join(self._folder, f"{name}.safetensors")
        aside = f"{path}.{os.getpid()}.tmp"
        save_file({key: self._rows[key] for key in self._new}, aside, metadata={"identity": self.identity})
        os.replace(aside, path)
        self._new = []

    def _keep(self, encoded: Encoded, logp_NT: Tensor) -> None:
        mask_NT = encoded.mask.cpu()
        for key, logp_T, mask_T in zip(encoded.keys, logp_NT, mask_NT, strict=True):
            if key not in self._rows:
                self._rows[key] = logp_T[mask_T].clone()
                self._new.append(key)
        if len(self._new) >= SHARD_ROWS:
            self.flush()

    def _read(self) -> None:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        for name in sorted(os.listdir(self._folder)) if self._folder is not None and os.path.isdir(self._folder) else ():
            if not name.endswith(".safetensors"):
                continue
            path = os.path.join(str(self._folder), name)
            try:
                self._rows.update(load_file(path))
            except SafetensorError as error:
                raise AttuneError(
                    f"a shard of cached log-probabilities cannot be read: {error}", file=path, mend="delete it; it will be computed again"
                ) from error


def fingerprint(policy: CausalPolicy, *, adapter: bool = True) -> str:
    """Returns a content hash of what decides a policy's numbers: weights and their types, chat template, layout.

    Args:
        policy: whose weights are read.
        adapter: whether its adapter's weights count; without them the hash is that of the model alone.
    """
    digest = hashlib.sha256(f"{policy.tokenizer.chat_template}|{policy.template.chat}|{policy.layout_used}".encode())
    for name, tensor in sorted(_named(policy.module.state_dict(), adapter=adapter)):
        digest.update(f"|{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _named(weights: dict[str, Tensor], *, adapter: bool) -> Sequence[tuple[str, Tensor]]:
    """Returns the weights under the names they have without peft around the model."""
    kept = {name: tensor for name, tensor in weights.items() if adapter or not adapters.is_adapter_name(name)}
    return [(name.removeprefix("base_model.model.").replace(".base_layer.", ".").replace(".original_module.", "."), tensor) for name, tensor in kept.items()]
