from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from attune.core.errors import RunError
from attune.report.build import build, page
from attune.runs.directory import RunDirectory
from tests.report.fake_run import DATA, EVALS, PROVENANCE, RECIPE, REWARD_EVALS, write_run
from tests.report.html import Page

VALUE = re.compile(r"[\u202f\s%]")


def read(text: str) -> float:
    """Returns the number that a cell shows, with a share in per cent as a share."""
    said = float(VALUE.sub("", text).replace("−", "-"))
    return said / 100 if "%" in text else said


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return write_run(tmp_path_factory.mktemp("run") / "small")


@pytest.fixture(scope="module")
def shown(run: RunDirectory) -> Page:
    return Page(page(run))


def test_one_file_of_a_modest_size(run: RunDirectory) -> None:
    path = build(run)
    assert path == run / "report.html"
    assert path.stat().st_size < 300_000
    assert path.read_text("utf-8") == page(run)


def test_nothing_is_fetched(run: RunDirectory, shown: Page) -> None:
    assert "http:" not in page(run)
    assert "https:" not in page(run)
    assert "//" not in re.sub(r"<script>.*</script>", "", page(run), flags=re.S)
    assert "url(" not in page(run)
    assert "@import" not in page(run)
    assert {element.tag for element in shown.elements}.isdisjoint({"link", "img", "iframe", "object", "embed", "base", "form", "use", "image"})
    assert not [element for element in shown.elements if "src" in element.attributes or "style" in element.attributes]
    targets = [element.attributes["href"] or "" for element in shown.elements if "href" in element.attributes]
    named = {element.attributes["id"] for element in shown.elements if "id" in element.attributes}
    assert targets
    assert all(target.startswith("#") and target[1:] in named for target in targets)


def test_the_policy_admits_the_own_style_and_script_and_nothing_else(shown: Page) -> None:
    policy = shown.all("meta", **{"http-equiv": "Content-Security-Policy"})[0].attributes["content"] or ""
    parts = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert parts["default-src"] == "'none'"
    for tag, name in (("style", "style-src"), ("script", "script-src")):
        digest = base64.b64encode(hashlib.sha256(shown.all(tag)[0].text.encode()).digest()).decode()
        assert parts[name] == f"'sha256-{digest}'"
        assert len(shown.all(tag)) == 1


def test_results_are_the_numbers_of_the_files(shown: Page) -> None:
    exact = {element.attributes["value"] for element in shown.all("data")}
    assert exact == {str(entry["value"]) for entry in (*EVALS.values(), *REWARD_EVALS.values(), REWARD_EVALS["accuracy_reward"]["before"])}
    for element in shown.all("data"):
        value = float(element.attributes["value"] or "nan")
        unit = next((entry["unit"] for entry in EVALS.values() if entry["value"] == value), "")
        assert read(element.text.removesuffix(unit)) == pytest.approx(value, rel=2e-3)
    assert "95\u202f% interval 61.2\u202f% to 74.9\u202f%" in shown.said


def test_tables_are_the_metrics_of_the_files(run: RunDirectory) -> None:
    """Every cell of every chart's table of the DPO stage against its line in metrics.jsonl, to the five digits shown."""
    html = page(run)
    stage = html[html.index('id="stage-3"') : html.index('id="stage-4"')]
    lines = list(run.stages[2].lines("metrics.jsonl"))
    by_split = {split: {line["update"]: line for line in lines if line["split"] == split} for split in ("train", "eval")}
    keys = {
        "loss": "loss",
        "margin": "margin",
        "accuracy": "accuracy",
        "KL": "kl_to_ref",
        "norm": "grad_norm",
        "rate": "lr",
        "dpo": "loss/dpo",
        "sft": "loss/sft",
    }
    keys["tokens"] = "supervised_tokens"
    checked = 0
    for table in re.findall(r"<table>.*?</table>", stage, flags=re.S):
        head, *rows = re.findall(r"<tr>(.*?)</tr>", table, flags=re.S)
        names = re.findall(r"<th[^>]*>(.*?)</th>", head)
        if names[0] != "update":
            continue
        for row in rows:
            cells = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)
            for name, cell in zip(names[1:], cells[1:], strict=True):
                label, _, held_out = name.partition(", ")
                kind = "length" if "Response length" in table else "logp_change"
                key = f"{label}_{kind}" if label in ("chosen", "rejected") else keys[label]
                line = by_split["eval" if held_out else "train"].get(int(read(cells[0])))
                if cell:
                    assert line is not None
                    assert read(cell) == pytest.approx(line[key], rel=1e-4, abs=6e-5)
                    checked += 1
    assert checked > 100


def test_the_end_of_a_curve_is_its_last_held_out_value(run: RunDirectory, shown: Page) -> None:
    last = [line for line in run.stages[2].lines("metrics.jsonl") if line["split"] == "eval"][-1]
    ends = [element.said for element in shown.all("p", **{"class": "end"})]
    assert f"{last['margin']:.4f} held out, update 60" in ends
    assert f"{last['accuracy'] * 100:.2f}\u202f% held out, update 60" in ends


def test_displacement_is_said_with_its_numbers(run: RunDirectory, shown: Page) -> None:
    last = [line for line in run.stages[2].lines("metrics.jsonl") if line["split"] == "eval"][-1]
    chosen, rejected = -last["chosen_logp_change"], -last["rejected_logp_change"]
    assert f"Chosen fell by {chosen:.3f} nats, rejected fell by {rejected:.3f} nats (held-out data at the last evaluation)" in shown.said


def test_data_and_doctor_are_told(shown: Page) -> None:
    for count in (number for number in DATA["train"].values() if isinstance(number, int)):
        assert f"<dd>{count}</dd>" in shown.html
    assert "tie between both responses 12 pref-0, pref-1" in shown.said
    assert shown.said.count("Preferred responses are longer") == 2
    assert "The doctor found 1 warning in the training data." in shown.said
    assert "pref-19 (world/preferences.jsonl:20; ada, ben) and 11 more" in shown.said
    assert "difference 1.913 [1.21, 2.62]" in shown.said
    assert "Nothing to look at for: ratings, position" in shown.said
    assert "1 record could not be read world/preferences.jsonl:77: chosen: a text is not empty" in shown.said
    assert "1 check without findings" in shown.said


def test_stages_say_what_was_trained_on_what(shown: Page) -> None:
    facts = [element.said for element in shown.all("dl", **{"class": "facts"})]
    assert facts[0].startswith("model world/model objective sft data world/demonstrations.jsonl groups per update 16 updates 60")
    assert "adapter LoRA, rank 16, alpha 32 objective dpo (beta 0.1); 0.2 × sft" in facts[2]
    assert "compared with stage:sft judged by stage:reward" in facts[3]
    assert shown.said.startswith("Skip to the verdict attune / small-world")
    assert "Nothing is trained in this stage." in shown.said


def test_samples_stand_side_by_side(shown: Page) -> None:
    assert "12 of 16 samples." in shown.said
    assert len(shown.all("article", **{"class": "sample"})) == 12
    first = shown.all("article", **{"class": "sample"})[0].said
    assert first == "Prompt Sort the numbers 4 9 2 7, largest first. start 0.3100 4 9 2 7 trained 0.8200 highest 9 7 4 2"
    unscored = shown.all("article", **{"class": "sample"})[3].said
    assert "start 4 9 2 7 trained 0.8500 9 7 4 2" in unscored
    assert "highest" not in unscored


def test_provenance_is_enough_to_do_it_again(run: RunDirectory, shown: Page) -> None:
    assert f"git checkout {PROVENANCE['commit']} && attune run {run.path}/recipe.yaml --run-dir {run.path}-again" in shown.said
    assert "2026-11-20 15:02 UTC (4 min 13 s)" in shown.said
    assert "a3" * 32 in shown.said
    assert "hub:someone/feedback@train not a file" in shown.said
    assert "peft not installed" in shown.said
    assert RECIPE in [element.text for element in shown.all("code")]


def test_it_can_be_used_without_eyes_or_mouse(shown: Page) -> None:
    for drawing in shown.all("svg"):
        assert drawing.attributes.get("aria-hidden") == "true" or (drawing.attributes.get("role") == "img" and drawing.attributes.get("aria-label"))
    assert len(shown.all("h1")) == 1
    levels = [int(element.tag[1]) for element in shown.elements if re.fullmatch("h[1-6]", element.tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    names = [element.attributes["id"] for element in shown.elements if "id" in element.attributes]
    assert len(names) == len(set(names))
    assert len(shown.all("summary")) == len(shown.all("details"))
    assert all(element.attributes.get("aria-label") for element in shown.elements if element.attributes.get("role") == "region")
    assert shown.all("html")[0].attributes == {"lang": "en"}
    plots = shown.all("svg", **{"class": "plot"})
    assert len(plots) == len(shown.all("figure", **{"class": "card"}))
    assert all("by update" in (plot.attributes["aria-label"] or "") for plot in plots)


def luminance(colour: str) -> float:
    wide = colour if len(colour) == 7 else "#" + "".join(digit * 2 for digit in colour[1:])
    channels = [int(wide[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_every_text_colour_has_the_contrast_of_level_aa(shown: Page) -> None:
    themes = [dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{3,6});", block)) for block in re.findall(r":root \{(.*?)\}", shown.all("style")[0].text, flags=re.S)]
    light, dark = themes[:2]
    for theme in (light, dark):
        for name in ("ink", "quiet", "good", "warn", "bad", "tone-0", "tone-1", "tone-2", "tone-3"):
            for ground in ("paper", "sheet"):
                bright, dim = sorted((luminance(theme[name]), luminance(theme[ground])), reverse=True)
                assert (bright + 0.05) / (dim + 0.05) >= 4.5, (name, ground)


def test_a_single_run_is_its_own_stage(tmp_path: Path) -> None:
    chain = write_run(tmp_path / "chain", 6)
    alone = RunDirectory(chain.path / "dpo")
    shown = Page(page(alone))
    assert "What was trained on what, and how it went." in shown.said
    assert len(shown.all("article", **{"class": "stage"})) == 1
    assert "Trained; not yet judged." in shown.said


def test_texts_are_cut_and_counted(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.append("samples.jsonl", [{"prompt": "p" * 4001, "responses": [{"name": "start", "text": "", "score": None}]}])
    said = Page(page(run)).said
    assert "p" * 4000 in said
    assert "p" * 4001 not in said
    assert "1 more character in samples.jsonl." in said
    assert "The empty answer." in said


def test_displacement_without_held_out_data_is_a_mean_of_the_last_updates(tmp_path: Path) -> None:
    """Twelve updates, chosen change -1 .. -12 and rejected 0: the last ten average -7.5."""
    run = RunDirectory(tmp_path)
    run.append("metrics.jsonl", [{"update": u, "split": "train", "chosen_logp_change": -float(u), "rejected_logp_change": 0.0} for u in range(1, 13)])
    said = Page(page(run)).said
    assert "Chosen fell by 7.500 nats, rejected did not move (training data, mean of the last 10 updates). The change went against the feedback." in said


def test_values_that_are_not_finite_are_gaps_and_never_zero(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.append("metrics.jsonl", [{"update": u, "split": "train", "loss": math.nan if u == 2 else 1.0 * u} for u in range(1, 5)])
    shown = Page(page(run))
    assert "loss: 1 of 4 values were not finite and are gaps." in shown.said
    assert "2 — 3 3" in shown.said


def test_what_only_training_has_is_not_mixed_with_evaluation(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.append("metrics.jsonl", [{"update": 1, "split": "train", "supervised_tokens": 300}, {"update": 1, "split": "eval", "supervised_tokens": 9000}])
    said = Page(page(run)).said
    assert "Supervised tokens 300 update 1" in said
    assert "9\u202f000" not in said


def test_a_stage_that_stopped_early_says_so(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.append("metrics.jsonl", [{"update": 40, "split": "train", "loss": 1.0}])
    run.write_json("outcome.json", {"updates": 40, "stopped_early": True})
    assert "updates 40, stopped early" in Page(page(run)).said


def test_a_change_below_a_thousandth_of_a_nat_is_none(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.append("metrics.jsonl", [{"update": 1, "split": "eval", "chosen_logp_change": -4e-8, "rejected_logp_change": 9e-8}])
    assert "Chosen did not move, rejected did not move (held-out data at the last evaluation)." in Page(page(run)).said
    run.append("metrics.jsonl", [{"update": 2, "split": "eval", "chosen_logp_change": -0.00268, "rejected_logp_change": -0.00951}])
    assert "Chosen fell by 0.002680 nats, rejected fell by 0.009510 nats" in Page(page(run)).said


def test_a_later_line_for_the_same_update_holds(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.append("metrics.jsonl", [{"update": 1, "split": "train", "loss": 9.0}, {"update": 1, "split": "train", "loss": 2.5}])
    assert "loss: 2.5000 at update 1." in page(run)


def test_tokens_are_summed_only_when_every_update_has_them(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.append("metrics.jsonl", [{"update": u, "split": "train", "supervised_tokens": 100 * u} for u in (1, 2)])
    assert "supervised tokens 300" in Page(page(run)).said
    run.append("metrics.jsonl", [{"update": 3, "split": "train", "loss": 1.0}])
    assert "supervised tokens 3" not in Page(page(run)).said


def test_a_report_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 2)
    (run / "report.html").mkdir()
    with pytest.raises(RunError, match="cannot write"):
        build(run)


def test_json_in_attributes_is_json_again(shown: Page) -> None:
    points: list[Any] = [json.loads(element.attributes["data-hover"] or "") for element in shown.all("g") if "data-hover" in element.attributes]
    assert points
    assert all(len(point) == 4 for line in points for point in line)
