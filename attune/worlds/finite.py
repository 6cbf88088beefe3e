"""A policy over finitely many responses, behind core.protocols.Policy. Letters: X prompts, Y responses, D features, N rows, one step each.

Prompt x is the text str(x), response y the text str(y): such groups go through any file and come back.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attune.core.errors import MissingField, RecordError
from attune.core.protocols import Encoded, Row, Size
from attune.core.record import MAIN, Group, Prompt, Response, text_of

FILE = "finite.safetensors"


class Table(torch.nn.Module):
    """One free score for each response to each prompt."""

    def __init__(self, num_prompts: int, num_responses: int) -> None:
        super().__init__()
        self.score_XY = torch.nn.Parameter(torch.zeros(num_prompts, num_responses, dtype=torch.float64))

    def forward(self) -> Tensor:
        return self.score_XY


class Linear(torch.nn.Module):
    """Scores that share their parameters: features times weights."""

    def __init__(self, feature_XYD: Tensor) -> None:
        super().__init__()
        self.feature_XYD: Tensor
        self.register_buffer("feature_XYD", feature_XYD.double())
        self.weight_D = torch.nn.Parameter(torch.zeros(feature_XYD.shape[-1], dtype=torch.float64))

    def forward(self) -> Tensor:
        return self.feature_XYD @ self.weight_D


class Softmax(torch.nn.Module):
    """Scores on top of a base distribution: at scores of 0 it is the base."""

    def __init__(self, base_XY: Tensor, scores: Table | Linear) -> None:
        super().__init__()
        self.base_XY: Tensor
        self.register_buffer("base_XY", torch.log_softmax(base_XY.double(), -1))
        self.scores = scores

    def forward(self) -> Tensor:
        return torch.log_softmax(self.base_XY + self.scores(), -1)


@dataclass(frozen=True, slots=True)
class FiniteRows:
    """Rows as indices."""

    prompt: Tensor
    # [N] long
    response: Tensor
    # [N] long

    @property
    def mask(self) -> Tensor:
        return torch.ones(len(self.prompt), 1, dtype=torch.bool)

    @property
    def keys(self) -> list[str]:
        return [f"{x}/{y}" for x, y in zip(self.prompt.tolist(), self.response.tolist(), strict=True)]

    @property
    def num_tokens(self) -> int:
        return len(self.prompt)


class FinitePolicy:
    """Log-probabilities pi(y|x) of a softmax over finitely many responses, or its scores as rewards."""

    def __init__(self, module: Softmax) -> None:
        self._module = module

    @property
    def module(self) -> Softmax:
        return self._module

    def logp(self, encoded: Encoded) -> Tensor:
        """Returns [N,1] nats of the weights as they are, without gradient: a deep copy of a policy is a frozen reference."""
        with torch.no_grad():
            return self.outputs(encoded, ("logp",))["logp"]

    def admit(self, group: Group) -> Mapping[int, str]:
        """Returns response index -> why it cannot be read (it is not the number of a response)."""
        num = self._module.base_XY.shape[1]
        return {i: f"not a response of this world (0 to {num - 1})" for i, response in enumerate(group.responses) if _number(response.text, num) is None}

    def size(self, groups: Sequence[Group], rows: Sequence[Row]) -> Size:
        """Returns what a pass over these rows takes: one step a row."""
        return Size(tokens=len(rows), supervised=len(rows), longest=1, rows=len(rows), reads=len(rows))

    def collate(self, groups: Sequence[Group], rows: Sequence[Row]) -> FiniteRows:
        """Returns the rows as indices; raises RecordError for a prompt or response that is not of this world."""
        num_prompts, num_responses = self._module.base_XY.shape
        found = []
        for row in rows:
            writer = groups[row.group if row.written_by is None else row.written_by]
            x = _number(text_of(groups[row.group].contexts[row.context].content), num_prompts)
            y = _number(writer.responses[row.response].text, num_responses)
            if x is None or y is None:
                allowed = f"prompts 0 to {num_prompts - 1}, responses 0 to {num_responses - 1}"
                raise RecordError("a row is not of this finite world", field=groups[row.group].id, value=(x, y), allowed=allowed)
            found.append((x, y))
        index_N2 = torch.tensor(found, dtype=torch.long).reshape(-1, 2)
        return FiniteRows(index_N2[:, 0], index_N2[:, 1])

    def outputs(self, encoded: Encoded, wants: Collection[str]) -> dict[str, Tensor]:
        """Returns `logp` [N,1] (nats) and `reward` [N], in float64, as wanted."""
        assert isinstance(encoded, FiniteRows), "rows come from collate"
        table = {"logp": lambda: self._module()[..., None], "reward": lambda: self._module.scores()}
        for name in wants:
            if name not in table:
                raise MissingField("this policy does not compute the column", field=name, allowed=", ".join(table))
        return {name: table[name]()[encoded.prompt, encoded.response] for name in wants}

    def save(self, folder: str) -> None:
        """Writes base, features and scores as one safetensors file."""
        from safetensors.torch import save_file

        os.makedirs(folder, exist_ok=True)
        save_file({name: tensor.detach().contiguous() for name, tensor in self._module.state_dict().items()}, os.path.join(folder, FILE))

    @classmethod
    def load(cls, folder: str) -> FinitePolicy:
        """Returns the policy that `save` wrote."""
        from safetensors.torch import load_file

        held = load_file(os.path.join(folder, FILE))
        base_XY, feature_XYD = held["base_XY"], held.get("scores.feature_XYD")
        module = Softmax(base_XY, Table(*base_XY.shape) if feature_XYD is None else Linear(feature_XYD))
        module.load_state_dict(held)
        return cls(module)


def finite_group(prompt: int, num_responses: int) -> Group:
    """Returns the group of prompt x with every response there is, in order."""
    responses = tuple(Response(content=str(y)) for y in range(num_responses))
    return Group(id=f"prompt-{prompt}", contexts={MAIN: Prompt(content=str(prompt))}, responses=responses)


def _number(text: str, num: int) -> int | None:
    return int(text) if text.isdecimal() and int(text) < num else None
