"""Control tokens spelt out in a text: the model would read them as the end of a turn, or as another speaker."""

from __future__ import annotations

from collections import Counter

from attune.core.record import text_of
from attune.diagnostics.encoding import Encoding
from attune.diagnostics.finding import Finding, Ref, graded, many


def injection(encoding: Encoding) -> tuple[Finding, ...]:
    """Returns "injection": prompts and responses whose words spell one of the tokenizer's special tokens."""
    if not encoding.trained:
        return ()
    tokenizer = encoding.template.tokenizer
    names = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special} | set(tokenizer.all_special_tokens)
    specials = sorted(name for name in names if name.strip())
    texts = [(row, "the response", row.group.responses[row.response].text) for row in encoding.trained]
    first = {(id(row.group), row.context): row for row in reversed(encoding.trained)}
    texts += [(row, "the prompt", text_of(row.group.contexts[row.context].content)) for row in first.values()]
    if not specials:
        return ()
    seen: Counter[str] = Counter()
    records: list[Ref] = []
    for row, where, text in texts:
        inside = [name for name in specials if name in text]
        seen.update(inside)
        if inside:
            records.append(row.ref(f"{where} spells {', '.join(inside)}"))
    return (
        Finding(
            name="injection",
            level=graded(len(records), len(texts)),
            headline=f"{len(records):,} of {many(len(texts), 'text')} spell a special token of the tokenizer",
            numbers={"texts": len(texts), "spelling": len(records), "tokens": dict(seen)},
            records=tuple(records),
            mend="take these strings out of the texts, or break them: they end turns and change speakers" if records else "",
        ),
    )
