from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from attune.core.errors import AttuneError, FormatError
from attune.core.signal import Signal
from attune.data.account import Account
from attune.diagnostics import feedback, tokens
from attune.diagnostics.accounting import accounting
from attune.diagnostics.diagnosis import NUM_LINES, Diagnosis
from attune.diagnostics.doctor import examine, examine_path, probes
from attune.diagnostics.finding import Finding, Ref, graded
from attune.signals.pairs.all_pairs import all_pairs
from tests import tiny
from tests.diagnostics.make import clean, group, lines, said, won


def write(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return path


def pair(prompt: str, chosen: str, rejected: str) -> dict[str, str]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


@pytest.mark.parametrize("package", [feedback, tokens])
def test_every_file_holds_a_probe_of_its_name(package: ModuleType) -> None:
    files = {path.stem for path in Path(next(iter(package.__path__))).glob("*.py")} - {"__init__"}
    assert set(probes(package)) == files
    assert all(probe.__name__ == name for name, probe in probes(package).items())


def test_clean_feedback_is_given_a_clean_bill() -> None:
    diagnosis = examine(clean(), model=tiny.policy())
    assert [finding for finding in diagnosis.findings if finding.level != "ok"] == []
    assert diagnosis.verdict == ("Nothing here speaks against training on this.",)
    assert diagnosis.exit_code == 0


def test_names_of_findings_are_unique() -> None:
    names = [finding.name for finding in examine(clean(), model=tiny.policy(), signal=all_pairs, account=Account()).findings]
    assert len(set(names)) == len(names)


def test_planted_defects_are_found_together_in_their_records() -> None:
    """Five defects, each in three of 100 pairs; 15 clean annotators' pairs stay untouched by each other's findings."""
    groups = clean(100)
    groups = lines(groups, (1, 11, 21), group("x", "same", "same", verdicts=[won(0, 1, by="ann")]))
    groups = lines(groups, (2, 12, 22), group("x", "this", "that", verdicts=[won(0, 1, by="ann"), won(1, 0, by="ann")]))
    groups = lines(groups, (3, 13, 23), group("x", "", "text", verdicts=[won(1, 0, by="ann")]))
    groups = lines(groups, (4, 14, 24), group("x", "a", "b", "c", verdicts=[won(0, 1, by="ann"), won(1, 2, by="ann"), won(2, 0, by="ann")]))
    groups = lines(groups, (5, 15, 25), group("x", "this", "that", verdicts=[won(0, 1, by="ann"), won(0, 1, by="ann")]))
    diagnosis = examine(groups)
    names = ("identical", "contradictions", "texts", "cycles", "duplicate_verdicts")
    found = {name: [record.line for record in diagnosis.of(name).records] for name in names}
    assert found == {name: [place, place + 10, place + 20] for place, name in enumerate(names, start=1)}
    assert diagnosis.exit_code == 0 and diagnosis.verdict[0].startswith("This can be trained on, but")


def test_an_error_fails_and_comes_first() -> None:
    groups = lines(clean(20), (3, 4), group("x", "this", "that", verdicts=[won(0, 1, by="ann"), won(1, 0, by="ann")]))
    diagnosis = examine(groups)
    assert diagnosis.exit_code == 1
    assert diagnosis.findings[0].name == "contradictions"
    assert diagnosis.verdict[0] == "Do not train on this yet: 1 finding would make training wrong."
    assert diagnosis.verdict[1].startswith("contradictions: ask again")


def test_five_lines_whatever_is_wrong() -> None:
    warns = tuple(Finding(name=f"w{index}", level="warn", headline="bad", mend=f"do {index}") for index in range(9))
    verdict = Diagnosis(title="t", findings=warns).verdict
    assert len(verdict) == NUM_LINES
    assert verdict[1:] == ("w0: do 0", "w1: do 1", "w2: do 2", "and 6 more, marked below")
    assert len(Diagnosis(title="t", findings=warns[:4]).verdict) == NUM_LINES


def test_text_and_json_say_the_same() -> None:
    groups = [group(f"e{index}", "", "text", verdicts=[said((0, 1), by="ann"), said((0, 1), by="bob")]) for index in range(7)]
    diagnosis = examine(groups, title="some feedback")
    text, data = diagnosis.render(num_records=3), json.loads(json.dumps(diagnosis.to_dict(), allow_nan=False))
    assert text.splitlines()[2] == data["verdict"][0]
    empty = next(finding for finding in data["findings"] if finding["name"] == "texts")
    assert len(empty["records"]) == 7
    assert empty["records"][6] == {"id": "e6", "file": "made.jsonl", "line": 6, "detail": "response 0 is empty", "joined": []}
    assert "texts: 7 records" in text and "... and 4 more" in text
    assert "made.jsonl:2  e2  response 0 is empty" in text and "made.jsonl:3  e3  response 0 is empty" not in text
    # alpha is undefined where only ties occur: null, not NaN
    assert next(finding for finding in data["findings"] if finding["name"] == "agreement_people")["numbers"]["alpha"]["value"] is None


def test_a_record_cannot_move_the_cursor() -> None:
    evil = Finding(name="x", level="warn", headline="\x1b[2Jgone", records=(Ref(id="\x1b[1A", file="f", line=1, detail="a\rb"),))
    assert not any(char in Diagnosis(title="t", findings=(evil,)).render() for char in "\x1b\r")


def test_what_a_probe_does_not_see_is_named() -> None:
    diagnosis = examine([group("g0")])
    assert {"agreement", "length", "position", "ratings", "ties"} <= set(diagnosis.silent)
    assert "Nothing to see for: " in diagnosis.render()


def test_every_record_of_a_file_is_accounted_for(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.jsonl", *[pair(f"q{index % 4}", f"a{index}", f"b{index}") for index in range(10)], pair("q", "", "b"), {"prompt": 3}, [1])
    found = examine_path(path)
    numbers = found.of("accounting").numbers
    assert (numbers["records"], numbers["used"] + numbers["rejected"], numbers["unaccounted"]) == (13, 13, 0)
    assert numbers["groups"] + numbers["merged"] == numbers["used"]
    assert {record.line for record in found.of("accounting").records} >= {12, 13}
    # two or more of thirteen are more than one in twenty
    assert found.of("accounting").level == "error" and found.exit_code == 1


def test_lost_records_are_an_error() -> None:
    assert accounting(Account(records=3, used=2, parsed=2, groups=2))[0].level == "error"
    assert accounting(Account(records=2, used=2, parsed=3, groups=2))[0].numbers["unaccounted"] == 1
    assert accounting(Account(records=2, used=2, parsed=3, groups=2, merged=1))[0].level == "ok"


def test_joined_records_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.jsonl", pair("q", "a", "b"), pair("other", "c", "d"), pair("q", "b", "a"))
    (record,) = examine_path(path).of("contradictions").records
    assert (record.line, record.joined) == (1, (f"{path}:3",))
    assert "pairs.jsonl:1 (+ 1 joined)" in examine_path(path).render()


def test_a_folder_of_a_model_gives_the_tokens(tmp_path: Path) -> None:
    tiny.tokenizer(chat="chatml").save_pretrained(tmp_path / "model")
    tiny.config("llama", positions=24).save_pretrained(tmp_path / "model")
    path = write(tmp_path / "pairs.jsonl", pair("q", "a", "b"), pair("q2", "word " * 40, "d"))
    diagnosis = examine_path(path, model=tmp_path / "model")
    assert diagnosis.of("refused").numbers["reasons"] == {"prompt and response have more tokens than the model's 24 positions": 1}
    cut = examine_path(path, model=tmp_path / "model", max_response_tokens=4, overlong="cut")
    assert (cut.of("refused").numbers["trained"], cut.of("truncation").numbers["response_cut"]) == (4, 1)
    with pytest.raises(AttuneError, match="tokenizer cannot be read"):
        examine_path(path, model=tmp_path / "nothing")


def test_what_a_signal_keeps_and_drops() -> None:
    groups = [*clean(3), group("t0", "a", "b", verdicts=[said((0, 1))])]
    found = examine(groups, signal=all_pairs).of("signal")
    assert (found.level, found.numbers["pairs"], found.numbers["silent"], sum(found.numbers["dropped"].values())) == ("note", 6, 1, 1)
    assert [record.id for record in found.records] == ["t0"]
    assert examine(groups, signal=lambda _: Signal()).exit_code == 1


def test_files_that_are_no_feedback_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError):
        examine_path(tmp_path / "absent.jsonl")
    with pytest.raises(FormatError):
        examine_path(write(tmp_path / "odd.jsonl", {"x": 1}))


def test_levels_by_share() -> None:
    assert [graded(num, 100) for num in (0, 1, 5, 6)] == ["ok", "warn", "warn", "error"]
