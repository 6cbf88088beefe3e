"""The record: what was asked, what was answered, and what people, models or programs said about the answers.

Everything is frozen and keyword-only. Missing is never 0: a field nobody filled is None, a list nobody looked at is None,
and an empty list means that somebody looked and found nothing. A Group is the unit that flows through attune:

    K = 0 responses   a prompt to sample from
    K = 1             a demonstration, or binary feedback when it is rated
    K = 2             a pair
    K > 2             a list
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from attune.core.errors import RecordError

Message = Mapping[str, Any]
"""One turn in the form everybody uses: `role` and `content` (text, or a list of typed parts), plus whatever else the
source carried (`tool_calls`, `tool_call_id`, `name`, ...), kept as it came."""

Content = str | tuple[Message, ...]
"""Plain text, or turns."""

TEMPLATE_OPTIONS = "chat_template_kwargs"
"""Key of `Prompt.meta` with the switches a chat template is called with (enable_thinking ...): they change the text a model reads."""

MAIN = "main"
"""Name of the context a response answers unless it says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What a model is asked: plain text, or the turns so far (a system turn included)."""

    content: Content
    # text is continued as it is; messages go through the model's chat template
    tools: tuple[Mapping[str, Any], ...] = ()
    # JSON schemas of the tools offered; empty: none were
    images: tuple[Any, ...] = ()
    # paths, URIs or encoded images that the turns refer to, in order; empty: none
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_content(self.content, "prompt.content", empty=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A stretch of a response that somebody marked."""

    start: int
    # first character of the response's text, 0-based
    end: int
    # one past the last character; start < end
    type: str
    note: str | None = None
    annotator: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise RecordError("a span covers at least one character", field="span", value=(self.start, self.end), allowed="0 <= start < end")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step of a solution and whether it is right."""

    end: int
    # one past the last character of the step in the response's text; the next step starts here
    label: float | None = None
    # 1 right, 0 wrong, between: a probability; None: not judged
    note: str | None = None
    annotator: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One replacement inside an edit."""

    original: str
    # the words that were replaced; "" for a pure insertion
    replacement: str
    # the words that stand there now; "" for a deletion
    start: int | None = None
    # first character of `original` in the edited response's text; None: it could not be located
    type: str | None = None
    # the editor's category


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """Says that a response was made by editing another one of its group."""

    of: int
    # index of the response that was edited
    changes: tuple[Change, ...] | None = None
    # None: only the two texts are known
    annotator: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One answer, from a person, a model or a program."""

    content: Content | None
    # text or turns; None: withheld or unknown, so it can be counted and compared by label but not trained on
    generator: str | None = None
    # who wrote it
    token_ids: tuple[int, ...] | None = None
    # the sampler's own tokens; None: tokenise the content
    logps: tuple[float, ...] | None = None
    # nats, the sampler's own log-probability of each token; None: unknown
    scores: Mapping[str, float] = field(default_factory=dict)
    # aspect -> number given by a program or a model; an absent aspect was not scored
    spans: tuple[Span, ...] | None = None
    # None: nobody marked spans; (): looked at, none found
    steps: tuple[Step, ...] | None = None
    critique: str | None = None
    edit: Edit | None = None
    context: str = MAIN
    # the name of the prompt it answers
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.content is not None:
            _check_content(self.content, "response.content", empty=True)
        for aspect, score in self.scores.items():
            if not _is_number(score):
                raise RecordError("a score is a finite number", field=f"response.scores.{aspect}", value=score, allowed="a finite number, or leave it out")
        if self.logps is not None and self.token_ids is not None and len(self.logps) != len(self.token_ids):
            raise RecordError("one log-probability per token", field="response.logps", value=len(self.logps), allowed=f"{len(self.token_ids)} values")
        length = len(self.text) if isinstance(self.content, str) else None
        for span in self.spans or ():
            if length is not None and span.end > length:
                raise RecordError("a span ends after its text", field="response.spans", value=span.end, allowed=f"at most {length}")
        ends = [0, *(step.end for step in self.steps or ())]
        if ends != sorted(ends) or (length is not None and ends[-1] > length):
            raise RecordError("steps follow each other inside the text", field="response.steps", value=ends[1:], allowed=f"rising, at most {length}")

    @property
    def text(self) -> str:
        """The words of the response: its text, or the text of its turns joined by newlines ("" when withheld)."""
        return text_of(self.content)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """What somebody said about one response alone: thumbs, stars, an attribute, a test passed."""

    response: int
    # index into the group's responses
    value: float | Literal["abstain"]
    # on `scale`; "abstain": was asked and did not say
    scale: tuple[float, float] | None = None
    # (lowest, highest) value possible; (0, 1) for thumbs; None: unknown
    aspect: str | None = None
    # what was rated (helpfulness ...); None: the response overall
    annotator: str | None = None
    reason: str | None = None
    confidence: float | None = None
    # in [0, 1]

    def __post_init__(self) -> None:
        if self.value != "abstain" and not _is_number(self.value):
            raise RecordError("a rating is a finite number", field="rating.value", value=self.value, allowed="a finite number or 'abstain'")
        if self.scale is not None:
            low, high = self.scale
            if not low < high:
                raise RecordError("a scale rises", field="rating.scale", value=self.scale, allowed="(lowest, highest)")
            if self.value != "abstain" and not low <= self.value <= high:
                raise RecordError("a rating lies on its scale", field="rating.value", value=self.value, allowed=f"{low:g} to {high:g}")
        _check_unit(self.confidence, "rating.confidence")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What somebody said about several responses against each other."""

    tiers: tuple[tuple[int, ...], ...]
    # best to worst; two indices in one tier are a tie; responses not named were not compared
    presented: tuple[int, ...] | None = None
    # the order in which they were shown; None: unknown
    annotator: str | None = None
    criterion: str | None = None
    # what "better" meant; None: overall
    strength: float | None = None
    # how much better the first tier is, in the source's own unit, >= 0; None: not said
    both_bad: bool = False
    # the annotator said that none of them is acceptable
    confidence: float | None = None
    # in [0, 1]
    reason: str | None = None
    guideline: str | None = None
    # version of the instructions the annotator followed

    def __post_init__(self) -> None:
        named = [index for tier in self.tiers for index in tier]
        if len(named) < 2 or len(set(named)) != len(named) or not all(self.tiers):
            raise RecordError("a verdict puts at least two different responses into non-empty tiers", field="verdict.tiers", value=self.tiers)
        if self.presented is not None and sorted(self.presented) != sorted(named):
            raise RecordError("presented lists what was compared", field="verdict.presented", value=self.presented, allowed=f"an order of {sorted(named)}")
        if self.strength is not None and not (_is_number(self.strength) and self.strength >= 0):
            raise RecordError("a strength is a number >= 0", field="verdict.strength", value=self.strength)
        _check_unit(self.confidence, "verdict.confidence")

    def order(self, first: int, second: int) -> int | None:
        """Returns 1 if `first` beats `second`, -1 if it loses, 0 for a tie, None where the verdict does not compare them."""
        tier_of = {index: tier for tier, members in enumerate(self.tiers) for index in members}
        if first not in tier_of or second not in tier_of:
            return None
        return (tier_of[second] > tier_of[first]) - (tier_of[second] < tier_of[first])


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a group was read from."""

    file: str
    line: int | None = None
    # 1-based; None: the file has no lines (Parquet: the row number, 1-based)
    format: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A prompt, its responses and everything that was said about them."""

    id: str
    contexts: Mapping[str, Prompt] = field(default_factory=dict)
    # name -> prompt; normally just "main"; empty: the prompt is not in the source, so it can be analysed but not trained on
    responses: tuple[Response, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    ratings: tuple[Rating, ...] = ()
    user: str | None = None
    # whose preference this is; None: nobody's in particular
    criterion: str | None = None
    # what "better" means for the whole group; None: overall
    source: Source | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    # the source's other fields (reference answer, constraints, category ...), kept as they came

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not self.id:
            raise RecordError("a group has a name", field="id", value=self.id, allowed="a non-empty string")
        num = len(self.responses)
        for index, response in enumerate(self.responses):
            if self.contexts and response.context not in self.contexts:
                allowed = ", ".join(map(repr, self.contexts))
                raise RecordError("a response answers a known context", field=f"responses[{index}].context", value=response.context, allowed=allowed)
            if response.edit is not None and not (0 <= response.edit.of < num and response.edit.of != index):
                raise RecordError("an edit names another response", field=f"responses[{index}].edit.of", value=response.edit.of, allowed=f"0 to {num - 1}")
        for where, index in _indices(self):
            if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < num:
                raise RecordError("feedback names a response of its group", field=where, value=index, allowed=f"0 to {num - 1}" if num else "no response")

    @property
    def prompt(self) -> Prompt:
        """The main context. Raises RecordError where the source has none."""
        if MAIN not in self.contexts:
            raise RecordError(f"group {self.id!r} has no prompt named 'main'", field="contexts", value=sorted(self.contexts), allowed="'main'")
        return self.contexts[MAIN]

    @property
    def untrainable(self) -> str | None:
        """Why no response of this group can be trained on, or None if some can."""
        if not self.contexts:
            return "the source holds no prompt"
        if self.responses and all(response.content is None for response in self.responses):
            return "the texts of the responses are withheld"
        return None


def text_of(content: Content | None) -> str:
    """Returns the words in `content`: the text itself, or the text parts of its turns joined by newlines."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    words: list[str] = []
    for message in content:
        said = message.get("content")
        if isinstance(said, str):
            words.append(said)
        elif said is not None:
            words += [part["text"] for part in said if isinstance(part, Mapping) and isinstance(part.get("text"), str)]
    return "\n".join(words)


def _check_content(content: Content, where: str, *, empty: bool) -> None:
    if isinstance(content, str):
        if not content and not empty:
            raise RecordError("a prompt is not empty", field=where, value=content, allowed="text with at least one character")
        try:
            content.encode("utf-8")
        except UnicodeEncodeError as error:
            raise RecordError("text holds a lone surrogate, which is no character", field=where, value=content[error.start : error.end]) from None
        return
    if not isinstance(content, tuple) or not content:
        raise RecordError("content is text or turns", field=where, value=content, allowed="a string, or a tuple of at least one message")
    for index, message in enumerate(content):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str) or not message["role"]:
            raise RecordError("a turn has a role", field=f"{where}[{index}].role", value=message, allowed="a mapping with 'role' and 'content'")
        said = message.get("content")
        if said is None and not message.get("tool_calls"):
            raise RecordError("a turn says something", field=f"{where}[{index}].content", value=said, allowed="text, a list of parts, or tool calls")
        if isinstance(said, str):
            _check_content(said, f"{where}[{index}].content", empty=True)
        elif said is not None and not isinstance(said, (list, tuple)):
            raise RecordError("a turn's content is text or parts", field=f"{where}[{index}].content", value=said, allowed="text or a list of parts")


def _indices(group: Group) -> list[tuple[str, Any]]:
    rated = [(f"ratings[{i}].response", rating.response) for i, rating in enumerate(group.ratings)]
    ranked = [(f"verdicts[{i}].tiers", index) for i, verdict in enumerate(group.verdicts) for tier in verdict.tiers for index in tier]
    return rated + ranked


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check_unit(value: float | None, where: str) -> None:
    if value is not None and not (_is_number(value) and 0 <= value <= 1):
        raise RecordError("a confidence is a share", field=where, value=value, allowed="0 to 1")
