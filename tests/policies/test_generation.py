"""What a saved model says about generation: where to stop, and nothing that cannot be written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from attune.policies.causal import load
from tests import tiny


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({}, {}),
        ({"temperature": 0.6, "top_p": 0.9}, {"temperature": 0.6, "top_p": 0.9, "do_sample": True}),
        ({"do_sample": True, "temperature": 0.6}, {"do_sample": True, "temperature": 0.6}),
        ({"length_penalty": 2.0, "temperature": 0.6}, {}),
    ],
    ids=["nothing", "a temperature without sampling", "sampling", "a contradiction that sampling does not resolve"],
)
def test_defaults_that_transformers_reads_but_refuses_to_write(said: dict[str, Any], kept: dict[str, Any], tmp_path: Path) -> None:
    """The stop tokens are those of the chat template and of the text's end, whatever the model came with."""
    tiny.policy().save(str(tmp_path / "came"))
    (tmp_path / "came" / "generation_config.json").write_text(json.dumps({"eos_token_id": 7, **said}))
    policy = load(str(tmp_path / "came"))
    policy.save(str(tmp_path / "saved"))
    found = json.loads((tmp_path / "saved" / "generation_config.json").read_text())
    assert found["eos_token_id"] == [policy.tokenizer.convert_tokens_to_ids("<|im_end|>"), policy.tokenizer.eos_token_id]
    assert {name: found[name] for name in ("temperature", "top_p", "do_sample", "length_penalty") if name in found} == kept
