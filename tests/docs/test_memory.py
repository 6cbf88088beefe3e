"""The memory of the page on one GPU is what its own arithmetic gives, for the model that it names."""

from __future__ import annotations

import pytest
import torch

from tests.docs.material import DOCS, blocks

PAGE = (DOCS / "howto" / "one_gpu.md").read_text("utf-8")


def test_the_table_is_what_the_arithmetic_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """And the weights are counted right: those of the model itself, built without memory."""
    from transformers import LlamaConfig, LlamaForCausalLM

    made: dict[str, int] = {}
    exec(compile(blocks(PAGE, "python")[0], "one_gpu.md", "exec"), made)
    for line in capsys.readouterr().out.splitlines():
        assert line in PAGE
    config = LlamaConfig(vocab_size=128_256, hidden_size=4096, num_hidden_layers=32, intermediate_size=14_336, num_attention_heads=32, num_key_value_heads=8)
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    assert made["weights"] == sum(parameter.numel() for parameter in model.parameters())
    assert made["linear"] == sum(part.weight.numel() for name, part in model.named_modules() if isinstance(part, torch.nn.Linear) and name != "lm_head")
