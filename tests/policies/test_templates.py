"""Conversations into ids: stop tokens, several turns, begun replies, templates that rewrite, and what is refused."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import pytest

from attune.core.errors import AttuneError
from attune.core.record import Prompt, Response
from attune.policies.templates import Template, Tokens
from tests import tiny

USER = {"role": "user", "content": "What is 2+3?"}
CALL = {"role": "assistant", "content": "I add."}
TOOL = {"role": "tool", "content": "5"}
ANSWER = {"role": "assistant", "content": "It is 5."}


def template(kind: str | None = "chatml", **options: Any) -> Template:
    return Template(tiny.tokenizer(chat=kind, pad_is_eos=True), **options)


def runs(made: Template, tokens: Tokens) -> list[tuple[bool, str]]:
    """The response as stretches of text, with whether they are supervised."""
    both = zip(tokens.supervised, tokens.response_ids, strict=True)
    return [(wanted, made.tokenizer.decode([token for _, token in pairs])) for wanted, pairs in groupby(both, key=lambda pair: pair[0])]


@pytest.mark.parametrize(
    ("kind", "ending"),
    [("chatml", "<|im_end|>"), ("llama3", "<|eot_id|>"), ("llama2", " </s>"), ("gemma", "<end_of_turn>"), ("mistral", "</s>"), ("plain", "</s>")],
)
def test_the_reply_ends_with_its_stop_token_and_without_the_newline(kind: str, ending: str) -> None:
    made = template(kind)
    tokens = made.encode(Prompt(content=(USER,)), Response(content="Five\n\n"))
    text = {"llama2": " Five\n\n", "llama3": "Five", "gemma": "Five"}.get(kind, "Five\n\n")  # two of them trim
    assert runs(made, tokens) == [(True, text + ending)]
    assert made.stop_ids[0] == tokens.response_ids[-1]
    assert made.tokenizer.eos_token_id in made.stop_ids
    assert not made.rewrites_history


def test_text_is_continued_when_there_is_no_template() -> None:
    for made in (template(None), template("chatml", chat="none")):
        tokens = made.encode(Prompt(content="2+3="), Response(content="5"))
        assert made.tokenizer.decode(tokens.prompt_ids + tokens.response_ids) == "<s>2+3=5</s>"
    with_template = template("chatml").encode_prompt(Prompt(content="2+3="))
    assert made.tokenizer.decode(with_template) == "<s><|im_start|>user\n2+3=<|im_end|>\n<|im_start|>assistant\n"


def test_a_template_of_one_s_own() -> None:
    made = template(None, chat=tiny.MISTRAL)
    assert made.tokenizer.decode(made.encode_prompt(Prompt(content=(USER,)))) == "<s>[INST]What is 2+3?[/INST]"


@pytest.mark.parametrize("kind", ["chatml", "llama3", "llama2", "gemma", "mistral"])
def test_of_several_turns_the_assistant_s_alone_are_supervised(kind: str) -> None:
    made = template(kind)
    tokens = made.encode(Prompt(content=(USER,)), Response(content=(CALL, TOOL, ANSWER)))
    whole = made.tokenizer.apply_chat_template([USER, CALL, TOOL, ANSWER], tokenize=False)
    assert "<s>" + whole.removeprefix("<s>").removesuffix("\n") == made.tokenizer.decode(tokens.prompt_ids + tokens.response_ids)
    found = runs(made, tokens)
    stop = tiny.STOP[kind]
    assert [wanted for wanted, _ in found] == [True, False, True]
    assert [text.strip() for wanted, text in found if wanted] == [text + (" " if kind == "llama2" else "") + stop for text in ("I add.", "It is 5.")]
    assert "5" in found[1][1]
    assert "I add" not in found[1][1]


def test_tools_reach_the_template() -> None:
    tools = ({"type": "function", "function": {"name": "add", "parameters": {}}},)
    made = template("llama3")
    assert '"name": "add"' in made.tokenizer.decode(made.encode_prompt(Prompt(content=(USER,), tools=tools)))


def test_arguments_of_a_call_written_as_text_become_an_object() -> None:
    jinja = "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.function.arguments.a }}!{% endfor %}{{ m.content }}<|im_end|>{% endfor %}"
    call = {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": '{"a": 7}'}}]}
    made = template(jinja)
    assert runs(made, made.encode(Prompt(content=(USER,)), Response(content=(call,)))) == [(True, "7!<|im_end|>")]


@pytest.mark.parametrize("kind", ["chatml", "llama3", "mistral"])
def test_a_begun_reply_is_continued(kind: str) -> None:
    made = template(kind)
    tokens = made.encode(Prompt(content=(USER, {"role": "assistant", "content": "It is"})), Response(content=" 5."))
    assert runs(made, tokens) == [(True, " 5." + tiny.STOP[kind])]
    assert made.tokenizer.decode(tokens.prompt_ids).endswith("It is")


def test_a_template_that_forgets_reasoning_is_named_and_single_replies_are_exact() -> None:
    made = template(tiny.FORGETFUL)
    assert made.rewrites_history
    said = "<think>2+3</think>5"
    tokens = made.encode(Prompt(content=(USER, ANSWER, USER)), Response(content=said))
    assert runs(made, tokens) == [(True, said + "<|im_end|>")]
    with pytest.raises(AttuneError, match="rewrites earlier turns"):
        made.encode(Prompt(content=(USER,)), Response(content=({**CALL, "content": said}, TOOL, ANSWER)))


def test_where_the_prompt_is_no_prefix_the_reply_is_its_own_text() -> None:
    made = template(tiny.HASTY)
    assert made.rewrites_history
    tokens = made.encode(Prompt(content=(USER,)), Response(content="2+3</think>5"))
    assert made.tokenizer.decode(tokens.prompt_ids).endswith("assistant\n<think>\n")
    assert runs(made, tokens) == [(True, "2+3</think>5<|im_end|>")]


def test_ids_of_the_sampler_are_used_only_when_asked() -> None:
    ids = (301, 302, 303)
    response = Response(content="whatever", token_ids=ids)
    assert template().encode(Prompt(content="q"), response).response_ids != ids
    tokens = template(use_token_ids=True).encode(Prompt(content="q"), response)
    assert (tokens.response_ids, tokens.supervised) == (ids, (True, True, True))


def test_text_parts_are_joined_and_decoding_leaves_out_what_is_no_text() -> None:
    made = template()
    parts = {"role": "user", "content": [{"type": "text", "text": "What is"}, {"type": "text", "text": "this?"}]}
    assert "user\nWhat is\nthis?<|im_end|>" in made.tokenizer.decode(made.encode_prompt(Prompt(content=(parts,))))
    tokens = made.encode(Prompt(content="q"), Response(content=" a b \n"))
    assert made.decode(tokens.response_ids) == " a b \n"


def test_cut_keeps_the_start_the_end_of_the_prompt_and_the_beginning_of_the_response() -> None:
    made = template(None)
    (start,) = made.start_ids
    tokens = Tokens((start, 11, 12, 13, 14), (21, 22, 23), (True, True, True), 0, 0)
    assert made.cut(tokens, max_prompt=3, max_response=2) == Tokens((start, 13, 14), (21, 22), (True, True), 2, 1)
    assert made.cut(tokens, max_prompt=5, max_response=None) == tokens
    assert made.cut(tokens, max_prompt=1, max_response=3).prompt_ids == (14,)


@pytest.mark.parametrize(
    ("prompt", "response", "said"),
    [
        (Prompt(content="q", images=("a.png",)), Response(content="a"), "reads no images"),
        (Prompt(content=({"role": "user", "content": [{"type": "image_url", "image_url": "a.png"}]},)), Response(content="a"), "text only"),
        (Prompt(content="q"), Response(content=None), "withheld"),
        (Prompt(content="q"), Response(content=(USER, ANSWER)), "begins and ends with an assistant turn"),
        (Prompt(content="q"), Response(content=(CALL, TOOL)), "begins and ends with an assistant turn"),
    ],
)
def test_what_cannot_be_read_is_said(prompt: Prompt, response: Response, said: str) -> None:
    with pytest.raises(AttuneError, match=said):
        template().encode(prompt, response)


def test_turns_without_a_template_and_turns_a_template_refuses() -> None:
    with pytest.raises(AttuneError, match="need a chat template"):
        template(None).encode_prompt(Prompt(content=(USER,)))
    with pytest.raises(AttuneError, match="need a chat template"):
        template(None).encode(Prompt(content="q"), Response(content=(CALL, TOOL, ANSWER)))
    with pytest.raises(AttuneError, match="no system turns"):
        template("llama2").encode_prompt(Prompt(content=({"role": "system", "content": "Be brief."}, USER)))


def test_a_tokenizer_without_a_stop_token_is_refused() -> None:
    bare = tiny.tokenizer()
    bare.eos_token = None
    with pytest.raises(AttuneError, match="no token that ends a response"):
        Template(bare)
