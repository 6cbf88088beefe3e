"""What is written is what is read: types, shapes and rows; and what does not fit, or is torn, is refused by name."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from attune.core.errors import RunError
from attune.training.checkpoint import Progress, Saved, learning, put_weights, save_checkpoint

TABLES = {
    "weights": {
        "wide": torch.arange(12, dtype=torch.float64).reshape(4, 3),
        "narrow": torch.tensor([1.0, -0.5], dtype=torch.bfloat16),
        "none": torch.empty(0, 2),
    },
    "states": {"step": torch.tensor(7.0), "generator/0/0": torch.arange(5, dtype=torch.uint8)},
    "reference-ref_logp": {"wide": torch.ones(4, 3)},
}


def saved(folder: Path) -> Path:
    return save_checkpoint(folder, Progress(update=3, best_loss=0.5, best_update=2, stale=1, tokens_per_pass=64), TABLES, fingerprint="one")


def test_every_table_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    found = Saved(saved(tmp_path), fingerprint="one")
    assert found.progress == Progress(update=3, best_loss=0.5, best_update=2, stale=1, tokens_per_pass=64)
    for table, tensors in TABLES.items():
        read = found.table(table, {})
        assert read.keys() == tensors.keys() == set(found.names(table))
        for name, tensor in tensors.items():
            assert read[name].dtype == tensor.dtype
            assert torch.equal(read[name], tensor)
            assert found.shape(table, name) == tuple(tensor.shape)
    assert found.names("no such table") == []


def test_the_files_are_plain_safetensors_and_json(tmp_path: Path) -> None:
    path = saved(tmp_path)
    names = ["reference-ref_logp.safetensors", "state.json", "states.safetensors", "weights.safetensors"]
    assert sorted(file.name for file in path.iterdir()) == names
    assert torch.equal(load_file(path / "weights.safetensors")["wide"], TABLES["weights"]["wide"])
    said = json.loads((path / "state.json").read_text("utf-8"))
    assert said["tables"]["weights"]["wide"] == [["weights.safetensors", 0, 4]]
    assert said["files"] == {name: (path / name).stat().st_size for name in names if name != "state.json"}


def test_another_recipe_another_model_and_torn_files_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    with pytest.raises(RunError, match=r"another recipe.*'one'.*allowed: two"):
        Saved(path, fingerprint="two")
    module = torch.nn.Linear(3, 4)
    with pytest.raises(RunError, match="does not fit the model"):
        put_weights(Saved(path), module)
    (tmp_path / "other").mkdir()
    fitting = save_checkpoint(tmp_path / "other", Progress(update=1), {"weights": learning(module)}, fingerprint="one")
    file = fitting / "weights.safetensors"
    whole = file.read_bytes()
    file.write_bytes(struct.pack("<Q", 1 << 60) + whole[8:])  # a header that claims to be larger than the file
    with pytest.raises(RunError, match=r"weights\.safetensors.*cannot be read"):
        put_weights(Saved(fitting), module)
    file.write_bytes(whole[:-4])
    with pytest.raises(RunError, match=r"weights\.safetensors.*cannot be read"):
        put_weights(Saved(fitting), module)
