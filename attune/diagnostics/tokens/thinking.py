"""Answers that would be trained inside a thinking block, which the template's generation prompt opens and they never close."""

from __future__ import annotations

import re

from attune.diagnostics.encoding import Encoding, Row
from attune.diagnostics.finding import Finding, many

_OPENED = re.compile(r"([<\[])([\w:]*(?:think|thought|reason)[\w:]*[>\]])\s*$", re.IGNORECASE)
_TAIL = 32  # tokens that a tag and the space behind it surely fit in


def thinking(encoding: Encoding) -> tuple[Finding, ...]:
    """Returns "thinking": of the rows whose prompt ends with an open thinking block (`<think>`), those whose response never closes it."""
    opened = [(row, tag) for row in encoding.trained if (tag := _closing(encoding, row)) is not None]
    if not opened:
        return ()
    lacking = [(row, tag) for row, tag in opened if tag not in _text(encoding, row.tokens.response_ids) and not row.tokens.response_cut]
    return (
        Finding(
            name="thinking",
            level="warn" if lacking else "ok",
            headline=f"{many(len(opened), 'row')} begin in a thinking block that the prompt opens; {many(len(lacking), 'response')} never close it",
            numbers={"opened": len(opened), "unclosed": len(lacking)},
            records=tuple(row.ref(f"no {tag}") for row, tag in lacking),
            mend="they teach to answer inside the thinking block: give them their reasoning and its end, or a template that opens none" if lacking else "",
        ),
    )


def _closing(encoding: Encoding, row: Row) -> str | None:
    """Returns the tag that closes the block at the end of a row's prompt; None where none is open."""
    found = _OPENED.search(_text(encoding, row.tokens.prompt_ids[-_TAIL:])) if encoding.template.chat else None
    return f"{found[1]}/{found[2]}" if found else None


def _text(encoding: Encoding, ids: tuple[int, ...]) -> str:
    return str(encoding.template.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))
