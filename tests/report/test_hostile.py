"""Texts that try to become markup, and files that are broken, missing or of the wrong kind."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from attune.report.build import page
from attune.runs.directory import RunDirectory
from tests.report.fake_run import EVALS, PROVENANCE, write_run
from tests.report.html import Page

TEXTS = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "</textarea><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<svg/onload=alert(1)//",
    "<svg><script>alert(1)</script></svg>",
    "<body onload=alert(1)>",
    "<iframe src=javascript:alert(1)>",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<object data=javascript:alert(1)>",
    "<embed src=javascript:alert(1)>",
    "<link rel=stylesheet href=//evil>",
    "<meta http-equiv=refresh content='0;url=javascript:alert(1)'>",
    "<base href=//evil/>",
    "<form action=javascript:alert(1)><input type=submit>",
    "<a href='javascript:alert(1)'>x</a>",
    "<details open ontoggle=alert(1)>",
    "<math><mi xlink:href='data:x,<script>alert(1)</script>'>",
    '" onmouseover="alert(1)',
    "' onmouseover='alert(1)",
    '"><script>alert(1)</script>',
    "'><script>alert(1)</script>",
    "` onmouseover=alert(1)",
    'x" autofocus onfocus=alert(1) y="',
    "<!-- --><script>alert(1)</script><!--",
    "--><script>alert(1)</script>",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<?php echo 1 ?>",
    "{{ 7 * 7 }}",
    "{% raw %}{{ config }}{% endraw %}",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)",
    "\u003cscript\u003ealert(1)",
    "<scr\x00ipt>alert(1)</scr\x00ipt>",
    "＜script＞alert(1)＜/script＞",
    "\u202e<script>\u202c",
    "\ud800<b>lone surrogate</b>",
    "\u2028<script>alert(1)</script>\u2029",
    "<plaintext>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
]


def dump(run: RunDirectory, name: str, value: Any) -> None:
    """Writes JSON with every odd character escaped, as other programs do."""
    run.path.mkdir(parents=True, exist_ok=True)
    (run / name).write_text(json.dumps(value) + "\n", "utf-8")


def poisoned(path: Path, text: str) -> RunDirectory:
    """Returns a run in which a text stands wherever a run may hold text."""
    run = RunDirectory(path)
    entry = {**EVALS["win_rate"], "title": text, "note": text, "unit": text}
    dump(
        run,
        "recipe.yaml",
        {
            "name": text,
            "stages": [
                {"name": path.name, "model": {"path": text}, "objectives": [{"name": text, "params": {text: text}}], "data": {"train": [{"path": text}]}}
            ],
        },
    )
    dump(
        run,
        "provenance.json",
        {**PROVENANCE, **dict.fromkeys(("command", "commit", "recipe", "seed"), text), "data": {text: text}, "versions": {text: text}, "machine": {text: text}},
    )
    dump(
        run,
        "evals.json",
        {
            text: entry,
            "gold_start": {**EVALS["gold_start"], "title": text, "unit": text},
            "gold_trained": {**EVALS["gold_trained"], "title": text, "unit": text},
        },
    )
    finding = {"name": text, "level": "warn", "headline": text, "numbers": {text: text}, "records": [text], "mend": text}
    dump(run, "doctor.json", {"verdict": [text], "findings": [finding, {**finding, "level": text}]})
    dump(run, "data.json", {text: {"records": 1, "reasons": {text: 1}, "ids": {text: [text]}, "sources": [text]}})
    dump(run, "samples.jsonl", {"prompt": text, "responses": [{"name": text, "text": text, "score": 1.5}, {"name": text, "text": text, "score": None}]})
    lines = [{"update": update, "split": "train", f"loss/{text}": 1.0, "loss/other": 1.0} for update in (1, 2)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return run


def skeleton(html: str) -> list[tuple[Any, ...]]:
    """Returns every tag with its attributes, except the values of those that repeat a text."""
    free = {"aria-label", "data-label"}
    return [
        (element.tag, element.path, [(name, None if name in free else value) for name, value in element.attributes.items()]) for element in Page(html).elements
    ]


def test_no_text_becomes_markup(tmp_path: Path) -> None:
    """A page with hostile texts has exactly the elements and attributes of the page with harmless ones in their place."""
    harmless = skeleton(page(poisoned(tmp_path / "harmless", "harmless")))
    assert len(TEXTS) >= 30
    for index, text in enumerate(TEXTS):
        html = page(poisoned(tmp_path / f"hostile-{index}", text))
        html.encode("utf-8")
        assert skeleton(html) == harmless, text
        assert len(re.findall("<script", html)) == 1, text
        assert len(re.findall("<style", html)) == 1, text


def test_a_hostile_text_is_read_as_it_is(tmp_path: Path) -> None:
    """Shown, not swallowed: the reader sees the very characters, template braces and entities too."""
    for index, text in enumerate(("<b>&amp;</b>", "{{ 7 * 7 }}", '"quoted"')):
        shown = Page(page(poisoned(tmp_path / str(index), text)))
        assert shown.all("p", **{"class": "text"})[0].text == text
        assert "49" not in shown.all("p", **{"class": "text"})[0].text


FILES = ("recipe.yaml", "provenance.json", "stages.json", "data.json", "doctor.json", "metrics.jsonl", "evals.json", "samples.jsonl")


def test_an_empty_directory_claims_nothing(tmp_path: Path) -> None:
    said = Page(page(RunDirectory(tmp_path / "nowhere"))).said
    for line in ("Not finished.", "No evaluation was recorded.", "No samples were recorded.", "No provenance was recorded.", "The recipe was not recorded."):
        assert line in said
    assert not re.search(r"\d", said)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_costs_only_its_part(tmp_path: Path, name: str) -> None:
    run = write_run(tmp_path / "run", 4)
    for part in (run, *run.stages):
        (part / name).unlink(missing_ok=True)
    shown = Page(page(run))
    assert len(shown.all("section")) == 5
    assert "cannot be read" not in shown.said


@pytest.mark.parametrize("text", ["{", "[1, 2]\n", "3\n", "null\n", '"text"\n', "\x00\n", "NaN\n", '{"update": {}}\n', "- [\n"])
def test_broken_files_are_quiet_lines(tmp_path: Path, text: str) -> None:
    """Each file alone in an otherwise whole run, and all of them together."""
    run = RunDirectory(write_run(tmp_path / "run", 2).path / "reward")
    whole = {name: (run / name).read_bytes() for name in FILES if (run / name).is_file()}
    for name in FILES:
        (run / name).write_text(text, "utf-8")
        shown = Page(page(run))
        assert len(shown.all("section")) == 5
        if text == "{" and name.endswith(".json"):
            assert f"{name} cannot be read" in shown.said
        if name in whole:
            (run / name).write_bytes(whole[name])
    for name in FILES:
        (run / name).write_text(text, "utf-8")
    assert len(Page(page(run)).all("section")) == 5


def test_bytes_that_are_no_text_are_a_quiet_line(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 2)
    for name in FILES:
        (run / name).write_bytes(b"\xff\xfe\x00{")
    assert "provenance.json cannot be read" in Page(page(run)).said


def variants(held: Any) -> list[Any]:
    """Returns a JSON value with each of its parts, to a depth of four, replaced by something of another kind."""
    found: list[Any] = [None, "text", [], {}, float("nan"), -1, True, [None, 3, "x"]]
    parts = list(held.items()) if isinstance(held, dict) else list(enumerate(held))[:1] if isinstance(held, list) else []
    for key, value in parts:
        for other in (None, "text", [3, None], {"a": None}, float("inf"), True):
            copy = dict(held) if isinstance(held, dict) else list(held)
            copy[key] = other
            found.append(copy)
        if isinstance(value, (dict, list)):
            for other in variants(value)[8:]:
                copy = dict(held) if isinstance(held, dict) else list(held)
                copy[key] = other
                found.append(copy)
    return found


def test_no_value_of_another_kind_stops_the_report(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    whole = poisoned(run.path, "text")
    (run / "metrics.jsonl").unlink()
    originals = {name: whole.read_json(name) for name in ("provenance.json", "evals.json", "doctor.json", "data.json", "samples.jsonl", "recipe.yaml")}
    tried = 0
    for name, held in originals.items():
        for other in variants(held)[::7]:
            dump(run, name, other)
            Page(page(run))
            tried += 1
        dump(run, name, held)
    assert tried > 40


def test_stages_that_are_gone_are_told(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.write_json("stages.json", ["sft", "dpo"])
    said = Page(page(run)).said
    assert said.count("The recipe of this stage was not recorded.") == 2
    assert "2 stages, in the order they ran." in said
