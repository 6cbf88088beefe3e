"""TRL's side: its own trainer runs its own loop, in its own environment, with the options that were fastest here.

What differs from TRL's defaults, and why: reference log-probabilities before training (`precompute_ref_log_probs`), no gradient checkpointing,
fused AdamW, no shuffling, no truncation. bf16 autocast is TRL's default. `padding_free` is switched off by TRL itself in this release; kernels
and flash attention are for GPUs. `repaired` changes one line at run time, see `repair_head`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from benchmarks.worker import Turns, tune_allocator


def repair_head() -> None:
    """Lets TRL's head score response tokens only, as it does on CUDA.

    On a CPU `trl.trainer.utils.add_fused_lm_head` sends every position through the head, prompt and padding too, because another kind of
    device would recompile at each length. Its test of the device is asked for nothing else there, so the answer for CUDA is given.
    """
    import trl.trainer.utils

    assert callable(trl.trainer.utils._use_triton), "this release of TRL has another head: look at it again"
    trl.trainer.utils._use_triton = lambda device: True


def main() -> None:
    tune_allocator()
    turns = Turns()
    spec = turns.spec
    import torch
    import transformers

    torch.set_num_threads(spec["threads"])
    transformers.logging.set_verbosity_error()
    if spec["repaired"]:
        repair_head()
    trainer = build(spec)
    losses: list[float] = []
    inner = trainer.training_step

    def training_step(*args: Any, **kwargs: Any) -> Any:
        loss = inner(*args, **kwargs)
        losses.append(float(loss))  # of a pass, divided already by the number of passes
        return loss

    def loss_of_update() -> float:
        total = sum(losses)
        losses.clear()
        return total

    class InTurns(transformers.TrainerCallback):
        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            turns.ready(**what_is_computed(trainer, spec))

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            turns.done(loss_of_update)

    trainer.training_step = training_step
    trainer.add_callback(InTurns())
    trainer.train()


def build(spec: dict[str, Any]) -> Any:
    """Returns the trainer, with reference log-probabilities computed."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedTokenizerFast
    from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer

    reward = spec["kind"] == "reward"
    auto = AutoModelForSequenceClassification if reward else AutoModelForCausalLM
    model = auto.from_pretrained(spec["model"], dtype=torch.float32, attn_implementation="sdpa")
    rows = [json.loads(line) for line in Path(spec["pairs"]).read_text().splitlines()]
    shared = {
        "output_dir": os.path.join(spec["scratch"], "trl"),
        "per_device_train_batch_size": spec["pairs_per_pass"],
        "gradient_accumulation_steps": spec["pairs_per_update"] // spec["pairs_per_pass"],
        "max_steps": spec["updates"],
        "learning_rate": spec["lr"],
        "lr_scheduler_type": "constant",
        "max_grad_norm": 1.0,
        "weight_decay": 0.0,
        "optim": "adamw_torch_fused",
        "train_sampling_strategy": "sequential",
        "bf16": spec["precision"] == "bf16",
        "gradient_checkpointing": False,
        "max_length": None,
        "use_cpu": True,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "seed": 0,
    }
    tokenizer = PreTrainedTokenizerFast.from_pretrained(spec["model"])
    data = Dataset.from_list(rows)
    if reward:
        return RewardTrainer(model=model, args=RewardConfig(**shared), train_dataset=data, processing_class=tokenizer)
    args = DPOConfig(**shared, precompute_ref_log_probs=True, beta=spec["beta"])
    trainer = DPOTrainer(model=model, args=args, train_dataset=data, processing_class=tokenizer, peft_config=lora(spec))
    if spec["adapter"]:
        same_start(trainer.model, spec["adapter"])
    return trainer


def lora(spec: dict[str, Any]) -> Any:
    """Returns the adapter's configuration, or None where all weights are trained."""
    if not spec["adapter"]:
        return None
    from peft import LoraConfig

    return LoraConfig.from_pretrained(spec["adapter"])


def same_start(model: Any, folder: str) -> None:
    """Gives a new adapter the first factors that both sides begin with; the second ones are 0, so it changes nothing yet."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    result = set_peft_model_state_dict(model, load_file(os.path.join(folder, "adapter_model.safetensors")))
    assert not result.unexpected_keys, result.unexpected_keys


def what_is_computed(trainer: Any, spec: dict[str, Any]) -> dict[str, int]:
    """Returns the first update's tokens as its loader gives them: computed (padding included), attended, and with a label."""
    batches = iter(trainer.get_train_dataloader())
    found = {"computed": 0, "attended": 0, "supervised": 0}
    for _ in range(spec["pairs_per_update"] // spec["pairs_per_pass"]):
        batch = next(batches)
        found["computed"] += batch["input_ids"].numel()
        found["attended"] += int(batch["attention_mask"].sum())
        found["supervised"] += int(batch["completion_mask"][:, 1:].sum()) if "completion_mask" in batch else 0
    return found


if __name__ == "__main__":
    main()
