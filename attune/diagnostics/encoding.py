"""Feedback as the tokens that would be trained: what the probes of tokens look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from attune.core.errors import AttuneError, ConfigError
from attune.core.record import Group
from attune.diagnostics.finding import Ref, ref
from attune.diagnostics.judgments import Judgment, decided, judgments
from attune.policies.templates import Template, Tokens


class Reads(Protocol):
    """How a model reads feedback. A CausalPolicy does; `Reader` does without weights."""

    @property
    def template(self) -> Template: ...
    @property
    def max_prompt_tokens(self) -> int | None: ...
    @property
    def max_response_tokens(self) -> int | None: ...
    @property
    def max_positions(self) -> int | None: ...
    @property
    def overlong(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A model's template and limits, in tokens; None: no limit."""

    template: Template
    max_prompt_tokens: int | None = None
    max_response_tokens: int | None = None
    max_positions: int | None = None
    # prompt and response together
    overlong: str = "drop"
    # beyond the first two limits: "drop" leaves the response out, "cut" keeps the end of the prompt and the beginning of the response

    def __post_init__(self) -> None:
        if self.overlong not in ("drop", "cut"):
            raise ConfigError("no such way with long rows", field="overlong", value=self.overlong, allowed="'drop', 'cut'")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One response in tokens, or why it has none."""

    group: Group
    response: int
    # index into the group's responses
    whole: Tokens | None = None
    # uncut; None: it cannot be encoded
    cut: Tokens | None = None
    # as it would be trained; None: it is refused
    refused: str | None = None
    # why it is left out of training

    @property
    def tokens(self) -> Tokens:
        """The tokens that would be trained; only for rows that are not refused."""
        assert self.cut is not None, "a refused row is not trained on"
        return self.cut

    @property
    def context(self) -> str:
        """Name of the prompt that the response answers."""
        return self.group.responses[self.response].context

    @property
    def num_supervised(self) -> int:
        """Tokens of the row that the loss sees."""
        return sum(self.tokens.supervised)

    def ref(self, detail: str = "") -> Ref:
        """Returns a reference to the row."""
        return ref(self.group, f"response {self.response}" + (f": {detail}" if detail else ""))


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """All responses of some groups in tokens."""

    model: Reads
    groups: tuple[Group, ...]
    rows: tuple[Row, ...]
    # every response, refused ones too

    @property
    def template(self) -> Template:
        """How the model writes conversations."""
        return self.model.template

    @cached_property
    def trained(self) -> tuple[Row, ...]:
        """The rows that are not refused."""
        return tuple(row for row in self.rows if row.cut is not None)

    @cached_property
    def row_of(self) -> Mapping[tuple[int, int], Row]:
        """(id(group), response index) -> its row."""
        return {(id(row.group), row.response): row for row in self.rows}

    @cached_property
    def clear(self) -> tuple[tuple[Judgment, Row, Row], ...]:
        """Every decided judgment, with the rows of the preferred and the dispreferred response, refused ones too."""
        found = decided(judgments(self.groups))
        return tuple((one, self.row_of[id(one.group), one.preferred], self.row_of[id(one.group), one.dispreferred]) for one in found)

    @cached_property
    def pairs(self) -> tuple[tuple[Judgment, Row, Row], ...]:
        """The same, of those that are trained on: neither row is refused."""
        return tuple(pair for pair in self.clear if pair[1].cut is not None and pair[2].cut is not None)


def encode(groups: Sequence[Group], model: Reads) -> Encoding:
    """Returns the tokens of every response as training would have them.

    Args:
        groups: any groups; responses without a prompt or text, and those that are too long, are refused and say so.
        model: the one that would be trained, or a Reader in its place.
    """
    rows = tuple(_row(group, index, model) for group in groups for index in range(len(group.responses)))
    return Encoding(model=model, groups=tuple(groups), rows=rows)


def _row(group: Group, index: int, model: Reads) -> Row:
    if group.untrainable:
        return Row(group=group, response=index, refused=group.untrainable)
    response = group.responses[index]
    try:
        whole = model.template.encode(group.contexts[response.context], response)
    except AttuneError as error:
        return Row(group=group, response=index, refused=error.message)
    cut = whole
    if model.overlong == "cut":
        cut = model.template.cut(whole, max_prompt=model.max_prompt_tokens, max_response=model.max_response_tokens)
    too_long = _too_long(cut, model)
    return Row(group=group, response=index, whole=whole, cut=None if too_long else cut, refused=too_long)


def _too_long(tokens: Tokens, model: Reads) -> str | None:
    for ids, limit, name in ((tokens.prompt_ids, model.max_prompt_tokens, "prompt"), (tokens.response_ids, model.max_response_tokens, "response")):
        if limit is not None and len(ids) > limit:
            return f"the {name} has more than {limit} tokens"
    if model.max_positions is not None and len(tokens.prompt_ids) + len(tokens.response_ids) > model.max_positions:
        return f"prompt and response have more tokens than the model's {model.max_positions} positions"
    return None
