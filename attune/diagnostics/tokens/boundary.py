"""Where prompt and response meet: the prompt's tokens must be the same before every response, and what a sampler continues."""

from __future__ import annotations

from typing import Any

from attune.diagnostics.encoding import Encoding, Row
from attune.diagnostics.finding import Finding, many


def boundary(encoding: Encoding) -> tuple[Finding, ...]:
    """Returns "boundary": rows whose prompt is not, token for token, what a sampler continues; and rows that tokenising both texts as one would spoil.

    The second number is what joining by string would do: in those rows the last token of the prompt and the first of the response merge. Rows
    whose prompt does not tokenise back from its text are counted apart.
    """
    rows = encoding.trained
    if not rows:
        return ()
    context_of = {(id(row.group), row.context): row.group.contexts[row.context] for row in rows}
    asked = {key: encoding.template.encode_prompt(prompt) for key, prompt in context_of.items()}
    # a cut prompt is the end of the whole one; the whole one is compared
    broken = [row for row in rows if row.whole is not None and row.whole.prompt_ids != asked[id(row.group), row.context]]
    merges = [_merges(encoding.template.tokenizer, row) for row in rows]
    merged, unknown = merges.count(True), merges.count(None)
    said = f"the prompt's tokens are an exact prefix in {len(rows) - len(broken):,} of {many(len(rows), 'row')}; "
    said += f"tokenising prompt and response as one text would have moved the boundary of {merged:,}"
    return (
        Finding(
            name="boundary",
            level="error" if broken else "ok",
            headline=said + (f" (not known for {unknown:,})" if unknown else ""),
            numbers={"rows": len(rows), "broken": len(broken), "would_merge": merged, "unknown": unknown},
            records=tuple(row.ref("its prompt differs from what is sampled from") for row in broken),
            mend="the template writes the prompt differently before some responses: report it" if broken else "",
        ),
    )


def _merges(tokenizer: Any, row: Row) -> bool | None:
    """Says whether the texts of prompt and response, tokenised as one, do not begin with the prompt's tokens; None where that cannot be told."""
    assert row.whole is not None
    prompt_ids = list(row.whole.prompt_ids)
    prompt, response = (
        tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False) for ids in (prompt_ids, row.whole.response_ids)
    )
    if _ids(tokenizer, prompt) != prompt_ids:
        return None
    return _ids(tokenizer, prompt + response)[: len(prompt_ids)] != prompt_ids


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
