"""Mistakes a user can mend. Each prints as one line that says where, what was found and what is allowed."""

from __future__ import annotations

from typing import Any

_SHOWN = 80  # characters of an offending value that a message repeats


class AttuneError(Exception):
    """A mistake that a user can mend: the command line prints it as one line and exits with 2.

    Args:
        message: what is wrong, in words; a full sentence is not needed.
        file: path of the file at fault, or None.
        line: line in that file, 1-based, or None.
        field: dotted name of the field at fault, or None.
        value: the offending value; leave out when there is none to show.
        allowed: what would be accepted, or None.
        mend: what to do about it, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        line: int | None = None,
        field: str | None = None,
        value: Any = ...,
        allowed: str | None = None,
        mend: str | None = None,
    ) -> None:
        self.message, self.file, self.line, self.field = message, file, line, field
        self.value, self.allowed, self.mend = value, allowed, mend
        super().__init__(message)

    def __str__(self) -> str:
        where = ":".join(str(part) for part in (self.file, self.line) if part is not None)
        said = self.message
        if self.value is not ...:
            said += f" (got {shorten(self.value)})"
        if self.allowed:
            said += f"; allowed: {self.allowed}"
        if self.mend:
            said += f"; {self.mend}"
        return " ".join(": ".join(part for part in (where, self.field, said) if part).split())

    def at(self, *, file: str | None = None, line: int | None = None) -> AttuneError:
        """Returns this error with the place filled in where it is still unknown (readers know it, records do not)."""
        self.file = file if self.file is None else self.file
        self.line = line if self.line is None else self.line
        return self


class RecordError(AttuneError):
    """A record (group, response, rating, verdict ...) that contradicts itself or lacks what it needs."""


class FormatError(AttuneError):
    """A file whose format is unknown, or is not the one that was named."""


class ConfigError(AttuneError):
    """A recipe, option or method parameter that is unknown or out of range."""


class MissingField(AttuneError):
    """A batch column that an objective needs and nobody provided."""


class TooManyBadRecords(AttuneError):
    """More records than allowed could not be used."""


class RunError(AttuneError):
    """A run that cannot go on: a directory in use, a checkpoint that does not fit, a value that is not finite."""


def shorten(value: Any) -> str:
    """Returns `repr(value)` cut to a length that fits in one line, safe to print (lone surrogates are escaped)."""
    text = repr(value).encode("utf-8", "backslashreplace").decode("utf-8")
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
