"""What a person watching sees."""

from __future__ import annotations

import pytest

from attune.recipes.progress import Watcher


def test_lines_go_to_stderr_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Brackets and colons are somebody's words, not markup and not pictures; long lines are not broken."""
    text = "[bold]dpo[/bold] :warning: 3e-07 " + "x" * 200
    Watcher().say(text)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", text + "\n")


def test_a_bar_without_a_terminal_is_one_line_at_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    with Watcher().bar("dpo: training", total=3) as advance:
        for done in (1, 2, 3):
            advance(done, f"{done}/3 loss 0.5")
        assert capsys.readouterr().err == ""
    assert capsys.readouterr().err == "dpo: training: 3/3 loss 0.5\n"


def test_a_bar_that_was_never_advanced_says_its_title(capsys: pytest.CaptureFixture[str]) -> None:
    with Watcher().bar("reading"):
        pass
    assert capsys.readouterr().err == "reading\n"


def test_work_that_fails_is_not_reported_as_done(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        with Watcher().bar("training") as advance:
            advance(1, "1/3")
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        work()
    assert capsys.readouterr().err == ""


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    watcher = Watcher(quiet=True)
    watcher.say("something")
    with watcher.bar("training", total=1) as advance:
        advance(1, "done")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


def test_on_a_terminal_the_bar_shows_title_count_and_word(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    watcher = Watcher()
    assert watcher.console.is_terminal
    with watcher.bar("[bold] training", total=4) as advance:
        advance(3, "loss [red] 0.5")
    shown, _, _ = capsys.readouterr().err.rpartition("[bold] training: ")
    assert "[bold] training" in shown
    assert "3/4" in shown
    assert "loss [red] 0.5" in shown
