"""The floor: the bare model forward and backward on each unique token once, head on response tokens, AdamW. No padding, no objective, no trainer.

A group is a line of its prompt and all its responses under plain causal attention, which stands in for the tree; lines are computed one by one,
which was faster here than all of them as one. The parts are transformers' and torch's own, so a library with better parts can be below it. The
gradient is of the mean log-probability, not of a preference loss.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.worker import Turns, tune_allocator


def main() -> None:
    tune_allocator()
    turns = Turns()
    spec = turns.spec
    import torch
    import transformers

    torch.set_num_threads(spec["threads"])
    transformers.logging.set_verbosity_error()
    auto = transformers.AutoModelForSequenceClassification if spec["kind"] == "reward" else transformers.AutoModelForCausalLM
    model: Any = auto.from_pretrained(spec["model"], dtype=torch.float32, attn_implementation="sdpa")
    if spec["adapter"]:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, spec["adapter"], is_trainable=True)
    model.train()
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=spec["lr"], weight_decay=0.0, fused=True)
    groups = [Line(group, spec["eos"]) for group in json.loads(Path(spec["tokens"]).read_text())]
    num = spec["groups_per_update"]
    turns.ready(computed=sum(line.ids.shape[1] for line in groups[:num]))
    loss = torch.zeros(())
    for update in range(spec["updates"]):
        lines = groups[update * num : (update + 1) * num]
        with torch.autocast("cpu", torch.bfloat16, enabled=spec["precision"] == "bf16"):
            loss = loss_of(model, lines, reward=spec["kind"] == "reward")
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        turns.done(loss.item)


class Line:
    """One group: prompt and responses behind each other.

    Attributes:
        ids: [1,L].
        predicting: [M], positions that predict a response token.
        targets: [M], those tokens.
        last: [K], the stop tokens' positions.
    """

    def __init__(self, group: dict[str, Any], eos: int) -> None:
        import torch

        ids, predicting, targets, last = list(group["prompt"]), [], [], []
        end_of_prompt = len(ids) - 1
        for response in group["responses"]:
            response = [*response, eos]
            predicting += [end_of_prompt, *range(len(ids), len(ids) + len(response) - 1)]
            targets += response
            ids += response
            last.append(len(ids) - 1)
        self.ids = torch.tensor(ids)[None]
        self.predicting, self.targets, self.last = (torch.tensor(one) for one in (predicting, targets, last))


def loss_of(model: Any, lines: list[Line], *, reward: bool) -> Any:
    """Returns the mean cross-entropy of the response tokens, or the mean score of the responses."""
    import torch

    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    states = [inner.base_model(input_ids=line.ids, use_cache=False).last_hidden_state[0] for line in lines]
    if reward:
        return inner.score(torch.cat([state[line.last] for state, line in zip(states, lines, strict=True)])).float().mean()
    hidden_MH = torch.cat([state[line.predicting] for state, line in zip(states, lines, strict=True)])
    logits_MV = torch.nn.functional.linear(hidden_MH, inner.get_output_embeddings().weight)
    return torch.nn.functional.cross_entropy(logits_MV, torch.cat([line.targets for line in lines]))


if __name__ == "__main__":
    main()
