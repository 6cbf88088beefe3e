"""Prints bytes: what a small training is estimated to hold at its peak beside the bare program (guess), or what it held (run). A process of its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

import torch

from attune.config.recipe import OptimConfig
from attune.policies.adapters import add_adapter
from attune.policies.causal import CausalPolicy
from attune.training.machine import tune
from attune.training.memory import estimate, gauge, resident
from attune.training.optim import build_optimizer
from attune.training.update import Learner
from tests import tiny
from tests.training.helpers import Noise, items, objective


def policy(case: str) -> CausalPolicy:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    sizes = {"vocab_size": 8192, "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 6, "num_key_value_heads": 3, "intermediate_size": 1152}
    model: Any = Qwen2ForCausalLM(Qwen2Config(**sizes, tie_word_embeddings=True, use_cache=False))
    if case == "bfloat16":
        model = model.to(torch.bfloat16)
    if case == "lora":
        model = add_adapter(model, {"rank": 16, "alpha": 32.0, "dropout": 0.0, "targets": "all-linear"}, head="lm")
    return CausalPolicy(model, tiny.tokenizer(chat="chatml"))


def main(how: str, case: str) -> None:
    tune()
    made = policy(case)
    tokens = 500 if case == "full, several passes" else None
    learner = Learner(made, [objective("dpo")], frozen={"ref_logp": Noise()}, tokens_per_pass=tokens)
    batch, optim = items(16, k=3), OptimConfig()
    gauge(torch.device("cpu"))
    program = resident() - sum(p.numel() * p.element_size() for p in made.module.parameters())
    if how == "guess":
        found, _ = estimate(learner, [batch], optim)
        print(found.total - program)
        return
    optimizer = build_optimizer(made.module, optim)
    learner.forget = optimizer.zero_grad
    for _ in range(2):
        learner.backward(batch)
        optimizer.step()
        optimizer.zero_grad()
    print(resident() - program)


main(sys.argv[1], sys.argv[2])
