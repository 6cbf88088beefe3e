"""The shapes that are measured, and what both sides get: one model, one tokenizer, one set of token ids.

    python -m benchmarks.material '{"name": "chat 32k", ...}' FOLDER UPDATES      (the driver does this, in a process of its own)

Letters: K responses of a group, V vocabulary.
"""

from __future__ import annotations

import json
import random
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SEED = 20_260
BETA = 0.1
LR = 1e-4
"""Large enough that a few updates move the loss of random weights, small enough that it stays smooth."""
RANK = 16
EOS, PAD, UNKNOWN = "</s>", "<pad>", "<unk>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A model and a kind of data."""

    name: str
    vocabulary: int
    prompt: tuple[int, int]
    # shortest and longest prompt, tokens
    response: tuple[int, int]
    # shortest and longest response, tokens, its stop token among them
    responses: int = 2
    # K
    groups_per_update: int = 4
    kind: str = "dpo"
    # dpo, lora (DPO of a LoRA adapter), reward
    hidden: int = 512
    layers: int = 6
    intermediate: int = 1536

    @property
    def pairs_per_group(self) -> int:
        return self.responses * (self.responses - 1) // 2


CHAT = {"prompt": (128, 384), "response": (64, 192)}
LONG: dict[str, Any] = {"prompt": (768, 1280), "response": (32, 96), "groups_per_update": 2}

SHAPES = (
    Shape(name="chat 32k", vocabulary=32_000, **CHAT),
    Shape(name="chat 152k", vocabulary=151_936, **CHAT),
    Shape(name="long 32k", vocabulary=32_000, **LONG),
    Shape(name="long 152k", vocabulary=151_936, **LONG),
    Shape(name="long 32k, K = 8", vocabulary=32_000, **(LONG | {"responses": 8, "groups_per_update": 1})),
    Shape(name="chat 32k, LoRA", vocabulary=32_000, kind="lora", **CHAT),
    Shape(name="chat 32k, reward model", vocabulary=32_000, kind="reward", **CHAT),
)

TINY: dict[str, Any] = {"vocabulary": 8_000, "hidden": 128, "layers": 2, "intermediate": 384}

QUICK = (
    Shape(name="quick chat", prompt=(64, 128), response=(32, 64), **TINY),
    Shape(name="quick long, K = 4", prompt=(256, 384), response=(16, 32), responses=4, groups_per_update=1, **TINY),
    Shape(name="quick LoRA", prompt=(32, 64), response=(16, 32), groups_per_update=2, kind="lora", **TINY),
    Shape(name="quick reward model", prompt=(32, 64), response=(16, 32), groups_per_update=2, kind="reward", **TINY),
)


def make(shape: Shape, folder: Path, updates: int) -> None:
    """Writes model/, adapter/ (LoRA), groups.jsonl (attune), pairs.jsonl and once.jsonl (TRL) and tokens.json (floor) for so many updates."""
    folder.mkdir(parents=True, exist_ok=True)
    save_tokenizer(shape, folder / "model")
    save_model(shape, folder)
    groups = draw(shape, updates * shape.groups_per_update)
    (folder / "tokens.json").write_text(json.dumps(groups))
    write_groups(groups, folder / "groups.jsonl")
    numbers = range(shape.responses)
    write_pairs(groups, folder / "pairs.jsonl", [(first, second) for first in numbers for second in numbers[first + 1 :]])
    write_pairs(groups, folder / "once.jsonl", [(first, first + 1) for first in numbers[:-1:2]])


def write_pairs(groups: list[dict[str, Any]], path: Path, pairs: list[tuple[int, int]]) -> None:
    """Writes TRL's format: a line for each of these pairs (better response, worse one) of each group."""
    with path.open("w") as file:
        for group in groups:
            texts = [" " + words(ids) for ids in group["responses"]]
            for first, second in pairs:
                file.write(json.dumps({"prompt": words(group["prompt"]), "chosen": texts[first], "rejected": texts[second]}) + "\n")


def draw(shape: Shape, num_groups: int) -> list[dict[str, Any]]:
    """Returns groups of random ids, the best response first. The stop token behind each response is written by the tokenizers, not here."""
    rng = random.Random(SEED)
    most = shape.vocabulary - 3  # the last three ids are special

    def ids(length: int) -> list[int]:
        return [rng.randrange(most) for _ in range(length)]

    return [
        {"prompt": ids(rng.randint(*shape.prompt)), "responses": [ids(rng.randint(*shape.response) - 1) for _ in range(shape.responses)]}
        for _ in range(num_groups)
    ]


def words(ids: list[int]) -> str:
    """Returns the text that the tokenizer below reads as these ids."""
    return " ".join(f"w{number}" for number in ids)


def write_groups(groups: list[dict[str, Any]], path: Path) -> None:
    """Writes attune's own format; the responses of a group are ranked in the order they stand in."""
    from attune.core.record import MAIN, Group, Prompt, Response, Verdict
    from attune.data.write import write

    write(
        (
            Group(
                id=f"g{number}",
                contexts={MAIN: Prompt(content=words(group["prompt"]))},
                responses=tuple(Response(content=" " + words(ids)) for ids in group["responses"]),
                verdicts=(Verdict(tiers=tuple((index,) for index in range(len(group["responses"])))),) if len(group["responses"]) > 1 else (),
            )
            for number, group in enumerate(groups)
        ),
        path,
    )


def save_tokenizer(shape: Shape, folder: Path) -> None:
    """Writes a tokenizer with one word for each id, so that texts stand for exactly the ids that were drawn."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {f"w{number}": number for number in range(shape.vocabulary - 3)}
    vocabulary |= {token: shape.vocabulary - 3 + place for place, token in enumerate((UNKNOWN, PAD, EOS))}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token=UNKNOWN, pad_token=PAD, eos_token=EOS)
    tokenizer.save_pretrained(str(folder))


def save_model(shape: Shape, folder: Path) -> None:
    """Writes random weights in float32, and for LoRA the adapter that both sides begin with (its second factors are 0)."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2ForSequenceClassification

    torch.manual_seed(SEED)
    config = Qwen2Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=8,
        num_key_value_heads=4,
        intermediate_size=shape.intermediate,
        max_position_embeddings=32_768,
        tie_word_embeddings=True,
        pad_token_id=shape.vocabulary - 2,
        eos_token_id=shape.vocabulary - 1,
        num_labels=1,
    )
    made = Qwen2ForSequenceClassification(config) if shape.kind == "reward" else Qwen2ForCausalLM(config)
    made.save_pretrained(str(folder / "model"))
    if shape.kind == "lora":
        from peft import LoraConfig, get_peft_model

        adapted = get_peft_model(made, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM"))
        adapted.save_pretrained(str(folder / "adapter"))


def to_json(shape: Shape) -> str:
    """Returns the shape as `main` reads it."""
    return json.dumps(asdict(shape))


def from_json(text: str) -> Shape:
    """Returns the shape that `to_json` wrote."""
    said = json.loads(text)
    return Shape(**said | {name: tuple(said[name]) for name in ("prompt", "response")})


if __name__ == "__main__":
    make(from_json(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
