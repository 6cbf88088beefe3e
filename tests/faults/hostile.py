"""Files that were made to do harm: each function spoils a copy of something sound. A payload that ran would have written the marker."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


class Payload:
    """What a pickle runs when it is opened."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (open, (str(self.marker), "w"))


def pickled(path: Path, marker: Path) -> None:
    path.write_bytes(pickle.dumps({"weight": Payload(marker)}))


def archived(path: Path, marker: Path) -> None:
    torch.save({"weight": Payload(marker)}, path)


def code(marker: Path) -> str:
    return f"open({str(marker)!r}, 'w')\n"


def changed(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **fields}), "utf-8")


def safetensors(header: Any, data: bytes = b"\0" * 64, *, length: int | None = None) -> bytes:
    """A file with that header, or one that says it is so long."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(start: int, end: int, *, shape: tuple[int, ...] = (4,), dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


HEADERS: dict[str, bytes] = {
    "a header longer than the file": safetensors({"a": tensor(0, 16)}, length=1 << 20),
    "a header of 2^63 bytes": safetensors({"a": tensor(0, 16)}, length=(1 << 63) + 1),
    "an empty header": safetensors(b""),
    "a header that is no JSON": safetensors(b"{oops"),
    "a header that is a list": safetensors([]),
    "numbers beyond the file": safetensors({"a": tensor(0, 1 << 20, shape=(1 << 18,))}),
    "tensors that overlap": safetensors({"a": tensor(0, 16), "b": tensor(8, 24), "c": tensor(24, 64, shape=(10,))}),
    "numbers that end before they begin": safetensors({"a": tensor(16, 0)}),
    "a place below zero": safetensors({"a": tensor(-16, 0)}),
    "a shape that does not fit its bytes": safetensors({"a": tensor(0, 64, shape=(400,))}),
    "a shape whose size overflows": safetensors({"a": tensor(0, 64, shape=(1 << 62, 1 << 62))}),
    "an unknown type": safetensors({"a": tensor(0, 64, dtype="PICKLE")}),
    "a gap between tensors": safetensors({"a": tensor(0, 16), "b": tensor(48, 64)}),
    "a file of four bytes": b"\0\0\0\0",
}

Spoil = Callable[[Path, Path], None]
"""Takes a copy of a sound folder, and the marker."""


def weights_replaced(write: Callable[[Path, Path], None], name: str) -> Spoil:
    def spoil(model: Path, marker: Path) -> None:
        (model / "model.safetensors").unlink()
        write(model / name, marker)

    return spoil


def weights_beside(model: Path, marker: Path) -> None:
    for number, name in enumerate(("pytorch_model.bin", "model.pt", "training_args.bin", "optimizer.pt", "scheduler.pt")):
        (pickled if number % 2 else archived)(model / name, marker)


def indexed(shard: str) -> Spoil:
    def spoil(model: Path, marker: Path) -> None:
        (model / "model.safetensors").rename(model / "decoy.safetensors")
        place = model / shard
        place.parent.mkdir(exist_ok=True)
        pickled(place, marker)
        said = {"metadata": {"total_size": 1}, "weight_map": {"model.embed_tokens.weight": shard}}
        (model / "model.safetensors.index.json").write_text(json.dumps(said), "utf-8")

    return spoil


def lying(header: bytes) -> Spoil:
    return lambda model, marker: (model / "model.safetensors").write_bytes(header) and None


def model_code(model: Path, marker: Path) -> None:
    (model / "evil.py").write_text(code(marker), "utf-8")
    changed(model / "config.json", model_type="evil", auto_map={"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}, architectures=["M"])


def model_code_beside_a_known_type(model: Path, marker: Path) -> None:
    (model / "evil.py").write_text(code(marker), "utf-8")
    (model / "custom_generate").mkdir()
    (model / "custom_generate" / "generate.py").write_text(code(marker), "utf-8")
    changed(model / "config.json", auto_map={"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"})


def tokenizer_code(model: Path, marker: Path) -> None:
    (model / "evil.py").write_text(code(marker), "utf-8")
    changed(model / "tokenizer_config.json", tokenizer_class="Evil", auto_map={"AutoTokenizer": ["evil.Evil", None]})


def template(text: str) -> Spoil:
    return lambda model, marker: (model / "chat_template.jinja").write_text(text.replace("MARKER", str(marker)), "utf-8") and None


def config(**fields: Any) -> Spoil:
    return lambda model, marker: changed(model / "config.json", **fields)


ESCAPE = "{{ cycler.__init__.__globals__.os.system('touch MARKER') }}"
SUBCLASSES = "{% for c in ''.__class__.__mro__[1].__subclasses__() %}{{ c('touch MARKER', shell=True) }}{% endfor %}"

REFUSED: dict[str, tuple[Spoil, str]] = {
    "pickled weights": (weights_replaced(pickled, "pytorch_model.bin"), "a pickle can run code"),
    "a torch archive": (weights_replaced(archived, "model.pt"), "a pickle can run code"),
    "a pickle called safetensors": (weights_replaced(pickled, "model.safetensors"), "cannot be read"),
    "a torch archive called safetensors": (weights_replaced(archived, "model.safetensors"), "cannot be read"),
    "an index that names a pickle": (indexed("pytorch_model.bin"), "only safetensors are read"),
    "an index that leads outside": (indexed("../outside.bin"), "only safetensors are read"),
    "a model with code of its own": (model_code, "cannot be read"),
    "a tokenizer with code of its own": (tokenizer_code, "wants to run code of its own"),
    "a template that reaches for the system": (template(ESCAPE), "the chat template"),
    "a template that reaches for classes": (template(SUBCLASSES), "the chat template"),
    "a template that never ends": (template("{% for i in range(10 ** 12) %}x{% endfor %}"), "the chat template"),
    "a template that divides by zero": (template("{{ 1 / 0 }}"), "the chat template"),
    "a template that calls itself": (template("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"), "the chat template"),
    "a size that is text": (config(hidden_size="many"), "cannot be read"),
    "a size below zero": (config(num_attention_heads=-1), "cannot be read"),
    "no heads": (config(num_attention_heads=0), "cannot be read"),
    "a size that no machine has": (config(vocab_size=10**12), "cannot be read"),
    "layers that are not there": (config(num_hidden_layers=40), "weights are missing"),
    "quantised by a package that is not there": (config(quantization_config={"quant_method": "gptq", "bits": 4}), "cannot be read"),
    "an unknown activation": (config(hidden_act="os.system"), "cannot be read"),
    "rotary positions of no kind": (config(rope_parameters={"rope_type": "evil"}), "cannot be read"),
    "weights kept elsewhere": (config(transformers_weights="../outside.bin"), "cannot be read"),
    **{name: (lying(header), "cannot be read") for name, header in HEADERS.items()},
}

HARMLESS: dict[str, Spoil] = {
    "pickles beside sound weights": weights_beside,
    "code beside a known type of model": model_code_beside_a_known_type,
    "quantised in a way unknown": config(quantization_config={"quant_method": "MARKER"}),
}


def adapter_config(**fields: Any) -> Spoil:
    return lambda adapter, marker: changed(adapter / "adapter_config.json", **fields)


def adapter_weights(write: Callable[[Path, Path], None], name: str) -> Spoil:
    def spoil(adapter: Path, marker: Path) -> None:
        (adapter / "adapter_model.safetensors").unlink()
        write(adapter / name, marker)

    return spoil


def adapter_library(adapter: Path, marker: Path) -> None:
    (adapter / "evil.py").write_text(code(marker), "utf-8")
    changed(adapter / "adapter_config.json", auto_mapping={"parent_library": "evil", "base_model_class": "M"}, peft_type="EVIL")


def adapter_of_a_pickle(adapter: Path, marker: Path) -> None:
    base = Path(shutil.copytree(json.loads((adapter / "adapter_config.json").read_text("utf-8"))["base_model_name_or_path"], adapter.parent / "base"))
    weights_replaced(pickled, "pytorch_model.bin")(base, marker)
    changed(adapter / "adapter_config.json", base_model_name_or_path=str(base))


ADAPTERS: dict[str, tuple[Spoil, str]] = {
    "pickled": (adapter_weights(pickled, "adapter_model.bin"), "no adapter in safetensors"),
    "a pickle called safetensors": (adapter_weights(pickled, "adapter_model.safetensors"), "adapter"),
    "above a pickled model": (adapter_of_a_pickle, "a pickle can run code"),
    "above nothing": (adapter_config(base_model_name_or_path="../../../../outside"), "there is no folder with a model"),
    "above a number": (adapter_config(base_model_name_or_path=7), "does not say which model"),
    "with a library of its own": (adapter_library, "adapter"),
    "of an unknown kind": (adapter_config(peft_type="EVIL"), "adapter"),
    "of no rank": (adapter_config(r="x"), "adapter"),
    "of a rank below zero": (adapter_config(r=-1), "adapter"),
    "of another size": (adapter_config(r=3), "adapter"),
    "that is no JSON": (lambda adapter, marker: (adapter / "adapter_config.json").write_text("{oops", "utf-8") and None, "adapter"),
    "that is a list": (lambda adapter, marker: (adapter / "adapter_config.json").write_text("[]", "utf-8") and None, "adapter"),
}
