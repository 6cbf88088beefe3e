"""From words to token ids: one prompt, its responses, and which of their tokens are supervised.

A prompt is tokenised once, a response alone, and the two are joined by id, never by string: the prompt's ids are an exact
prefix of every response's row, adding a response changes no token of another one, and what a sampler continues is what was
trained. Under a chat template the response is the tail of the rendered conversation behind the rendered prompt, up to the
token that ends the turn. That token is supervised; the newline that many templates write behind it is not part of the response.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any

from attune.core.errors import AttuneError
from attune.core.record import TEMPLATE_OPTIONS, Message, Prompt, Response

_MARK = "x7Qz"  # a reply no template writes by itself, to find where a reply begins and ends
_BESIDE: Mapping[str, tuple[str, ...]] = {"calls": ("tool_calls", "function_call"), "reasoning": ("reasoning_content", "reasoning", "thinking")}
"""What an assistant's turn can say beside its content, and the names it goes by. A template writes it in its own way, or not at all."""
_OWN = ("chat_template", "tools", "tokenize", "add_generation_prompt", "continue_final_message", "return_dict", "padding", "truncation", "max_length")
"""What a chat template is called with by us, whatever the data say."""
_MEND = "give a template that writes them, or take them out of the record"


@dataclass(frozen=True, slots=True)
class Tokens:
    """One response behind its prompt."""

    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    supervised: tuple[bool, ...]
    # one for each response id; False for what other roles say inside a response of several turns
    prompt_cut: int
    # tokens left out behind the prompt's start token
    response_cut: int
    # tokens left out at the response's end


@dataclass(frozen=True, slots=True)
class Offer:
    """What a chat template is called with beside the turns."""

    tools: tuple[Mapping[str, Any], ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    # the template's own switches (enable_thinking ...), as the data give them


class Template:
    """How one tokenizer writes conversations.

    Attributes:
        chat: whether prompts go through a chat template.
        stop_id: the token that ends a reply.
        start_ids: what stands before every prompt (a BOS token, or nothing).
        rewrites_history: whether the template writes an earlier turn otherwise than it wrote the same turn when it was the
            last (templates that drop reasoning do). Single replies are then still exact: where the rendered prompt is no
            prefix of the rendered conversation, or words of the reply are missing there, the response is its own text and
            the stop token, as a sampler would give it, without what the generation prompt has already begun of it
            (`<think>`). A response of several turns, or one that says something beside its text, cannot be one row there
            and is refused.
    """

    def __init__(self, tokenizer: Any, *, chat: str = "auto", use_token_ids: bool = False) -> None:
        """Learns from two rendered conversations how a reply ends.

        Args:
            tokenizer: a tokenizer of transformers.
            chat: "auto": the tokenizer's chat template if it has one (a text prompt is then one user turn), else plain text;
                "none": plain text, with an end-of-text token behind the response; anything else: a chat template in
                Jinja, which the tokenizer takes over.
            use_token_ids: whether Response.token_ids, where given, replace the tokens of its text. Only for responses that
                were sampled with this tokenizer.

        Raises:
            AttuneError: the tokenizer lacks a stop token, or its template cannot be rendered.
        """
        self.tokenizer, self.use_token_ids = tokenizer, use_token_ids
        if chat not in ("auto", "none"):
            tokenizer.chat_template = chat
        self.chat = chat != "none" and bool(tokenizer.chat_template)
        self.start_ids = self._start()
        self._anchor = self._find_anchor()
        self._specials = {str(token): index for index, token in tokenizer.added_tokens_decoder.items() if str(token).strip()}
        self._ending, self._stop_text, self._begun = "", "", ""
        self.rewrites_history = False
        if self.chat:
            self._learn_ending()
        stop = self._specials[self._stop_text] if self._stop_text else tokenizer.eos_token_id
        if stop is None:
            raise AttuneError("the tokenizer has no token that ends a response", field="tokenizer.eos_token", allowed="a tokenizer with an EOS token")
        self.stop_id = int(stop)

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """The tokens at which a sampler stops: the end of a turn, and the end of a text."""
        eos = self.tokenizer.eos_token_id
        return (self.stop_id,) if eos is None or eos == self.stop_id else (self.stop_id, int(eos))

    def encode_prompt(self, prompt: Prompt) -> tuple[int, ...]:
        """Returns the ids that a response is read, or sampled, behind.

        Raises:
            AttuneError: images, parts that are no text, turns or tools without a chat template, a template that refuses the
                turns, or one that leaves out the tools or the calls of earlier turns.
        """
        if not self.chat:
            return self._with_start(self._plain_ids(_plain_text(prompt)))
        turns, offer = _turns(prompt), _offer(prompt)
        written = self._rendered_prompt(turns, offer)
        if offer.tools and self._same_without(written, turns, replace(offer, tools=())):
            raise AttuneError("the chat template leaves out the tools", field="prompt.tools", value=len(offer.tools), mend=_MEND)
        if any("calls" in _beside(turn) for turn in turns) and self._same_without(written, [_less(turn, "calls") for turn in turns], offer):
            raise AttuneError("the chat template leaves out the calls of earlier turns", field="prompt.content", mend=_MEND)
        return self._with_start(self._plain_ids(written))

    def encode(self, prompt: Prompt, response: Response) -> Tokens:
        """Returns one row's ids and which of them are supervised, uncut.

        Raises:
            AttuneError: as `encode_prompt`; or the response is withheld, its turns cannot be one row, or it holds calls or
                reasoning that the template would not write into it.
        """
        prompt_ids = self.encode_prompt(prompt)
        if response.content is None:
            raise AttuneError("the text of the response is withheld", field="response.content")
        turns = _reply(response.content)
        if self.use_token_ids and response.token_ids and len(turns) == 1:
            ids, supervised = list(response.token_ids), [True] * len(response.token_ids)
        elif self.chat:
            ids, supervised = self._encode_turns(_turns(prompt), _offer(prompt), turns)
        else:
            if len(turns) > 1 or _beside(turns[0]):
                raise AttuneError("turns need a chat template and the tokenizer has none", field="response.content", mend="give one with chat=")
            ids = [*self._joined_ids(turns[0]["content"]), self.stop_id]
            supervised = [True] * len(ids)
        return Tokens(prompt_ids, tuple(ids), tuple(supervised), 0, 0)

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of a response's ids, without the tokens that are no text (the stop token among them)."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def cut(self, tokens: Tokens, *, max_prompt: int | None, max_response: int | None) -> Tokens:
        """Returns a row that fits: the end of the prompt behind its start token, the beginning of the response."""
        prompt_ids, num_start = tokens.prompt_ids, len(self.start_ids)
        if max_prompt is not None and len(prompt_ids) > max_prompt:
            start = prompt_ids[:num_start] if prompt_ids[:num_start] == self.start_ids and num_start < max_prompt else ()
            prompt_ids = start + prompt_ids[len(prompt_ids) - (max_prompt - len(start)) :]
        return replace(
            tokens,
            prompt_ids=prompt_ids,
            response_ids=tokens.response_ids[:max_response],
            supervised=tokens.supervised[:max_response],
            prompt_cut=len(tokens.prompt_ids) - len(prompt_ids),
            response_cut=len(tokens.response_ids) - len(tokens.response_ids[:max_response]),
        )

    def _encode_turns(self, history: list[dict[str, Any]], offer: Offer, turns: list[dict[str, Any]]) -> tuple[list[int], list[bool]]:
        for turn in (turns[0], turns[-1]):
            if turn["role"] != "assistant":
                raise AttuneError("a response begins and ends with an assistant turn", field="response.content.role", value=turn["role"], allowed="'assistant'")
        ids: list[int] = []
        supervised: list[bool] = []
        written = ""
        for index, turn in enumerate(turns):
            if turn["role"] != "assistant":
                continue
            before = self._rendered_prompt(_merged(history, turns[:index]) if index else history, offer)
            done = self._render(_merged(history, turns[: index + 1]), offer)
            # a template that takes reasoning out of what is said must not take it out of what is trained
            kept = before.startswith(written) and done.startswith(before) and _squeezed(turn["content"]) in _squeezed(done)
            if not kept and len(turns) > 1:
                mend = "the template rewrites earlier turns; give its turns as responses of their own"
                raise AttuneError("a response of several turns cannot be one row", field="response.content", mend=mend)
            for what in _beside(turn):
                if not kept:
                    raise AttuneError(f"the chat template does not continue its prompt with the {what} of the response", field="response.content", mend=_MEND)
                if self._same_without(done, _merged(history, [*turns[:index], _less(turn, what)]), offer, finished=True):
                    raise AttuneError(f"the chat template leaves out the {what} of the response", field="response.content", mend=_MEND)
            gap = self._joined_ids(before[len(written) :]) if index else []
            body, stop, length = self._split_stop(done[len(before) :]) if kept else (self._unbegun(turn["content"], before), self.stop_id, 0)
            reply = [*self._joined_ids(body), stop]
            ids += gap + reply
            supervised += [False] * len(gap) + [True] * len(reply)
            written = before + done[len(before) :][:length]
        return ids, supervised

    def _split_stop(self, tail: str) -> tuple[str, int, int]:
        """Returns a rendered reply's text, the id of its stop token, and how many characters the two take."""
        if not self._stop_text:
            body = tail.removesuffix(self._ending)
            return body, self.stop_id, len(body)
        trimmed = tail.rstrip()
        for text in (self._stop_text, *self._specials):  # a tool call may end with a stop token of its own
            if trimmed.endswith(text):
                return trimmed[: -len(text)], self._specials[text], len(trimmed)
        end = tail.rfind(self._stop_text)
        if end < 0:
            raise AttuneError("the chat template ended a turn without a stop token", field="chat_template", value=tail[-40:])
        return tail[:end], self.stop_id, end + len(self._stop_text)

    def _learn_ending(self) -> None:
        user, reply = {"role": "user", "content": "q"}, {"role": "assistant", "content": _MARK}
        done = self._render([user, reply], Offer())
        if _MARK not in done:
            raise AttuneError("the chat template leaves out what the assistant says", field="chat_template", value=done)
        self._ending = done[done.rindex(_MARK) + len(_MARK) :]
        stops = [text for text in self._specials if text in self._ending]
        self._stop_text = min(stops, key=lambda text: (self._ending.index(text), -len(text)), default="")
        written, asked = done[: len(done) - len(self._ending)], self._rendered_prompt([user], Offer())
        num_shared = sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(asked, done, strict=False)))
        begun = asked[num_shared:]
        self._begun = begun if begun.strip() else ""
        thought = {"role": "assistant", "content": f"<think>\nr\n</think>\n\n{_MARK}"}
        alone = self._render([user, thought], Offer())
        alone = alone[: alone.rfind(_MARK)]
        again = self._render([user, thought, user], Offer())
        self.rewrites_history = not (written.startswith(asked) and again.startswith(alone))

    def _unbegun(self, text: str, before: str) -> str:
        """Returns a reply's text without what the rendered prompt has written of it, beyond the header that finished replies have too."""
        if not before.endswith(self._begun):
            return text
        return text.removeprefix(self._begun if text.startswith(self._begun) else self._begun.strip())

    def _same_without(self, written: str, less: list[dict[str, Any]], offer: Offer, *, finished: bool = False) -> bool:
        """Says whether a conversation reads the same without a part of it, so that the template leaves that part out."""
        try:
            return written == (self._render(less, offer) if finished else self._rendered_prompt(less, offer))
        except AttuneError:  # a template that insists on the part reads it
            return False

    def _rendered_prompt(self, turns: list[dict[str, Any]], offer: Offer) -> str:
        if turns[-1]["role"] == "assistant":
            return self._render(turns, offer, continue_final_message=True)
        return self._render(turns, offer, add_generation_prompt=True)

    def _render(self, turns: list[dict[str, Any]], offer: Offer, **how: bool) -> str:
        from jinja2 import TemplateError

        try:
            return str(
                self.tokenizer.apply_chat_template(turns, tools=[dict(tool) for tool in offer.tools] or None, tokenize=False, **{**offer.options, **how})
            )
        except (TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RecursionError) as error:  # somebody else's program
            raise AttuneError(f"the chat template refuses the conversation: {error}", field="chat_template") from error

    def _plain_ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _joined_ids(self, text: str) -> list[int]:
        """Returns the ids of a text that does not stand at the beginning: no space is put before it."""
        return self._plain_ids(self._anchor + text)[1:] if self._anchor else self._plain_ids(text)

    def _find_anchor(self) -> str:
        """Returns a token to write before a text, where this tokenizer would put a space before what it takes for a beginning."""
        alone = self._plain_ids("a")
        for anchor in (self.tokenizer.eos_token, self.tokenizer.bos_token):
            if anchor is None or len(self._plain_ids(anchor)) != 1:
                continue
            behind, spaced = self._plain_ids(anchor + "a")[1:], self._plain_ids(anchor + " a")[1:]
            if behind not in (alone, spaced):  # some tokens swallow the space behind them
                return str(anchor)
        return ""

    def _start(self) -> tuple[int, ...]:
        bare, dressed = self._plain_ids("a"), list(self.tokenizer("a")["input_ids"])
        return tuple(dressed[: next((at for at in range(len(dressed)) if dressed[at : at + len(bare)] == bare), 0)])

    def _with_start(self, ids: list[int]) -> tuple[int, ...]:
        """Returns the ids with exactly one start, whether the template, the tokenizer, both or the text itself wrote it."""
        bos, found = self.tokenizer.bos_token_id, tuple(ids)
        start = self.start_ids or ((bos,) if bos is not None and found[:1] == (bos,) else ())
        while start and found[: len(start)] == start:
            found = found[len(start) :]
        return start + found


def _offer(prompt: Prompt) -> Offer:
    options = prompt.meta.get(TEMPLATE_OPTIONS) or {}
    for name in options:
        if name in _OWN:
            raise AttuneError(
                "the data may not set this", field=f"prompt.meta.{TEMPLATE_OPTIONS}.{name}", value=options[name], allowed="switches of the template's own"
            )
    return Offer(prompt.tools, options)


def _turns(prompt: Prompt) -> list[dict[str, Any]]:
    if prompt.images:
        raise AttuneError("this policy reads no images", field="prompt.images", value=len(prompt.images), allowed="none")
    if isinstance(prompt.content, str):
        return [{"role": "user", "content": prompt.content}]
    return [_plain_message(message) for message in prompt.content]


def _plain_text(prompt: Prompt) -> str:
    if prompt.images:
        raise AttuneError("this policy reads no images", field="prompt.images", value=len(prompt.images), allowed="none")
    if prompt.tools or not isinstance(prompt.content, str):
        what, field = ("tools", "prompt.tools") if prompt.tools else ("turns", "prompt.content")
        raise AttuneError(f"{what} need a chat template and the tokenizer has none", field=field, mend="give one with chat=")
    return prompt.content


def _reply(content: str | tuple[Message, ...]) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": content}] if isinstance(content, str) else [_plain_message(message) for message in content]


def _plain_message(message: Message) -> dict[str, Any]:
    """Returns the turn with text for its content and objects for the arguments of its calls, as templates expect them."""
    said = message.get("content")
    if said is not None and not isinstance(said, str):
        kinds = [part.get("type", "text") if isinstance(part, Mapping) else "text" for part in said]
        other = next((kind for kind in kinds if kind != "text"), None)
        if other is not None:
            raise AttuneError("this policy reads text only", field="content.type", value=other, allowed="'text'")
        said = "\n".join(part["text"] if isinstance(part, Mapping) else str(part) for part in said)
    plain = {**message, "content": said or ""}
    if plain.get("tool_calls"):
        plain["tool_calls"] = [_plain_call(call) for call in plain["tool_calls"]]
    return plain


def _squeezed(text: str) -> str:
    return "".join(text.split())


def _beside(turn: Mapping[str, Any]) -> list[str]:
    return [what for what, names in _BESIDE.items() if any(turn.get(name) for name in names)]


def _less(turn: Mapping[str, Any], what: str) -> dict[str, Any]:
    return {name: said for name, said in turn.items() if name not in _BESIDE[what]}


def _plain_call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), str):
        return dict(call)
    try:
        arguments = json.loads(function["arguments"])
    except json.JSONDecodeError:  # not an object written as text: the template gets what the source said
        return dict(call)
    return {**call, "function": {**function, "arguments": arguments}}


def _merged(history: list[dict[str, Any]], turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the whole conversation; a reply that continues a begun assistant turn becomes one with it."""
    if history[-1]["role"] != "assistant":
        return history + turns
    begun = {**history[-1], **turns[0], "content": history[-1]["content"] + turns[0]["content"]}
    return [*history[:-1], begun, *turns[1:]]
