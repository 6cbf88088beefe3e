"""From hidden states to numbers: the vocabulary head in tiles, the same through the model's own logits, and a reward head.

Letters: R rows of a line, L tokens of a line, M predicted tokens, H width, V vocabulary.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from attune.core.errors import AttuneError
from attune.ops.logprob import target_logps, token_logps
from attune.policies.packing import Line


class Head(Protocol):
    """What a policy reads off its model. States are one vector a token: hidden states, or logits."""

    def states(self, model: Any, line: Line) -> Tensor: ...

    # [R,L,H] or [R,L,V], with gradient

    def logps(self, model: Any, states_M: Tensor, target_M: Tensor) -> Tensor: ...

    # [M], nats


@dataclass(frozen=True, slots=True)
class TiledHead:
    """Hidden states, and a plain linear layer over the vocabulary applied to some of them."""

    softcap: float | None
    scale: float

    def states(self, model: Any, line: Line) -> Tensor:
        return _hidden(model, line)

    def logps(self, model: Any, states_M: Tensor, target_M: Tensor) -> Tensor:
        layer = model.get_output_embeddings()
        return token_logps(states_M, layer.weight, target_M, layer.bias, softcap=self.softcap, scale=self.scale)


@dataclass(frozen=True, slots=True)
class LogitsHead:
    """The model's own logits: for whatever does more to them than a linear layer, a scale and a soft cap."""

    def states(self, model: Any, line: Line) -> Tensor:
        logits: Tensor = model(**_inputs(model, line), use_cache=False).logits
        return logits

    def logps(self, model: Any, states_M: Tensor, target_M: Tensor) -> Tensor:
        return target_logps(states_M, target_M)


@dataclass(frozen=True, slots=True)
class ScalarHead:
    """One number for the text up to a token, by the layer `score` of transformers' sequence classifiers."""

    def states(self, model: Any, line: Line) -> Tensor:
        return _hidden(model, line)

    def logps(self, model: Any, states_M: Tensor, target_M: Tensor) -> Tensor:
        raise AttuneError("a model with a reward head has no log-probabilities", field="head", value="scalar", allowed="'lm'")

    def rewards(self, model: Any, states_N: Tensor) -> Tensor:
        """Returns [N] float32 or wider, the scores of the rows that end in these states."""
        reward_N: Tensor = model.score(states_N).squeeze(-1)
        return reward_N.to(torch.promote_types(reward_N.dtype, torch.float32))


def vocabulary_head(model: Any, line: Line) -> Head:
    """Returns a head that agrees with the model's own logits on `line`: in tiles where that is exact, else through those logits.

    Some models scale or cap their logits. What the configuration says about it is tried, and what the model computes decides.
    """
    layer, config = model.get_output_embeddings(), model.config.get_text_config()
    if type(layer) is not torch.nn.Linear or model.base_model is model:
        return LogitsHead()
    scale = float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1.0)
    tiled = TiledHead(getattr(config, "final_logit_softcapping", None), scale)
    target_M = line.ids.flatten()
    with torch.no_grad():
        own = target_logps(LogitsHead().states(model, line).flatten(0, 1), target_M)
        ours = tiled.logps(model, tiled.states(model, line).flatten(0, 1), target_M)
    return tiled if torch.allclose(own, ours, atol=1e-3 if own.dtype == layer.weight.dtype else 0.1, rtol=0) else LogitsHead()


def scalar_head(model: Any) -> ScalarHead:
    """Returns the reward head of a sequence classifier with one label; raises AttuneError for any other model."""
    if not isinstance(getattr(model, "score", None), torch.nn.Module) or model.config.num_labels != 1:
        raise AttuneError("a reward head is the layer `score` of a sequence classifier with one label", field="model", value=type(model).__name__)
    return ScalarHead()


def _hidden(model: Any, line: Line) -> Tensor:
    hidden: Tensor = model.base_model(**_inputs(model.base_model, line), use_cache=False).last_hidden_state
    return hidden


def _inputs(module: Any, line: Line) -> dict[str, Tensor]:
    taken = inspect.signature(module.forward).parameters
    given = {"input_ids": line.ids, "attention_mask": line.attention(module.dtype), "position_ids": line.positions}
    return {name: value for name, value in given.items() if name in taken}
