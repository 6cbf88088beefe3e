"""A template whose tokens are written down by the test: faults are planted by hand."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from attune.core.record import Group, Prompt, Response
from attune.diagnostics.encoding import Encoding, Row
from attune.policies.templates import Tokens

BOS, STOP, UNK = 0, 1, 2


def tokens(prompt: tuple[int, ...] = (BOS, 5), response: tuple[int, ...] = (7, STOP), supervised: tuple[bool, ...] | None = None, **cuts: int) -> Tokens:
    """One row's ids; all of the response is supervised unless it is said."""
    return Tokens(prompt, response, supervised or (True,) * len(response), cuts.get("prompt_cut", 0), cuts.get("response_cut", 0))


class Tokenizer(SimpleNamespace):
    """The text "5 7 " is the ids 5 and 7; where 5 stands before 6, a text is read as if the two were one token, 56."""

    def decode(self, ids: list[int], **_: Any) -> str:
        return "".join(f"{token} " for token in ids)

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [int(word) for word in text.replace("5 6 ", "56 ").split()]}


def encoding(
    rows: Mapping[tuple[int, int], Tokens], groups: list[Group], *, start_ids: tuple[int, ...] = (BOS,), prompt: tuple[int, ...] = (BOS, 5)
) -> Encoding:
    """An encoding whose rows are as given, (group, response) -> tokens, and whose template writes every prompt as `prompt`."""
    tokenizer = Tokenizer(bos_token_id=BOS, eos_token_id=STOP, unk_token_id=UNK, added_tokens_decoder={BOS: "<s>", STOP: "</s>"})
    template: Any = SimpleNamespace(
        tokenizer=tokenizer, start_ids=start_ids, stop_ids=(STOP,), chat=True, rewrites_history=False, encode_prompt=lambda _: prompt
    )
    model: Any = SimpleNamespace(template=template, max_prompt_tokens=None, max_response_tokens=None, max_positions=None, overlong="drop")
    made = tuple(Row(group=groups[place], response=index, whole=row, cut=row) for (place, index), row in rows.items())
    return Encoding(model=model, groups=tuple(groups), rows=made)


def one(name: str = "g0", *texts: str) -> Group:
    """A group with a prompt."""
    return Group(id=name, contexts={"main": Prompt(content="q")}, responses=tuple(Response(content=text) for text in texts or ("a",)))
