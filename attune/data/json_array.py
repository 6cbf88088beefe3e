"""Reads one big JSON array element by element, so that it need not fit in memory."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from attune.core.errors import FormatError

_CHUNK = 1 << 20  # characters read at a time
_SLACK = 16  # an error this close to the end of the window may only mean that a token is cut there


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """One element of the array."""

    line: int
    # where it begins, 1-based
    value: Any
    text: str
    # as it stands in the file
    twice: str | None = None
    # a key that stands twice in one object of it; None: no key does


def elements(stream: IO[bytes], file: str) -> Iterator[Element]:
    """Yields the elements of the array in `stream` in order.

    Raises:
        FormatError: the array is broken or not UTF-8; there is no way to tell where the next element would begin, so reading ends.
    """
    window = _Window(stream, file)
    window.expect("[")
    if window.peek() == "]":
        window.expect("]")
    else:
        yield window.element()
        while window.expect(",]") == ",":
            yield window.element()
    window.expect_end()


class _Window:
    """A stretch of the text that reads on when a value does not end inside it."""

    def __init__(self, stream: IO[bytes], file: str) -> None:
        self._stream = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
        self._file, self._text, self._at, self._line, self._ended = file, "", 0, 1, False
        self._twice: list[str] = []
        self._decoder = json.JSONDecoder(object_pairs_hook=self._object)

    def peek(self) -> str:
        """Steps over white space and returns the character there, "" at the end."""
        while True:
            while self._at < len(self._text):
                char = self._text[self._at]
                if char not in " \t\r\n":
                    return char
                self._line += char == "\n"
                self._at += 1
            if not self._more():
                return ""

    def expect(self, allowed: str) -> str:
        found = self.peek()
        if not found or found not in allowed:
            raise self._broken("the JSON array is broken", " or ".join(map(repr, allowed)))
        self._at += 1
        return found

    def expect_end(self) -> None:
        if self.peek():
            raise self._broken("something stands after the end of the JSON array", "nothing")

    def element(self) -> Element:
        self.peek()
        while True:
            self._twice.clear()
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                cut = error.pos >= len(self._text) - _SLACK or error.msg.startswith("Unterminated string")
                if not (cut and self._more()):
                    raise self._broken(f"an element of the JSON array is not JSON: {error.msg}", "JSON") from None
                continue
            except (RecursionError, ValueError):  # ValueError: an integer of thousands of digits
                raise self._broken("an element of the JSON array is nested too deeply or holds too long a number", "less") from None
            if end < len(self._text) or not self._more():
                break
        made = Element(line=self._line, value=value, text=self._text[self._at : end], twice=self._twice[0] if self._twice else None)
        self._line += made.text.count("\n")
        self._at = end
        return made

    def _more(self) -> bool:
        if self._ended:
            return False
        try:
            read = self._stream.read(max(_CHUNK, len(self._text) - self._at))
        except UnicodeDecodeError as error:
            raise FormatError(f"the JSON array is not UTF-8: {error.reason}", file=self._file, line=self._line) from None
        self._text, self._at, self._ended = self._text[self._at :] + read, 0, not read
        return bool(read)

    def _broken(self, message: str, allowed: str) -> FormatError:
        found = self._text[self._at : self._at + 40]
        return FormatError(message, file=self._file, line=self._line, value=found, allowed=allowed)

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            keys = [key for key, _ in pairs]
            self._twice.append(next(key for key in keys if keys.count(key) > 1))
        return made
