"""What stands beside the words: tools, calls and reasoning are written or refused, and what the prompt has begun is not written twice."""

from __future__ import annotations

from typing import Any

import pytest

from attune.core.errors import AttuneError
from attune.core.protocols import Row
from attune.core.record import Content, Group, Prompt, Response
from attune.policies.templates import Template, Tokens
from tests import tiny

USER = {"role": "user", "content": "weather in Rome?"}
CALLING = {"type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}}
CALL = {"role": "assistant", "content": None, "tool_calls": [CALLING]}
THOUGHT = {"role": "assistant", "content": "4", "reasoning_content": "2+2"}
TOOLS = ({"type": "function", "function": {"name": "weather"}},)

WRITES = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m['content'] }}"
    "{% for c in m.tool_calls or [] %}<call>{{ c.function.name }}</call>{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n%s{% endif %}"
)
"""Writes tools, reasoning and calls; a generation prompt in place of %s."""

STRIPS = (
    "{% for m in messages %}{% if m.role == 'assistant' %}<|im_start|>assistant\n{{ m.content.split('</think>')[-1] | trim }}<|im_end|>"
    "{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n%s{% endif %}"
)
"""Writes finished turns without their reasoning."""

INSISTS = WRITES.replace(
    "{% for c in m", "{% if m.role == 'assistant' and not m.content and not m.tool_calls %}{{ raise_exception('empty') }}{% endif %}{% for c in m"
)
"""Refuses a turn that neither says nor calls anything."""


def template(jinja: str | None, begun: str = "", **options: Any) -> Template:
    return Template(tiny.tokenizer(chat=jinja and jinja.replace("%s", begun)), **options)


def said(made: Template, content: Content, *, tools: tuple[dict[str, Any], ...] = ()) -> str:
    tokens = made.encode(Prompt(content=(USER,), tools=tools), Response(content=content))
    assert all(tokens.supervised)
    return str(made.tokenizer.decode(list(tokens.response_ids)))


@pytest.mark.parametrize("jinja", [WRITES, INSISTS])
def test_calls_reasoning_and_tools_that_are_written_are_trained(jinja: str) -> None:
    made = template(jinja)
    assert said(made, (CALL,)) == "<call>weather</call><|im_end|>"
    assert said(made, (THOUGHT,)) == "<think>2+2</think>4<|im_end|>"
    assert said(template(jinja, "<think>"), (THOUGHT,)) == "2+2</think>4<|im_end|>"
    asked = made.encode_prompt(Prompt(content=(USER, CALL, {"role": "tool", "content": "sunny"}), tools=TOOLS))
    written = '<s>[{"type": "function", "function": {"name": "weather"}}]<|im_start|>user\nweather in Rome?<|im_end|>\n'
    written += "<|im_start|>assistant\n<call>weather</call><|im_end|>\n<|im_start|>tool\nsunny<|im_end|>\n<|im_start|>assistant\n"
    assert made.tokenizer.decode(asked) == written


def test_the_same_reasoning_under_two_names_is_written_once() -> None:
    assert said(template(WRITES), ({**THOUGHT, "reasoning": "2+2"},)) == "<think>2+2</think>4<|im_end|>"


@pytest.mark.parametrize(
    ("jinja", "begun", "content", "why"),
    [
        (tiny.CHATML, "", (CALL,), "leaves out the calls of the response"),
        (tiny.CHATML, "", ({**CALL, "tool_calls": None, "content": "", "function_call": CALLING["function"]},), "leaves out the calls of the response"),
        (tiny.CHATML, "", (THOUGHT,), "leaves out the reasoning of the response"),
        (
            tiny.CHATML,
            "",
            ({**CALL, "content": "I look."}, {"role": "tool", "content": "sunny"}, {"role": "assistant", "content": "Sun."}),
            "leaves out the calls",
        ),
        (WRITES, "<think>\n", (CALL,), "does not continue its prompt with the calls of the response"),
        (STRIPS, "<think>\n", (THOUGHT,), "does not continue its prompt with the reasoning of the response"),
        (None, "", (CALL,), "turns need a chat template"),
        (None, "", (THOUGHT,), "turns need a chat template"),
    ],
)
def test_a_response_loses_no_call_and_no_reasoning_silently(jinja: str | None, begun: str, content: Content, why: str) -> None:
    with pytest.raises(AttuneError, match=why):
        template(jinja, begun).encode(Prompt(content="q"), Response(content=content))


def test_a_prompt_loses_no_tool_and_no_call_silently() -> None:
    offered = Prompt(content="q", tools=TOOLS)
    with pytest.raises(AttuneError, match="leaves out the tools"):
        template(tiny.CHATML).encode_prompt(offered)
    for plain in (template(None), template(WRITES, chat="none")):
        with pytest.raises(AttuneError, match="tools need a chat template"):
            plain.encode_prompt(offered)
    with pytest.raises(AttuneError, match="leaves out the calls of earlier turns"):
        template(tiny.CHATML).encode_prompt(Prompt(content=(USER, CALL, {"role": "tool", "content": "sunny"})))


def test_what_is_refused_is_counted_and_the_rest_is_trained() -> None:
    group = Group(id="g", contexts={"main": Prompt(content="q")}, responses=(Response(content=(CALL,)), Response(content="no call")))
    policy = tiny.policy()
    assert policy.admit(group) == {0: "the chat template leaves out the calls of the response"}
    assert policy.template.decode(policy.tokens(group, Row(group=0, response=1)).response_ids) == "no call"


REASONED = "r\n</think>\n\n4<|im_end|>"


@pytest.mark.parametrize(
    ("begun", "content", "trained"),
    [
        ("<think>\n", "<think>\nr\n</think>\n\n4", REASONED),
        ("<think>\n", "<think>r\n</think>\n\n4", REASONED),
        ("<think>\n", "r\n</think>\n\n4", REASONED),
        ("<think>\n", "<thinking is hard>", "<thinking is hard><|im_end|>"),
        ("<think>\n", "4", "4<|im_end|>"),
        ("<think>\n\n</think>\n\n", "<think>\n\n</think>\n\n4", "4<|im_end|>"),
        ("", "<think>\nr\n</think>\n\n4", "<think>\n" + REASONED),  # the template would take the reasoning out
        ("", " 4\n", "4<|im_end|>"),  # and it trims
    ],
)
def test_what_the_generation_prompt_has_begun_is_not_written_twice(begun: str, content: str, trained: str) -> None:
    assert said(template(STRIPS, begun), content) == trained


def test_a_line_break_in_the_generation_prompt_is_no_beginning_of_a_reply() -> None:
    jinja = "{% for m in messages %}{{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}{% if add_generation_prompt %}assistant:\n{% endif %}"
    assert said(template(jinja), "\n4") == "\n4<|im_end|>"


def test_a_begun_reply_is_no_generation_prompt() -> None:
    """Behind a reply that the prompt has begun, the response's own words stay whatever they are."""
    made = template(tiny.HASTY)
    begun = {"role": "assistant", "content": "So:"}
    tokens: Tokens = made.encode(Prompt(content=(USER, begun)), Response(content="<think>\nr"))
    assert made.tokenizer.decode(list(tokens.response_ids)) == "<think>\nr<|im_end|>"


def test_switches_of_the_template_reach_it() -> None:
    """A template with a switch, as reasoning models have: the switch of the data decides what the prompt ends with."""
    written = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    asked = "{% if add_generation_prompt %}<|im_start|>assistant\n{% if not quick %}<think>\n{% endif %}{% endif %}"
    template = Template(tiny.tokenizer(chat="chatml"), chat=written + asked)
    ends = {}
    for quick in (False, True):
        prompt = Prompt(content=({"role": "user", "content": "q"},), meta={"chat_template_kwargs": {"quick": quick}})
        ends[quick] = template.tokenizer.decode(template.encode_prompt(prompt))
    assert ends[False] == ends[True] + "<think>\n"


def test_the_data_do_not_choose_the_template() -> None:
    template = Template(tiny.tokenizer(chat="chatml"))
    prompt = Prompt(content="q", meta={"chat_template_kwargs": {"chat_template": "{{ messages }}"}})
    with pytest.raises(AttuneError, match=r"chat_template_kwargs\.chat_template"):
        template.encode_prompt(prompt)
