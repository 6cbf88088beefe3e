"""The doctor: runs every probe over feedback, on the exact tokens that would be trained where there is a model, and says what to do."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from attune.core.errors import AttuneError
from attune.core.record import Group
from attune.data import discovery
from attune.data.account import Account
from attune.data.files import find, rows
from attune.data.read import read
from attune.diagnostics import feedback, tokens
from attune.diagnostics.accounting import accounting
from attune.diagnostics.diagnosis import Diagnosis
from attune.diagnostics.finding import LEVELS, Finding, many
from attune.diagnostics.signalled import signalled

if TYPE_CHECKING:
    from attune.core.signal import Signal
    from attune.diagnostics.encoding import Reader, Reads

Probe = Callable[[Any], Sequence[Finding]]

_FIRST = 32  # records by which a result table is told


@cache
def probes(package: ModuleType) -> dict[str, Probe]:
    """Returns the probes of a package by name: each file holds a function called like itself."""
    names = sorted(info.name for info in pkgutil.iter_modules(package.__path__))
    return {name: getattr(importlib.import_module(f"{package.__name__}.{name}"), name) for name in names}


def examine(
    groups: Sequence[Group],
    *,
    account: Account | None = None,
    model: Reads | None = None,
    signal: Callable[[Group], Signal] | None = None,
    title: str = "feedback",
) -> Diagnosis:
    """Returns what is wrong with feedback.

    Args:
        groups: any groups; they are held in memory.
        account: of the reading they came from, when it has come to its end; None: where records went is not examined.
        model: the policy that would be trained, or a Reader in its place; None: tokens are not examined.
        signal: what the objective would be given of a group; None: not examined.
        title: what to call the feedback.

    Returns:
        Findings, the worst first; its `exit_code` is 1 where training would be wrong.
    """
    found = list(accounting(account)) if account is not None else []
    if signal is not None:
        found += signalled(groups, signal)
    said = [(name, probe(groups)) for name, probe in probes(feedback).items()]
    if model is not None:
        from attune.diagnostics.encoding import encode

        encoding = encode(groups, model)
        said += [(name, probe(encoding)) for name, probe in probes(tokens).items()]
    found += [finding for _, findings in said for finding in findings]
    return _diagnosis(title, found, [name for name, findings in said if not findings])


def examine_path(
    path: str | Path | Sequence[str | Path],
    *,
    model: str | Path | None = None,
    format: str | None = None,
    max_prompt_tokens: int | None = None,
    max_response_tokens: int | None = None,
    overlong: str = "drop",
    signal: Callable[[Group], Signal] | None = None,
) -> Diagnosis:
    """Returns what is wrong with the feedback in files; a result table is told as such, with nothing else to say.

    However many records are bad, all are read and listed.

    Args:
        path: what `attune.data.read.read` takes.
        model: folder or hub id of the model that would be trained; its tokenizer and configuration are read, not its weights. None: tokens are not examined.
        format: name of the format; None: it is detected.
        max_prompt_tokens, max_response_tokens, overlong: as in training.
        signal: see `examine`.

    Raises:
        FormatError: nothing there, an unknown or a wrong format.
        TooManyBadRecords: no record at all can be used.
        AttuneError: the model's tokenizer cannot be read.
    """
    title = ", ".join(map(str, [path] if isinstance(path, (str, Path)) else path))
    table = _table(path, format)
    if table is not None:
        return _diagnosis(title, [table], [])
    reader = None
    if model is not None:
        reader = _reader(str(model), max_prompt_tokens=max_prompt_tokens, max_response_tokens=max_response_tokens, overlong=overlong)
    reading = read(path, format=format, max_bad=1.0)
    groups = list(reading)
    return examine(groups, account=reading.account, model=reader, signal=signal, title=title)


def _diagnosis(title: str, found: Sequence[Finding], silent: Sequence[str]) -> Diagnosis:
    return Diagnosis(title=title, findings=tuple(sorted(found, key=lambda finding: -LEVELS.index(finding.level))), silent=tuple(silent))


def _table(path: str | Path | Sequence[str | Path], format: str | None) -> Finding | None:
    """Returns what to say about a result table; None where any of the files may hold feedback."""
    num, names = 0, set()
    for file in (file for one in ([path] if isinstance(path, (str, Path)) else path) for file in find(one)):
        first = [row.record for row in islice(rows(file), _FIRST) if row.record is not None]
        found = None if not first else discovery.named(format) if format is not None else discovery.detect(first, file=file)
        if found is None or not found.table:
            return None
        num += sum(1 for _ in rows(file))
        names.add(found.name)
    return Finding(
        name="table",
        level="note",
        headline=f"{many(num, 'record')} of a result table ({', '.join(sorted(names))}): numbers without texts, so there are 0 groups",
        numbers={"records": num, "formats": sorted(names)},
        mend="give it to an evaluation; there is nothing in it to train on",
    )


def _reader(model: str, *, max_prompt_tokens: int | None, max_response_tokens: int | None, overlong: str) -> Reader:
    """Returns how a model reads conversations, from its tokenizer and its configuration."""
    from transformers import AutoConfig, AutoTokenizer

    from attune.diagnostics.encoding import Reader
    from attune.policies.templates import Template

    try:
        # over-long texts are counted and listed, no warning is needed
        tokenizer, config = AutoTokenizer.from_pretrained(model, model_max_length=sys.maxsize), AutoConfig.from_pretrained(model).get_text_config()
    except (OSError, ValueError) as error:  # what transformers says of a model that is absent, unknown or wants to run its own code
        raise AttuneError(f"the model's tokenizer cannot be read: {str(error).strip()}", field="model", value=model, allowed="a folder or a hub id") from error
    return Reader(
        template=Template(tokenizer),
        max_prompt_tokens=max_prompt_tokens,
        max_response_tokens=max_response_tokens,
        max_positions=getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None),
        overlong=overlong,
    )
