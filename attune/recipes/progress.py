"""What a person watching sees: a bar for what takes long, a line for what happened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Advance = Callable[[int, str], None]
"""Takes how much is done, and a word on how it goes."""


class Watcher:
    """Shows progress on a terminal; without one it prints a line when a piece of work ends.

    Args:
        quiet: show nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(quiet=quiet, highlight=False, emoji=False, stderr=True)

    def say(self, text: str) -> None:
        """Prints one line."""
        self.console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def bar(self, title: str, total: int | None = None) -> Iterator[Advance]:
        """Shows a bar; the block gets a function to advance it."""
        columns = (_said("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), _said("{task.fields[word]}"))
        last = ""
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as progress:
            task = progress.add_task(title, total=total, word="")

            def advance(done: int, word: str = "") -> None:
                nonlocal last
                last = word
                progress.update(task, completed=done, word=word)

            yield advance
        self.say(f"{title}: {last}" if last else title)


def _said(text: str) -> TextColumn:
    return TextColumn(text, markup=False)
