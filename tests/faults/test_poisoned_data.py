"""Fault 8, poisoned data: every malformed kind is reported with file, line and field; its good neighbours survive; nothing is lost; nothing crashes."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from attune.core.errors import AttuneError, TooManyBadRecords
from attune.core.record import Group
from attune.data.account import Finding
from attune.data.prepare import prepare
from attune.data.read import Reading, read
from tests.conftest import Tally

NUM, LINE = 12, 8  # good neighbours, and the line on which the poison stands

Make = Callable[[int], dict[str, Any]]


def text_pair(number: int) -> dict[str, Any]:
    return {"id": f"n{number}", "prompt": f"Question {number}?", "chosen": f"yes {number}", "rejected": f"no {number}"}


def turn_pair(number: int) -> dict[str, Any]:
    ask = {"role": "user", "content": f"Question {number}?"}
    return {"prompt": [ask], "chosen": [{"role": "assistant", "content": f"yes {number}"}], "rejected": [{"role": "assistant", "content": f"no {number}"}]}


def whole_pair(number: int) -> dict[str, Any]:
    made = turn_pair(number)
    return {side: made["prompt"] + made[side] for side in ("chosen", "rejected")}


def transcript(number: int) -> dict[str, Any]:
    start = f"\n\nHuman: Question {number}?\n\nAssistant: Hm.\n\nHuman: So?\n\nAssistant:"
    return {"chosen": f"{start} yes", "rejected": f"{start} no"}


def thumb(number: int) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": f"Question {number}?"}, {"role": "assistant", "content": "yes"}], "label": number % 2 == 0}


def shared(number: int) -> dict[str, Any]:
    return {
        "conversations": [{"from": "human", "value": f"Question {number}?"}],
        "chosen": {"from": "gpt", "value": "a"},
        "rejected": {"from": "gpt", "value": "b"},
    }


def graded(number: int) -> dict[str, Any]:
    return {"prompt": f"Question {number}?", "response": "yes", "helpfulness": 4, "correctness": 3, "coherence": 4, "complexity": 1, "verbosity": 0}


def strong(number: int) -> dict[str, Any]:
    return {"prompt": f"Question {number}?", "response_1": "a", "response_2": "b", "preference_strength": 2}


def critic(number: int) -> dict[str, Any]:
    said = {"helpfulness": {"Rating": "4", "Rationale": "fine"}}
    return {"instruction": f"Question {number}?", "completions": [{"model": "m", "response": "yes", "annotations": said, "overall_score": 7.0}]}


def service(number: int) -> dict[str, Any]:
    made = turn_pair(number)
    return {"input": {"messages": made["prompt"]}, "preferred_output": made["chosen"], "non_preferred_output": made["rejected"]}


def native(number: int) -> dict[str, Any]:
    return {
        "attune": 1,
        "id": f"n{number}",
        "contexts": {"main": {"content": f"Question {number}?"}},
        "responses": [{"content": "yes", "generator": "m"}, {"content": "no"}],
        "verdicts": [{"tiers": [[0], [1]], "annotator": "ann", "presented": [1, 0]}],
        "ratings": [{"response": 0, "value": 4, "scale": [1, 5]}],
    }


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One malformed kind: what the good records look like, how one is spoilt, and what must be said about it."""

    name: str
    make: Make
    change: dict[str, Any] | None = None
    # dotted path -> what stands there instead; ...: the field is taken away
    raw: bytes | None = None
    # the line itself, where no JSON could say it
    field: str | None
    said: str
    doubt: bool = False
    # the record is used, and what is odd about it is listed

    def line(self) -> bytes:
        if self.raw is not None:
            return self.raw
        record = json.loads(json.dumps(self.make(99)))  # no value in two places
        for path, value in (self.change or {}).items():
            *before, last = [int(step) if step.isdigit() else step for step in path.split(".")]
            inside: Any = record
            for step in before:
                inside = inside[step]
            if value is ...:
                del inside[last]
            else:
                inside[last] = value
        return json.dumps(record).encode()


def kind(name: str, make: Make, poison: dict[str, Any] | bytes, field: str | None, said: str, *, doubt: bool = False) -> Kind:
    raw, change = (poison, None) if isinstance(poison, bytes) else (None, poison)
    return Kind(name=name, make=make, raw=raw, change=change, field=field, said=said, doubt=doubt)


NAN = float("nan")
KINDS = [
    # the line
    kind("cut line", text_pair, b'{"prompt": "Question', None, "the line is not JSON"),
    kind("two objects in a line", text_pair, b"{} {}", None, "the line is not JSON"),
    kind("bare words", text_pair, b"hello", None, "the line is not JSON"),
    kind("single quotes", text_pair, b"{'prompt': 'a'}", None, "the line is not JSON"),
    kind("NUL bytes", text_pair, b"\x00\x00", None, "the line is not JSON"),
    kind("control character in a string", text_pair, b'{"prompt": "a\x01b"}', None, "the line is not JSON"),
    kind("a list", text_pair, b'["a"]', None, "a record is an object"),
    kind("null", text_pair, b"null", None, "a record is an object"),
    kind("a number", text_pair, b"17", None, "a record is an object"),
    kind("a key twice", text_pair, b'{"prompt": "p", "chosen": "a", "chosen": "b", "rejected": "c"}', None, "'chosen' stands twice"),
    kind("latin-1 bytes", text_pair, b'{"prompt": "caf\xe9"}', None, "is not UTF-8"),
    kind("cut UTF-8", text_pair, b'{"prompt": "\xf0\x9f\x98', None, "is not UTF-8"),
    kind("encoded surrogate", text_pair, b'{"prompt": "\xed\xa0\x80"}', None, "is not UTF-8"),
    kind("nested too deeply for the parser", text_pair, b"[" * 100_000, None, "nested too deeply"),
    kind("nested too deeply for us", text_pair, b'{"prompt": ' + b"[" * 300 + b"]" * 300 + b"}", None, "nested too deeply"),
    kind("an integer of 5,000 digits", text_pair, b'{"prompt": ' + b"9" * 5000 + b"}", None, "the line is not JSON"),
    kind("empty object", text_pair, b"{}", "chosen", "the field is missing"),
    # texts
    kind("missing field", text_pair, {"rejected": ...}, "rejected", "the field is missing"),
    kind("null field", text_pair, {"chosen": None}, "chosen", "it is text"),
    kind("empty prompt", text_pair, {"prompt": ""}, "prompt", "it is not empty"),
    kind("a number for text", text_pair, {"chosen": 3}, "chosen", "it is text"),
    kind("swapped types", text_pair, {"chosen": {"text": "a"}}, "chosen", "it is text"),
    kind("text against turns", turn_pair, {"rejected": "no"}, "rejected", "both sides are text, or both are turns"),
    kind("lone surrogate in a text", text_pair, {"chosen": "half \ud83d"}, "chosen", "a lone surrogate"),
    kind("lone surrogate deep inside", turn_pair, {"chosen.0.content": [{"type": "text", "text": "\udc00"}]}, "chosen[0].content[0].text", "a lone surrogate"),
    kind("lone surrogate in another field", text_pair, {"note": ["\ud800"]}, "note[0]", "a lone surrogate"),
    kind("lone surrogate in a key", text_pair, {"k\ud800": 1}, "record", "a lone surrogate"),
    kind("a list for a name", text_pair, {"id": ["a"]}, "id", "a name is text or a whole number"),
    # turns
    kind("unknown role", turn_pair, {"prompt.0.role": "robot"}, "prompt[0].role", "nobody of that role"),
    kind("null role", turn_pair, {"prompt.0.role": None}, "prompt[0].role", "nobody of that role"),
    kind("a list for a role", turn_pair, {"prompt.0.role": ["user"]}, "prompt[0].role", "nobody of that role"),
    kind("a turn that is text", turn_pair, {"chosen": ["yes"]}, "chosen[0]", "it is an object"),
    kind("a turn without content", turn_pair, {"chosen.0.content": ...}, "chosen[0].content", "it is text"),
    kind("a number for content", turn_pair, {"chosen.0.content": 5}, "chosen[0].content", "it is text"),
    kind("no turns", turn_pair, {"chosen": []}, "chosen", "a list of turns"),
    kind("the user answers", turn_pair, {"chosen.0.role": "user"}, "chosen", "before the assistant answers"),
    kind("prompts that differ", whole_pair, {"chosen.0.content": "another"}, "chosen", "before the assistant answers"),
    kind("tools that are no JSON", turn_pair, {"tools": "[{"}, "tools", "is not JSON"),
    kind("unknown ShareGPT tag", shared, {"conversations.0.from": "bing"}, "conversations[0].from", "nobody of that name"),
    kind("ShareGPT answer by the human", shared, {"chosen.from": "human"}, "chosen[0].role", "only the assistant"),
    kind("transcripts that part too early", transcript, {"rejected": "\n\nHuman: Else?\n\nAssistant: no"}, "rejected", "differ at turn 1"),
    kind("transcript that ends with the human", transcript, {"chosen": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c"}, "chosen", "ends with the assistant"),
    kind("input without messages", service, {"input": {}}, "input.messages", "the field is missing"),
    # labels, ratings, strengths
    kind("label spelt as text", thumb, {"label": "true"}, "label", "it is true or false"),
    kind("label as a number", thumb, {"label": 1}, "label", "it is true or false"),
    kind("null label", thumb, {"label": None}, "label", "it is true or false"),
    kind("label on the user's turn", thumb, {"messages": [{"role": "user", "content": "q"}]}, "messages[0].role", "ends with the assistant's answer"),
    kind("NaN rating", graded, {"helpfulness": NAN}, "helpfulness", "it is a number"),
    kind("infinite rating", graded, {"helpfulness": float("inf")}, "helpfulness", "it is a number"),
    kind("rating off its scale", graded, {"verbosity": 9}, "verbosity", "lies on its scale"),
    kind("rating spelt as text", graded, {"coherence": "4"}, "coherence", "it is a number"),
    kind("true for a rating", graded, {"coherence": True}, "coherence", "it is a number"),
    kind("strength off its scale", strong, {"preference_strength": -100}, "preference_strength", "lies on its scale"),
    kind(
        "unreadable grade",
        critic,
        {"completions.0.annotations.helpfulness.Rating": "4/5"},
        "completions[0].annotations.helpfulness.Rating",
        "a rating is a number",
    ),
    kind("NaN score", text_pair, {"score_chosen": NAN}, "score_chosen", "it is a number"),
    kind("NaN score of a response", native, {"responses.0.scores": {"rm": NAN}}, "responses[0].scores.rm", "a score is a finite number"),
    # verdicts and what refers to responses
    kind("impossible tier: empty", native, {"verdicts.0.tiers": [[0], []]}, "verdicts[0].tiers", "at least two different responses"),
    kind("impossible tier: a response twice", native, {"verdicts.0.tiers": [[0], [0]]}, "verdicts[0].tiers", "at least two different responses"),
    kind("impossible tier: no such response", native, {"verdicts.0": {"tiers": [[0], [7]]}}, "verdicts[0].tiers", "names a response of its group"),
    kind("impossible tier: below zero", native, {"verdicts.0": {"tiers": [[0], [-1]]}}, "verdicts[0].tiers", "names a response of its group"),
    kind("impossible tier: half an index", native, {"verdicts.0.tiers": [[0], [0.5]]}, "verdicts[0].tiers[1][0]", "the wrong type"),
    kind("shown other than compared", native, {"verdicts.0.presented": [0, 0]}, "verdicts[0].presented", "lists what was compared"),
    kind("an annotator that is no name", native, {"verdicts.0.annotator": 7}, "verdicts[0].annotator", "the wrong type"),
    kind("strength below zero", native, {"verdicts.0.strength": -1}, "verdicts[0].strength", "a number >= 0"),
    kind("confidence above one", native, {"verdicts.0.confidence": 1.5}, "verdicts[0].confidence", "a confidence is a share"),
    kind("rating of no response", native, {"ratings.0.response": 5}, "ratings[0].response", "names a response of its group"),
    kind("scale that falls", native, {"ratings.0.scale": [5, 1]}, "ratings[0].scale", "a scale rises"),
    kind("scale of three", native, {"ratings.0.scale": [1, 3, 5]}, "ratings[0].scale", "the wrong type"),
    kind("answer to no prompt", native, {"responses.0.context": "side"}, "responses[0].context", "answers a known context"),
    kind("span behind its text", native, {"responses.0.spans": [{"start": 1, "end": 9, "type": "t"}]}, "responses[0].spans", "ends after its text"),
    kind("span that runs backwards", native, {"responses.0.spans": [{"start": 2, "end": 1, "type": "t"}]}, "responses[0].spans[0]", "at least one character"),
    kind("steps that run backwards", native, {"responses.0.steps": [{"end": 2}, {"end": 1}]}, "responses[0].steps", "follow each other"),
    kind("edit of itself", native, {"responses.0.edit": {"of": 0}}, "responses[0].edit.of", "names another response"),
    kind(
        "tokens without their log-probabilities",
        native,
        {"responses.0.token_ids": [1, 2], "responses.0.logps": [-1]},
        "responses[0].logps",
        "one log-probability per",
    ),
    kind("misspelt field", native, {"respones": []}, "respones", "the field is not known"),
    kind("a version from the future", native, {"attune": 9}, "attune", "a version this attune does not know"),
    kind("empty name", native, {"id": ""}, "id", "a group has a name"),
    # odd, but used
    kind("equal responses", text_pair, {"rejected": "yes 99"}, "verdicts[0].tiers", "the same content", doubt=True),
    kind("empty response", text_pair, {"chosen": ""}, "responses[0].content", "the response is empty", doubt=True),
    kind("duplicate id", text_pair, {"id": "n3"}, "id", "another prompt has the same id", doubt=True),
    kind(
        "10 read for 1",
        critic,
        {"completions.0": {"response": "x", "annotations": {"honesty": {"Rating": "1"}}, "overall_score": 10}},
        "completions[0].overall_score",
        "a 1 may have been read as 10",
        doubt=True,
    ),
]


def poisoned(folder: Path, one: Kind) -> Path:
    lines = [json.dumps(one.make(number)).encode() for number in range(NUM)]
    lines.insert(LINE - 1, one.line())
    path = folder / "poisoned.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def said(groups: list[Group]) -> list[tuple[object, ...]]:
    """What neighbours hold, apart from the line they stand on."""
    return [(group.id, group.contexts, group.responses, group.verdicts, group.ratings) for group in groups]


def neighbours(folder: Path, make: Make) -> list[tuple[object, ...]]:
    (folder / "clean.jsonl").write_text("".join(json.dumps(make(number)) + "\n" for number in range(NUM)))
    reading = read(folder / "clean.jsonl")
    groups = list(reading)
    assert (len(groups), reading.account.rejects, reading.account.doubts) == (NUM, [], [])
    return said(groups)


def balanced(reading: Reading, records: int) -> bool:
    account = reading.account
    return account.balanced and account.records == records == account.used + len(account.rejects) and account.parsed == account.groups + account.merged


def test_there_are_kinds_enough_and_each_has_its_name() -> None:
    assert len({one.name for one in KINDS}) == len(KINDS) >= 40


@pytest.mark.parametrize("one", KINDS, ids=lambda one: one.name.replace(" ", "-"))
def test_it_is_reported_and_its_neighbours_survive(tmp_path: Path, one: Kind, tally: Tally) -> None:
    path = poisoned(tmp_path, one)
    reading = read(path, max_bad=0.5)
    groups = list(reading)
    account = reading.account
    findings: list[Finding] = account.doubts if one.doubt else account.rejects
    assert len(account.rejects) == (not one.doubt)
    assert [(found.file, found.line, found.field) for found in findings] == [(str(path), LINE, one.field)]
    assert one.said in findings[0].reason
    assert "\n" not in str(findings[0])
    assert len(str(findings[0])) < len(str(path)) + 500
    assert balanced(reading, NUM + 1)
    clean = neighbours(tmp_path, one.make)
    assert [group for group in said(groups) if group in clean] == clean
    assert len(groups) == NUM + one.doubt
    # text that only a machine could read never goes further
    json.dumps([group.id for group in groups], ensure_ascii=False).encode("utf-8")
    tally(8, "malformed kinds of records", 1, 0)


@pytest.mark.parametrize("one", KINDS, ids=lambda one: one.name.replace(" ", "-"))
def test_alone_it_stops_the_reading_with_one_line(tmp_path: Path, one: Kind) -> None:
    path = tmp_path / "alone.jsonl"
    path.write_bytes(one.line() + b"\n")
    if one.doubt:
        assert len(list(read(path))) == 1
        return
    with pytest.raises(AttuneError) as caught:
        list(read(path, max_bad=1.0))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_kinds_of_one_format_together_are_all_listed(tmp_path: Path) -> None:
    bad = [one for one in KINDS if one.make is native and not one.doubt]
    lines = [json.dumps(native(number)).encode() for number in range(len(bad) + 1)]
    mixed = [line for pair in zip(lines, (one.line() for one in bad), strict=False) for line in pair]
    path = tmp_path / "all.jsonl"
    path.write_bytes(b"\n".join(mixed) + b"\n")
    reading = read(path, max_bad=0.5)
    assert len(list(reading)) == len(bad)
    assert [(found.line, found.field) for found in reading.account.rejects] == [(2 * position + 2, one.field) for position, one in enumerate(bad)]
    assert balanced(reading, 2 * len(bad))


def test_too_many_stop_the_reading_and_name_the_first(tmp_path: Path) -> None:
    path = poisoned(tmp_path, KINDS[0])
    with pytest.raises(TooManyBadRecords) as caught:
        list(read(path))
    assert f"1 of {NUM + 1} records cannot be used" in str(caught.value)
    assert f"{path}:{LINE}: the line is not JSON" in str(caught.value)


@pytest.mark.parametrize("field", ["prompt", "chosen"])
def test_what_is_only_long_is_kept_whole(tmp_path: Path, field: str) -> None:
    """A string of 10 MB: over-long prompts are cut or refused where tokens are counted, not here."""
    path = tmp_path / "long.jsonl"
    long = "long ä " * 1_500_000
    records = [text_pair(number) for number in range(3)]
    records[1][field] = long
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    reading = read(path)
    groups = list(reading)
    kept = groups[1].prompt.content if field == "prompt" else groups[1].responses[0].content
    assert kept == long
    assert (len(groups), reading.account.rejects, reading.account.doubts) == (3, [], [])


@pytest.mark.parametrize("suffix", [".json", ".parquet", ".jsonl.gz"])
def test_other_files_report_like_lines(tmp_path: Path, suffix: str) -> None:
    """A record spoilt in the array, the row or the compressed line; rows are counted in Parquet, lines elsewhere."""
    records = [text_pair(number) for number in range(NUM)]
    records.insert(LINE - 1, {**text_pair(99), "prompt": ""})
    path = tmp_path / f"poisoned{suffix}"
    if suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(records), path)
    elif suffix == ".json":
        path.write_text("[\n" + ",\n".join(map(json.dumps, records)) + "\n]")
    else:
        path.write_bytes(gzip.compress("\n".join(map(json.dumps, records)).encode()))
    reading = read(path, max_bad=0.5)
    assert len(list(reading)) == NUM
    line = LINE + 1 if suffix == ".json" else LINE
    assert [(found.file, found.line, found.field, found.id) for found in reading.account.rejects] == [(str(path), line, "prompt", "n99")]
    assert balanced(reading, NUM + 1)


def test_a_key_twice_and_a_bad_element_in_an_array(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(
        "[" + json.dumps(text_pair(0)) + ',\n{"prompt": "p", "chosen": "a", "chosen": "b", "rejected": "c"},\n7,\n' + json.dumps(text_pair(1)) + "]"
    )
    reading = read(path, max_bad=0.5)
    assert len(list(reading)) == 2
    assert [(found.line, found.field) for found in reading.account.rejects] == [(2, "chosen"), (3, None)]


def test_preparing_poisoned_shards_accounts_for_all(tmp_path: Path) -> None:
    kinds = [one for one in KINDS if one.make in (text_pair, native)]
    for position, one in enumerate(kinds):
        (tmp_path / f"{position}").mkdir()
        poisoned(tmp_path / f"{position}", one)
    account = prepare(sorted(tmp_path.rglob("*.jsonl")), tmp_path / "out.jsonl", max_bad=0.5)
    assert account.records == len(kinds) * (NUM + 1)
    assert account.balanced
    assert len(account.rejects) == sum(not one.doubt for one in kinds)
    assert len(list(read(tmp_path / "out.jsonl"))) == account.groups


@pytest.mark.parametrize("make", [text_pair, whole_pair, transcript, thumb, shared, graded, critic, service, native], ids=lambda make: make.__name__)
def test_random_damage_to_bytes_is_reported_and_never_crashes(tmp_path: Path, make: Make) -> None:
    """Forty lines with bytes changed, taken out or doubled at random, among good ones: every line is used or listed."""
    rng = random.Random(make.__name__)
    good = [json.dumps(make(number)).encode() for number in range(60)]
    lines = [damaged(rng, line) if number >= 20 else line for number, line in enumerate(good)]
    path = tmp_path / "damaged.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    reading = read(path, max_bad=1.0)
    list(reading)
    assert balanced(reading, sum(bool(line.strip()) for line in path.read_bytes().split(b"\n")))
    assert reading.account.used >= 20
    assert all(found.line and found.line > 20 for found in reading.account.rejects)


def damaged(rng: random.Random, line: bytes) -> bytes:
    made = bytearray(line)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(made))
        match rng.randrange(4):
            case 0:
                made[place] = rng.choice(b'"{}[],:0\\ \xff\x00e')
            case 1:
                del made[place : place + rng.randint(1, 4)]
            case 2:
                made[place:place] = made[place : place + rng.randint(1, 8)]
            case _:
                made[place:place] = rng.choice([b"null", b"NaN", b"1e999", b"-", b'"\\ud800"', b"[]", b"true"])
    return bytes(made)
