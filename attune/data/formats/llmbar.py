"""LLMBar's evaluator results: two outputs with a gold label, and a judge's verdict with the two shown in either order."""

from __future__ import annotations

from attune.core.record import Group, Response, Source, Verdict
from attune.data import fields
from attune.data.format import Format, Record
from attune.data.parts import GOLD, JUDGE, PAIR, asked, below, noted, whole

_ORDERS = {"swap = False": (0, 1), "swap = True": (1, 0)}
_WINNERS = {"1": 1, "2": 2}  # counted as the record counts its outputs, whichever order the judge saw


def _recognises(record: Record) -> bool:
    return {"output_1", "output_2", "label", "evaluator", "results"} <= record.keys()


def _parse(record: Record, source: Source) -> tuple[Group]:
    judge = JUDGE + fields.text(record, "evaluator")
    results = fields.items(record, "results")
    verdicts = [Verdict(tiers=PAIR[fields.choice(record, "label", (1, 2))], annotator=GOLD)]
    doubts: dict[str, str] = {}
    final = len(results) - 1  # earlier entries are the judge's preparations; the last one decides
    for order, presented in _ORDERS.items():
        with below(f"results[{final}]"):
            said = fields.mapping(fields.as_mapping(results[final], "result"), order)
            completion = fields.items(said, "completion", empty=True)
            words = fields.as_text(completion[0], f"{order}.completion[0]", empty=True) if completion else ""
        winner = said.get("winner")
        if isinstance(winner, str) and winner in _WINNERS:
            verdicts.append(Verdict(tiers=PAIR[_WINNERS[winner]], presented=presented, annotator=judge, reason=words or None))
        else:
            doubts[f"results[{final}].{order}.winner"] = f"{winner!r} is neither '1' nor '2', so it gives no verdict"
    return (
        Group(
            id="-".join(("llmbar", fields.text(record, "subset"), str(whole(record, "index")))),
            contexts=asked(fields.text(record, "input")),
            responses=tuple(Response(content=fields.text(record, name, empty=True)) for name in ("output_1", "output_2")),
            verdicts=tuple(verdicts),
            source=source,
            meta=fields.rest(record, "input", "output_1", "output_2", "label") | noted(doubts),
        ),
    )


FORMAT = Format(
    name="llmbar",
    title="LLMBar: pairs with a gold label and a judge's verdicts in both orders",
    recognises=_recognises,
    parse=_parse,
    fields=("subset", "evaluator", "index", "input", "output_1", "output_2", "label", "results"),
)
