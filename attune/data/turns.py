"""What the chat formats share: turns in their several spellings, what is offered with them, and where a prompt ends."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attune.core.errors import RecordError
from attune.core.record import MAIN, TEMPLATE_OPTIONS, Content, Group, Message, Prompt, Response, Source
from attune.data import codec, fields

OFFERED = ("tools", "images", "image", TEMPLATE_OPTIONS)
"""Fields that belong to the prompt, whatever the format."""

ALPACA = ("instruction", "input", "output", "system", "history")
"""Fields of an Alpaca-style record that are said in it."""

_TAGS = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    "tool": "tool",
}
_EXTRA_ID = re.compile(r"\n?<extra_id_1>(User|Assistant)\n")
_EXTRA_ID_ROLES = {"User": "user", "Assistant": "assistant"}
_WIDE = 0x2E80  # from here on scripts are written without spaces between words, so that any character may begin one
_WIDE_END = 0x1F000  # symbols and emoji, which combine with each other, begin here


def ask(content: Content, record: Mapping[str, Any]) -> dict[str, Prompt]:
    """Returns contexts with one prompt and what `record` offers with it (OFFERED). Raises RecordError for what is malformed there."""
    images = record.get("images", record.get("image"))
    images = () if images is None else tuple(images) if isinstance(images, (list, tuple)) else (images,)
    kwargs = record.get(TEMPLATE_OPTIONS)
    meta = {} if not kwargs else {TEMPLATE_OPTIONS: fields.as_mapping(kwargs, TEMPLATE_OPTIONS)}
    return {MAIN: Prompt(content=content, tools=_tools(record.get("tools")), images=images, meta=meta)}


def sharegpt(value: Any, where: str) -> tuple[Message, ...]:
    """Returns turns spelt with from/value (or role/content) as messages.

    A function call becomes an assistant's turn and an observation a tool's; their text is kept as it is, because how a call is written
    differs by template.

    Raises:
        RecordError: naming the turn at fault below `where`.
    """
    if not isinstance(value, (list, tuple)) or not value:
        raise RecordError("it is a list of turns", field=where, value=value, allowed="a list of at least one turn")
    return tuple(sharegpt_turn(turn, f"{where}[{index}]") for index, turn in enumerate(value))


def sharegpt_turn(value: Any, where: str) -> Message:
    """Returns one turn spelt with from/value (or role/content). Raises RecordError naming `where`."""
    turn = fields.as_mapping(value, where)
    if "role" in turn:
        return fields.as_message(turn, where)
    tag = turn.get("from")
    if not isinstance(tag, str) or tag not in _TAGS:
        raise RecordError("nobody of that name speaks in a turn", field=f"{where}.from", value=tag, allowed=", ".join(_TAGS))
    content = fields.as_text(turn.get("value"), f"{where}.value", empty=True)
    return {"role": _TAGS[tag], "content": content, **fields.rest(turn, "from", "value")}


def exchange(record: Mapping[str, Any], asked: str, answered: str) -> tuple[Content, Content]:
    """Returns the prompt and the answer that stand in two fields; turns answer turns (a text prompt among them is what the user says). Raises RecordError."""
    prompt, reply = fields.content(record, asked), fields.content(record, answered, empty=True)
    if isinstance(reply, str):
        return prompt, reply
    return ({"role": "user", "content": prompt},) if isinstance(prompt, str) else prompt, answer(reply, answered)


def answer(turns: Sequence[Message], where: str) -> Content:
    """Returns the turns of an answer: bare text where a lone assistant's turn holds nothing else.

    Raises:
        RecordError: it does not begin with the assistant, or somebody else than the assistant and tools speaks in it.
    """
    for index, turn in enumerate(turns):
        allowed = ("assistant", "tool") if index else ("assistant",)
        if turn["role"] not in allowed:
            raise RecordError(
                "only the assistant, and tools after it, speak in an answer", field=f"{where}[{index}].role", value=turn["role"], allowed=", ".join(allowed)
            )
    if len(turns) == 1 and turns[0].keys() == {"role", "content"} and isinstance(turns[0]["content"], str):
        return turns[0]["content"]
    return tuple(turns)


def said(content: Content) -> list[Message]:
    """Undoes `answer`: returns an answer as turns."""
    return [{"role": "assistant", "content": content}] if isinstance(content, str) else list(content)


def is_transcript(value: Any) -> bool:
    """Whether a text is a dialogue written out with "Human:" and "Assistant:" before each turn, as hh-rlhf writes them."""
    return isinstance(value, str) and value.startswith("\n\nHuman:")


def split_turns(chosen: Sequence[Message], rejected: Sequence[Message]) -> int:
    """Returns how many turns two dialogues share as their prompt: the longest common prefix after which the assistant speaks in both.

    Raises:
        RecordError: there is none: they differ before any answer.
    """
    shared = 0
    while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
        shared += 1
    for end in range(min(shared, len(chosen) - 1, len(rejected) - 1), 0, -1):
        if chosen[end]["role"] == rejected[end]["role"] == "assistant":
            return end
    value = chosen[min(shared, len(chosen) - 1)]
    raise RecordError(
        f"the dialogues differ at turn {shared + 1}, before the assistant answers", field="chosen", value=value, allowed="the same turns up to an answer"
    )


def split_text(chosen: str, rejected: str) -> int:
    """Returns how many characters two texts share as their prompt.

    The longest common prefix that ends at the end of a word in both texts and leaves something in both; white space before the next
    word goes to the answers. 0: they share no whole word.
    """
    end = 0
    while end < min(len(chosen), len(rejected)) and chosen[end] == rejected[end]:
        end += 1
    end = min(end, len(chosen) - 1, len(rejected) - 1)
    while end > 0 and not (_ends_word(chosen, end) and _ends_word(rejected, end)):
        end -= 1
    return max(end, 0)


def dialogue(record: Mapping[str, Any], name: str) -> tuple[Message, ...]:
    """Returns the turns in a field in either spelling, behind the system prompt that may stand in the field `system`. Raises RecordError."""
    turns = sharegpt(record.get(name), name)
    system = fields.optional_text(record, "system")
    # a system turn inside the dialogue wins over the field, as LLaMA-Factory has it
    return turns if system is None or turns[0]["role"] == "system" else ({"role": "system", "content": system}, *turns)


def alpaca(record: Mapping[str, Any]) -> tuple[Message, ...]:
    """Returns the turns of an Alpaca-style record: system, the rounds of its history, instruction and input joined by a newline. Raises RecordError."""
    turns: list[Message] = []
    if (system := fields.optional_text(record, "system")) is not None:
        turns.append({"role": "system", "content": system})
    rounds = () if record.get("history") is None else fields.items(record, "history", empty=True)
    for index, spoken in enumerate(rounds):
        where = f"history[{index}]"
        if not isinstance(spoken, (list, tuple)) or len(spoken) != 2:
            raise RecordError("a round is an instruction and an answer", field=where, value=spoken, allowed="[instruction, answer]")
        turns += [{"role": role, "content": fields.as_text(words, where, empty=True)} for role, words in zip(("user", "assistant"), spoken, strict=True)]
    parts = (fields.text(record, "instruction"), fields.optional_text(record, "input"))
    return (*turns, {"role": "user", "content": "\n".join(part for part in parts if part)})


def extra_id(text: str, where: str) -> tuple[Message, ...]:
    """Returns the turns of a HelpSteer2 prompt, where <extra_id_1> and a name on its own line open every turn but the first. Raises RecordError."""
    first, *pieces = _EXTRA_ID.split(text)
    turns = [{"role": "user", "content": first}]
    turns += [{"role": _EXTRA_ID_ROLES[who], "content": words} for who, words in zip(pieces[::2], pieces[1::2], strict=True)]
    if turns[-1]["role"] != "user":
        raise RecordError("a prompt ends with the user's turn", field=where, value=text[-60:], allowed="the user's turn last")
    return tuple(turns)


def lessons(said_turns: Sequence[Message], where: str, record: Mapping[str, Any], source: Source) -> Iterator[Group]:
    """Yields a demonstration for every turn of the assistant, its prompt being all turns before it.

    A turn of weight 0 (OpenAI's way to say: do not learn this) gives none; a dialogue without any assistant's turn is a prompt.

    Raises:
        RecordError: the assistant speaks first, or none of its turns is to be learnt.
    """
    bare = [{name: value for name, value in turn.items() if name != "weight"} for turn in said_turns]
    spoken = [index for index, turn in enumerate(said_turns) if turn["role"] == "assistant"]
    learnt = [index for index in spoken if said_turns[index].get("weight", 1) != 0]
    if spoken and (spoken[0] == 0 or not learnt):
        message = "a dialogue opens with the user or the system" if spoken[0] == 0 else "no turn of the assistant is to be learnt (weight 0)"
        raise RecordError(message, field=f"{where}[{spoken[0]}]", value=said_turns[spoken[0]], allowed="a prompt, and an answer to learn")
    own = fields.own_name(record, "id", "prompt_id")
    for index in learnt or [len(bare)]:
        contexts = ask(tuple(bare[:index]), record)
        name = fields.named(contexts) if own is None else own if len(learnt) < 2 else f"{own}#{index}"
        responses = tuple(Response(content=answer([turn], f"{where}[{index}]")) for turn in bare[index : index + 1])
        yield Group(id=name, contexts=contexts, responses=responses, source=source, meta=fields.rest(record, where, "system", "id", "prompt_id", *OFFERED))


def _tools(value: Any) -> tuple[Mapping[str, Any], ...]:
    """Tools come as a list of schemas, or as the JSON text of one."""
    if isinstance(value, str) and value:
        try:
            value = codec.loads(value)
        except ValueError as error:
            raise RecordError(f"the text is not JSON: {error}", field="tools", value=value, allowed="a list of JSON schemas") from None
    if not value:
        return ()
    if not isinstance(value, (list, tuple)):
        raise RecordError("tools are a list", field="tools", value=value, allowed="a list of JSON schemas")
    return tuple(fields.as_mapping(tool, f"tools[{index}]") for index, tool in enumerate(value))


def _ends_word(text: str, at: int) -> bool:
    """Whether a word of `text` ends before `at`: white space follows it, or both neighbours are of a script that needs none."""
    before, after = text[at - 1], text[at]
    return not before.isspace() and (
        after.isspace() or (_WIDE <= ord(before) < _WIDE_END and _WIDE <= ord(after) < _WIDE_END and not unicodedata.combining(after))
    )
