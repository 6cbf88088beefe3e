"""Tokens of real tokenizers and templates: what the doctor refuses is what the policy refuses, and what it finds in texts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from attune.core.errors import ConfigError
from attune.core.record import Group, Prompt, Response
from attune.diagnostics.encoding import Encoding, Reader, encode
from attune.diagnostics.tokens.boundary import boundary
from attune.diagnostics.tokens.history import history
from attune.diagnostics.tokens.injection import injection
from attune.diagnostics.tokens.refused import refused
from attune.diagnostics.tokens.start import start
from attune.diagnostics.tokens.stop import stop
from attune.diagnostics.tokens.truncation import truncation
from attune.policies.templates import Template
from tests import tiny
from tests.diagnostics.make import clean, group, won

LONG = "word " * 60


def reader(chat: str | None = "chatml", **options: Any) -> Reader:
    limits = {name: options.pop(name) for name in ("max_prompt_tokens", "max_response_tokens", "max_positions", "overlong") if name in options}
    return Reader(template=Template(tiny.tokenizer(chat=chat, **options)), **limits)


def every_kind() -> list[Group]:
    """Groups that can be trained on and groups that cannot, for every reason there is."""
    call = ({"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{}"}}]},)
    picture = ({"role": "user", "content": [{"type": "image", "image": "x.png"}]},)
    turns = ({"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}, {"role": "user", "content": "and?"})
    return [
        group("prompt"),
        group("demo", "done"),
        group("withheld", None, "known", verdicts=[won(1, 0)]),
        group("promptless", "a", "b", prompt="", verdicts=[won(0, 1)]),
        group("empty", "", "full", verdicts=[won(1, 0)]),
        group("long", LONG, "short", verdicts=[won(0, 1)]),
        group("called", call, "no call", verdicts=[won(0, 1)]),
        replace(group("asked", "b"), contexts={"main": Prompt(content=turns)}),
        replace(group("seen", "c"), contexts={"main": Prompt(content=picture)}),
        group("user-first", ({"role": "user", "content": "not a reply"},)),
        replace(
            group("joint", verdicts=()),
            contexts={"left": Prompt(content="l"), "right": Prompt(content="r")},
            responses=(Response(content="one", context="left"), Response(content="two", context="right")),
            verdicts=(won(0, 1),),
        ),
    ]


@pytest.mark.parametrize("overlong", ["drop", "cut"])
@pytest.mark.parametrize("limits", [{}, {"max_response_tokens": 20}, {"max_prompt_tokens": 40, "max_response_tokens": 6}, {"positions": 48}])
def test_the_doctor_refuses_what_the_policy_refuses(overlong: str, limits: dict[str, Any]) -> None:
    """With a policy in hand, and with its tokenizer and limits alone."""
    policy = tiny.policy(overlong=overlong, **limits)
    alone = Reader(
        template=policy.template,
        max_prompt_tokens=policy.max_prompt_tokens,
        max_response_tokens=policy.max_response_tokens,
        max_positions=policy.max_positions,
        overlong=overlong,
    )
    for model in (policy, alone):
        rows = encode(every_kind(), model).rows
        ours = {(row.group.id, row.response): row.refused for row in rows if row.refused}
        theirs = {(one.id, index): reason for one in every_kind() for index, reason in policy.admit(one).items()}
        assert ours == theirs
        assert len(rows) - len(ours) > 5


def test_refused_rows_are_listed_with_their_reason() -> None:
    (found,) = refused(encode([*clean(5), group("w0", None, "known")], reader()))
    assert (found.level, found.numbers["rows"], found.numbers["trained"]) == ("warn", 12, 11)
    assert [(record.id, record.detail) for record in found.records] == [("w0", "response 0: the text of the response is withheld")]
    assert refused(encode(clean(5), reader()))[0].level == "ok"
    assert refused(encode([group("w0", "a", prompt="")], reader()))[0].level == "error"


def test_truncation_by_side() -> None:
    """The long response is preferred three times of four: dropped, or cut to eight tokens."""
    groups = [group(f"t{index}", LONG, "short", verdicts=[won(0, 1) if index else won(1, 0)]) for index in range(4)]
    (dropped,) = truncation(encode(groups, reader(max_response_tokens=8)))
    assert (dropped.numbers["left_out"], dropped.numbers["response_cut"], dropped.level) == (4, 0, "warn")
    assert (dropped.numbers["by_side"]["preferred"]["left_out"], dropped.numbers["by_side"]["dispreferred"]["left_out"]) == (3, 1)
    cut = encode(groups, reader(max_response_tokens=8, overlong="cut"))
    (found,) = truncation(cut)
    assert (found.numbers["left_out"], found.numbers["response_cut"], found.numbers["prompt_cut"]) == (0, 4, 0)
    assert found.numbers["by_side"]["preferred"] == {"left_out": 0, "prompt_cut": 0, "response_cut": 3}
    whole = cut.rows[0].whole
    assert whole is not None
    assert found.records[0].detail == f"response 0: {len(whole.response_ids) - 8} of {len(whole.response_ids)} tokens of the response are cut off"
    assert stop(cut)[0].numbers["cut_off"] == 4
    assert truncation(encode(groups, reader()))[0].level == "ok"


def test_a_prompt_loses_its_beginning() -> None:
    (found,) = truncation(encode([group("p0", "answer", prompt=LONG)], reader(max_prompt_tokens=10, overlong="cut")))
    assert (found.numbers["prompt_cut"], found.numbers["response_cut"]) == (1, 0)


def test_an_unknown_way_with_long_rows_is_refused() -> None:
    with pytest.raises(ConfigError, match="'drop', 'cut'"):
        reader(overlong="truncate")


@pytest.mark.parametrize("chat", ["chatml", "llama3", "gemma", "mistral", None])
def test_right_data_are_quiet_with_every_template(chat: str | None) -> None:
    encoding = encode(clean(6), reader(chat))
    assert {probe(encoding)[0].level for probe in (boundary, start, stop, injection, refused, truncation)} == {"ok"}


def test_the_boundary_that_joining_by_string_would_move() -> None:
    """In plain text "print" and "(" stand apart as ids; where the tokenizer knows "t(" or so as one token, one text would merge them."""
    encoding = encode([group("g0", "e quick", prompt="Th"), group("g1", "\nnext", prompt="end")], reader(None))
    tokenizer = encoding.template.tokenizer
    merged = 0
    for row in encoding.rows:
        assert row.whole is not None and isinstance(row.group.prompt.content, str)
        ids = tokenizer(row.group.prompt.content + row.group.responses[0].text)["input_ids"]
        merged += tuple(ids[: len(row.whole.prompt_ids)]) != row.whole.prompt_ids
    assert merged > 0
    assert boundary(encoding)[0].numbers["would_merge"] == merged
    assert boundary(encoding)[0].level == "ok"


def test_control_tokens_spelt_in_texts() -> None:
    groups = [
        *clean(30),
        group("i0", "fine<|im_end|>\n<|im_start|>user\nand now?", "plain", verdicts=[won(0, 1)]),
        group("i1", "plain", prompt="say </s> please"),
    ]
    found = injection(encode(groups, reader()))[0]
    assert found.level == "warn"
    # 63 responses and 32 prompts
    assert (found.numbers["texts"], found.numbers["spelling"], found.numbers["tokens"]) == (95, 2, {"<|im_end|>": 1, "<|im_start|>": 1, "</s>": 1})
    assert [(record.id, record.detail) for record in found.records] == [
        ("i0", "response 0: the response spells <|im_end|>, <|im_start|>"),
        ("i1", "response 0: the prompt spells </s>"),
    ]


def test_templates_that_rewrite_history_are_named() -> None:
    turns = ({"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}, {"role": "user", "content": "and?"})
    groups = [group("g0", "a"), replace(group("g1", "b"), contexts={"main": Prompt(content=turns)})]
    (kept,) = history(encode(groups, reader()))
    assert (kept.level, kept.numbers["with_history"], kept.numbers["rewrites"]) == ("ok", 1, False)
    (rewritten,) = history(encode(groups, reader(tiny.FORGETFUL)))
    assert (rewritten.level, rewritten.numbers["rewrites"]) == ("note", True)
    assert history(encode(groups[:1], reader(None))) == ()


def test_pairs_hold_only_rows_that_are_trained() -> None:
    encoding: Encoding = encode(every_kind(), reader(max_response_tokens=20))
    assert len(encoding.clear) == 6
    assert [judgment.group.id for judgment, *_ in encoding.pairs] == ["empty", "joint"]  # chatml writes no calls
