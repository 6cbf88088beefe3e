"""What training takes: counted from sizes where it can be, measured where it cannot, and held against a real run's peak."""

from __future__ import annotations

import mmap
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from attune.config.recipe import OptimConfig
from attune.core.errors import ConfigError
from attune.training import memory
from attune.training.memory import UNKNOWN, Curve, available, chosen, estimate, gauge, generous, measured, standing
from attune.training.microbatch import Budget
from attune.training.stopwatch import Stopwatch, Work
from tests import tiny
from tests.training.helpers import items, learner

MIB = 2**20

measurable = pytest.mark.skipif(gauge(torch.device("cpu")) is None, reason=UNKNOWN)


def test_what_stands_by_hand() -> None:
    """A matrix of 100 x 100 that learns, tied to a second name, and one of 10 that does not."""
    module = torch.nn.Module()
    module.first = torch.nn.Linear(100, 100, bias=False)
    module.second = torch.nn.Linear(100, 100, bias=False)
    module.second.weight = module.first.weight
    module.fixed = torch.nn.Parameter(torch.zeros(10), requires_grad=False)
    assert standing(module, OptimConfig()) == {"weights": 40_040, "gradients": 40_000, "optimiser": 80_000}
    assert standing(module, OptimConfig(offload=True)) == {"weights": 40_040, "gradients": 0, "optimiser": 0}
    coded = standing(module, OptimConfig(name="adamw8bit"))["optimiser"]
    assert coded == 20_000 + 2 * 4 * 40, "two codes a weight and two scales for each of 40 blocks of 256"
    half = module.to(torch.bfloat16)
    assert standing(half, OptimConfig()) == {"weights": 20_020, "gradients": 40_000, "optimiser": 120_000}, "gradients, moments and master in float32"


def test_the_curve_by_hand() -> None:
    curve = Curve(((100, 10.0), (200, 30.0), (400, 60.0)))
    assert [curve.bytes(tokens) for tokens in (100, 150, 300, 800)] == [10, 20, 45, 120]
    assert curve.bytes(10) == 0, "no pass takes less than nothing"
    assert curve.tokens(45.0, 1000) == 300
    assert curve.tokens(1e9, 1000) == 1000
    assert Curve(((100, 10.0),)).bytes(50) == 5


class Hungry:
    """A policy whose passes take a known number of bytes a token, all at one time."""

    def __init__(self, per_token: int) -> None:
        self.module, self.per_token = torch.nn.Linear(4, 4), per_token
        self.size = tiny.policy().size
        self.template = tiny.policy()

    def collate(self, groups: Sequence[Any], rows: Sequence[Any]) -> int:
        return self.size(groups, rows).tokens

    def outputs(self, encoded: int, wants: Collection[str]) -> Mapping[str, Tensor]:
        held = torch.frombuffer(mmap.mmap(-1, encoded * self.per_token), dtype=torch.uint8).fill_(1)  # no memory that this process has kept
        return {"logp": self.module.weight.sum() + 0.0 * float(held[0])}


@measurable
def test_a_pass_is_measured_to_what_it_takes() -> None:
    """A quarter of a MiB a token, from 256 tokens on: 64 MiB and twice that are seen within a tenth."""
    policy: Any = Hungry(MIB // 4)
    curve = measured(policy, items(20, k=2), ["logp"], roles=("main",), most=512)
    assert curve is not None
    assert [tokens >= 256 for tokens, _ in curve.points] == [True] * len(curve.points)
    assert len(curve.points) >= 2
    for tokens, taken in curve.points:
        assert taken == pytest.approx(tokens * MIB / 4, rel=0.1)
    assert all(parameter.grad is None for parameter in policy.module.parameters())


@measurable
def test_measuring_stops_where_memory_does_and_leaves_generators_alone() -> None:
    policy: Any = Hungry(MIB // 4)
    state = torch.get_rng_state()
    curve = measured(policy, items(40, k=2), ["logp"], roles=("main",), most=10**6, room=100 * MIB)
    assert curve is not None
    assert len(curve.points) == 1, "the next one would take 128 MiB"
    assert torch.equal(torch.get_rng_state(), state)


@measurable
def test_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ample memory: the most that is useful, nothing measured; scarce: what fits into the share of it that is planned with."""
    how: dict[str, Any] = {"roles": ("main",), "optim": OptimConfig()}
    monkeypatch.setattr(memory, "available", lambda device: 10**15)
    assert chosen(tiny.policy(), items(3), ["logp"], **how)[0] == Budget(memory.MOST_TOKENS["cpu"])
    monkeypatch.setattr(memory, "available", lambda device: 100 * MIB)
    hungry: Any = Hungry(MIB // 4)
    monkeypatch.setattr(memory, "generous", lambda module: MIB)
    budget, why = chosen(hungry, items(40, k=2), ["logp"], **how)
    assert budget.tokens == pytest.approx(0.85 * 100 * 4, rel=0.1)
    assert budget.limit == pytest.approx(100 * 4, rel=0.1)
    assert "tokens a pass" in why


def test_where_a_pass_cannot_be_measured_nothing_is_taken_for_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system refuses to forget its mark: the choice rests on the generous guess (100 MiB at 85 %, less what stands, at one MiB a token)."""
    monkeypatch.setattr(memory, "_ANEW", tmp_path / "nowhere" / "clear_refs")
    monkeypatch.setattr(memory, "available", lambda device: 100 * MIB)
    monkeypatch.setattr(memory, "generous", lambda module: MIB)
    hungry: Any = Hungry(MIB // 4)
    assert gauge(torch.device("cpu")) is None
    assert measured(hungry, items(20, k=2), ["logp"], roles=("main",), most=512) is None
    budget, why = chosen(hungry, items(40, k=2), ["logp"], roles=("main",), optim=OptimConfig())
    assert budget == Budget(84)
    assert why.startswith("84 tokens a pass: ") and UNKNOWN in why
    found, _ = estimate(learner(tiny.policy(), ["dpo"]), [items(2)], OptimConfig())
    assert found.unknown == UNKNOWN
    assert not [name for name in found.parts if "pass" in name]
    stands = standing(tiny.policy().module, OptimConfig())
    assert {name: found.parts[name] for name in stands} == stands


def test_no_pass_takes_what_a_generous_guess_says() -> None:
    """For each family, the bytes that its backward pass reads are a fraction of it."""
    for architecture in ("llama", "gpt2", "gemma2", "mixtral"):
        policy, batch = tiny.policy(architecture), items(4, k=2)
        groups = [item.group for item in batch]
        rows = tiny.rows(groups)
        seen: dict[int, int] = {}

        def kept(tensor: Tensor, seen: dict[int, int] = seen) -> Tensor:
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(kept, lambda tensor: tensor):
            outputs = policy.outputs(policy.collate(groups, rows), ["logp"])
        weights = {parameter.untyped_storage().data_ptr() for parameter in policy.module.parameters()}
        taken = sum(size for place, size in seen.items() if place not in weights)
        assert outputs
        assert taken < 0.7 * policy.size(groups, rows).tokens * generous(policy.module), architecture


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable: 4000 kB\n"}, 4_096_000),
        ({"proc/meminfo": "MemAvailable: 4000 kB", "sys/fs/cgroup/memory.max": "5000\n", "sys/fs/cgroup/memory.current": "2000\n"}, 3000),
        ({"proc/meminfo": "MemAvailable: 2 kB", "sys/fs/cgroup/memory.max": "9000", "sys/fs/cgroup/memory.current": "2000"}, 2048),
        ({"proc/meminfo": "MemAvailable: 4000 kB", "sys/fs/cgroup/memory.max": "max\n", "sys/fs/cgroup/memory.current": "2000\n"}, 4_096_000),
        ({"sys/fs/cgroup/memory/memory.limit_in_bytes": "700", "sys/fs/cgroup/memory/memory.usage_in_bytes": "100"}, 600),
        ({"sys/fs/cgroup/memory.max": "100", "sys/fs/cgroup/memory.current": "300"}, 0),
        ({}, 4096 * 50),
    ],
)
def test_what_can_be_had_is_the_least_that_machine_and_container_say(files: dict[str, str], free: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    monkeypatch.setattr(memory, "Path", lambda *parts: tmp_path.joinpath(*(part.lstrip("/") for part in parts)))
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 50}.get)
    assert available(torch.device("cpu")) == free


def test_flops_by_hand() -> None:
    """A linear model of 10 x 10 that learns and one that does not: six and four operations a weight and token."""
    module = torch.nn.Sequential(torch.nn.Linear(10, 10), torch.nn.Linear(10, 10).requires_grad_(False))
    size = tiny.policy().size([item.group for item in items(1)], tiny.rows([item.group for item in items(1)]))
    assert Work(module).flops(size) == size.tokens * (600 + 400)
    policy = tiny.policy("llama")
    config, work = policy.model.config, Work(policy.module)
    width, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    head = config.hidden_size // config.num_attention_heads
    projections = 2 * width * width + 2 * width * head * config.num_key_value_heads
    assert work.per_token == 6 * layers * (projections + 3 * width * inner)
    assert work.per_supervised == 6 * config.vocab_size * width
    assert work.per_read == 12 * layers * width


def test_phases_add_up() -> None:
    clock = Stopwatch(torch.device("cpu"))
    clock.start()
    with clock("forward"):
        during = clock.running
        torch.ones(300, 300) @ torch.ones(300, 300)
    assert (during, clock.running) == ("forward", None)
    with clock("forward"), torch.no_grad():
        torch.ones(300, 300) @ torch.ones(300, 300)
    numbers = clock.numbers(tokens=100.0, flops=50.0, peak=1e9)
    assert sum(numbers[f"time_{phase}"] for phase in ("data", "forward", "backward", "optimiser", "other")) == pytest.approx(1.0)
    assert numbers["time_backward"] == 0
    assert numbers["tokens_per_second"] * numbers["seconds"] == pytest.approx(100.0)
    assert numbers["mfu"] * numbers["seconds"] == pytest.approx(50.0 / 1e9)
    assert "mfu" not in clock.numbers(tokens=1.0, flops=1.0, peak=0.0)


def test_a_model_whose_gradients_and_moments_outgrow_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    stands = memory.standing(tiny.policy().module, OptimConfig())
    monkeypatch.setattr(memory, "available", lambda device: stands["gradients"] / memory.MARGIN)  # and nothing for the moments
    with pytest.raises(ConfigError, match=r"gradients and moments outgrow memory .*model\.adapter"):
        chosen(tiny.policy(), items(3), ["logp"], roles=("main",), optim=OptimConfig())
