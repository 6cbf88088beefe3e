"""Tokens: the prompt is an exact prefix, one BOS, a supervised stop token, and nobody's tokens depend on another response."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attune.core.protocols import Row
from attune.core.record import MAIN, Group, Prompt, Response
from attune.policies.templates import Template
from tests import tiny

ENDINGS = ["", " ", "  ", "\n", "\n\n", '"', "'", "7", "😀", ".", "\t", "é", "</", "[INST]", "Ġ", "▁"]
KINDS = [*tiny.TEMPLATES, None]
WRITES_BOS = ("llama3", "llama2", "gemma", "mistral")


def strings(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [draw.choice(ENDINGS) + text + draw.choice(ENDINGS) for text in tiny.texts(count, seed=seed, words=(1, 4))]


def templates(family: str) -> list[tuple[str | None, int, Template]]:
    """Every template with a tokenizer that writes a BOS and one that does not; and how many BOS a row then has."""
    made = []
    for number, kind in enumerate(KINDS * 2):
        writes, pad_is_eos = number < len(KINDS), number % 2 == 0
        known = writes or kind in WRITES_BOS or pad_is_eos
        made.append((kind, int(writes or kind in WRITES_BOS), Template(tiny.tokenizer(family, bos=known, writes_bos=writes, pad_is_eos=pad_is_eos, chat=kind))))
    return made


def rendered(kind: str | None, template: Template, prompt: str, response: str) -> str:
    """The conversation as text, up to its stop token, from transformers alone."""
    if kind is None:
        return prompt + response + "</s>"
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
    text = str(template.tokenizer.apply_chat_template(turns, tokenize=False))
    return text.removesuffix("\n") + "</s>" if kind == "plain" else text[: text.rindex(tiny.STOP[kind])] + tiny.STOP[kind]


@pytest.mark.parametrize("family", ["bytes", "metaspace", "unigram"])
def test_a_thousand_strings(family: str) -> None:
    made = templates(family)
    for number, (prompt, response) in enumerate(zip(strings(1000, 1), strings(1000, 2), strict=True)):
        kind, num_bos, template = made[number % len(made)]
        tokens = template.encode(Prompt(content=prompt), Response(content=response))
        assert tokens.prompt_ids == template.encode_prompt(Prompt(content=prompt))
        assert len(tokens.supervised) == len(tokens.response_ids)
        assert all(tokens.supervised)
        assert tokens.response_ids[-1] == template.tokenizer.convert_tokens_to_ids(tiny.STOP[kind] if kind else "</s>") == template.stop_ids[0]
        ids = tokens.prompt_ids + tokens.response_ids
        bos = template.tokenizer.convert_tokens_to_ids("<s>")
        assert ids.count(bos) == ids[:1].count(bos) == num_bos
        if family == "bytes":  # the others know fewer letters than these strings have
            assert template.tokenizer.decode(ids[num_bos:]) == rendered(kind, template, prompt, response).removeprefix("<s>")


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(prompt=st.text(min_size=1, max_size=12), first=st.text(max_size=12), second=st.text(max_size=12))
def test_any_text(kind: str | None, prompt: str, first: str, second: str) -> None:
    template = Template(tiny.tokenizer(chat=kind, pad_is_eos=True))
    one, two = (template.encode(Prompt(content=prompt), Response(content=text)) for text in (first, second))
    assert one.prompt_ids == two.prompt_ids
    assert one.response_ids[-1] == two.response_ids[-1] == template.stop_id
    assert one.supervised[-1]
    if kind is None:
        assert template.decode(one.response_ids) == first


@pytest.mark.parametrize("kind", KINDS)
def test_other_responses_change_no_token(kind: str | None) -> None:
    policy = tiny.policy(chat=kind)
    texts = ["Yes", "Yes, it is", " Yes", "", "No\n"]
    alone = [
        policy.collate(
            [group := Group(id="a", contexts={MAIN: Prompt(content="Is it? ")}, responses=(Response(content=text),))], [Row(group=0, response=0)]
        ).keys[0]
        for text in texts
    ]
    assert len(set(alone)) >= 4
    for order in ([0, 1, 2, 3, 4], [4, 2, 0, 1, 3], [3, 3, 1]):
        group = Group(id="a", contexts={MAIN: Prompt(content="Is it? ")}, responses=tuple(Response(content=texts[index]) for index in order))
        assert list(policy.collate([group], tiny.rows([group])).keys) == [alone[index] for index in order]


def test_the_sampler_s_prompt_is_the_trained_one() -> None:
    policy = tiny.policy(chat="llama3", overlong="cut", max_prompt_tokens=7)
    group = tiny.groups(1, 1)[0]
    assert policy.prompt_ids(group.prompt) == policy.tokens(group, Row(group=0, response=0)).prompt_ids


@pytest.mark.parametrize("family", ["metaspace", "unigram"])
def test_a_response_does_not_get_a_space_of_its_own(family: str) -> None:
    template = Template(tiny.tokenizer(family))
    tokens = template.encode(Prompt(content="def"), Response(content="add(a)"))
    assert template.tokenizer.decode(tokens.prompt_ids + tokens.response_ids, skip_special_tokens=True) == "defadd(a)"
    spaced: Any = template.encode(Prompt(content="def"), Response(content=" add(a)"))
    assert template.tokenizer.decode(spaced.prompt_ids + spaced.response_ids, skip_special_tokens=True) == "def add(a)"
