"""Memory that runs out: passes become smaller, a row that no pass can hold is left out and written down, and the gradient is exact all the while."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from attune.config.recipe import OptimConfig, TrainConfig
from attune.core.errors import RunError
from attune.core.record import Response
from attune.runs.directory import RunDirectory
from attune.training.checkpoint import latest_checkpoint
from attune.training.distributed import World, _on_cpu
from attune.training.engine import train
from attune.training.microbatch import Budget
from attune.training.room import out_of_memory
from attune.training.source import Item, without
from attune.training.sums import means
from attune.training.update import Learner
from tests import tiny
from tests.conftest import Tally
from tests.training.helpers import Noise, dropping, gradient, items, learner, objective

OPTIM = OptimConfig(lr=1e-3, warmup=0.0, schedule="constant")


def cramped(policy: Any, most: int, error: type[RuntimeError] = torch.OutOfMemoryError) -> list[int]:
    """Lets passes of more than `most` tokens fail half-way, and returns the list that their tokens are added to."""
    computed, failed = policy.outputs, list[int]()

    def outputs(encoded: Any, wants: Any) -> Any:
        found = computed(encoded, wants)
        if encoded.num_tokens > most:
            failed.append(encoded.num_tokens)
            raise error("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return found

    policy.outputs = outputs
    return failed


def long_rows(batch: Sequence[Item], *places: tuple[int, int]) -> list[Item]:
    """Makes some responses, (item, response), so long that their row has more than 120 tokens."""
    made = list(batch)
    for index, response in places:
        group = made[index].group
        text = Response(content="word " * 30)
        responses = tuple(text if number == response else one for number, one in enumerate(group.responses))
        made[index] = Item(replace(group, responses=responses), made[index].signal)
    return made


def distance(first: torch.Tensor, second: torch.Tensor) -> float:
    return float((first - second).norm() / second.norm())


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError], ids=["gpu", "cpu"])
@pytest.mark.parametrize("names", [("dpo",), ("kto", "sft")], ids=" ".join)
def test_passes_become_smaller_and_the_gradient_stays(names: tuple[str, ...], error: type[RuntimeError]) -> None:
    policy, batch = tiny.policy("gpt2", dtype=torch.float64), items(7, k=3)
    whole, _ = gradient(learner(policy, names), batch)
    failed = cramped(policy, 150, error)
    made = learner(policy, names)
    found, sums = gradient(made, batch)
    assert distance(found, whole) < 1e-9
    assert failed
    assert made.room.budget.limit is None
    assert "skipped_rows" not in sums
    events = made.room.told()
    assert [event["event"] for event in events] == ["smaller passes"] * len(failed)
    before = len(failed)
    gradient(made, batch)
    assert len(failed) == before, "the run has learned it"
    assert made.room.told() == []


def test_a_group_that_does_not_fit_is_computed_in_pieces() -> None:
    """Groups of 52 to 95 tokens, rows of at most 63: at 64 tokens a pass each large group takes two or three."""
    policy, batch = tiny.policy("gpt2", dtype=torch.float64), items(7, k=3)
    whole, _ = gradient(learner(policy, ["dpo", "orpo"]), batch)
    failed = cramped(policy, 64)
    made = learner(policy, ["dpo", "orpo"], tokens_per_pass=100)
    assert distance(gradient(made, batch)[0], whole) < 1e-9
    assert failed
    assert made.room.told()[-1]["tokens_per_pass"] <= 64


@pytest.mark.parametrize("name", ["dpo", "orpo", "kto", "sft"])
def test_a_row_that_does_not_fit_alone_is_left_out_and_the_others_are_exact(name: str) -> None:
    """Response 2 of group 1 and response 0 of group 4, the preferred one of all its pairs, are too long."""
    policy = tiny.policy("gpt2", dtype=torch.float64)
    batch = long_rows(items(6, k=3), (1, 2), (4, 0))
    survivors = [Item(item.group, without(item.signal, {2: ""} if index == 1 else {0: ""} if index == 4 else {})) for index, item in enumerate(batch)]
    if name != "kto":
        del survivors[4]  # neither a pair nor a demonstration is left of it
    wanted, sums = gradient(learner(policy, [name]), survivors)
    failed = cramped(policy, 120)
    made = learner(policy, [name], tokens_per_pass=110)
    found, counted = gradient(made, batch)
    assert distance(found, wanted) < 1e-9
    for key, value in means(sums).items():
        if key not in ("computed_tokens", "model_flops"):
            assert means(counted)[key] == pytest.approx(value, rel=1e-9), key
    skipped = [event for event in made.room.told() if event["event"] == "row skipped"]
    assert counted["skipped_rows"][0] == len(skipped)
    alone = {(event["group"], event["response"], event["role"]) for event in skipped if event["reason"].startswith("the row alone")}
    others = {("g2", 2, "mismatched"), ("g5", 0, "mismatched")}  # behind the next group's prompt they are as long
    assert alone == {("g1", 2, "main"), ("g4", 0, "main")} | (others if name == "kto" else set())
    mates = {"dpo": {("g4", 1), ("g4", 2)}, "orpo": {("g4", 1), ("g4", 2)}, "sft": {("g4", 1), ("g4", 2)}, "kto": set()}
    assert {(event["group"], event["response"]) for event in skipped if event["reason"].startswith("what it is compared with")} == mates[name]
    before = len(failed)
    gradient(made, batch)
    assert len(failed) == before, "a row that failed once is not tried again"


def test_both_ways_of_dropping_units_end_alike() -> None:
    """With dropout, an update that began anew draws what one draws that had the smaller passes from the start."""

    def go(budget: int | None) -> tuple[torch.Tensor, torch.Tensor]:
        policy = dropping(dtype=torch.float64)
        cramped(policy, 150)
        torch.manual_seed(4)
        return gradient(learner(policy, ["kto"], tokens_per_pass=budget), items(5, k=3))[0], torch.get_rng_state()

    policy = dropping(dtype=torch.float64)
    cramped(policy, 150)
    made = learner(policy, ["kto"])
    gradient(made, items(5, k=3))
    found, wanted = go(None), go(made.room.budget.tokens)
    assert torch.equal(found[0], wanted[0])
    assert torch.equal(found[1], wanted[1])


def test_an_update_of_which_nothing_fits_changes_nothing_and_says_so() -> None:
    policy = tiny.policy("gpt2", dtype=torch.float64)
    cramped(policy, 3)
    found, sums = gradient(learner(policy, ["dpo"]), items(2, k=2))
    assert float(found.norm()) == 0.0
    assert means(sums)["loss"] == 0.0
    assert means(sums)["skipped_rows"] == 4


def test_evaluation_leaves_the_same_rows_out() -> None:
    policy, batch = tiny.policy("gpt2", dtype=torch.float64), long_rows(items(4, k=2), (2, 1))
    wanted = learner(policy, ["dpo"]).whole([batch[0], batch[1], batch[3]])
    cramped(policy, 120)
    made = learner(policy, ["dpo"])
    whole = made.whole(batch)
    assert whole.get("group").unique().tolist() == [0, 1, 3]
    assert torch.allclose(whole.total("logp"), wanted.total("logp"), rtol=1e-9)
    cramped(policy, 3)
    with pytest.raises(RunError, match="no row fits"):
        made.whole(batch)


def test_a_run_with_rows_that_do_not_fit_in_one_update_of_twenty(tmp_path: Path, tally: Tally) -> None:
    """It ends with the weights of a run on the data without those rows, and says in its files what happened; resumed, it does not try them again."""
    batch = long_rows(items(40, k=2), (11, 1))
    survivors = list(batch)
    survivors[11] = Item(batch[11].group, without(batch[11].signal, {1: ""}))
    loop = TrainConfig(updates=20, groups_per_update=2, shuffle=False, save_every=10)

    def go(data: Sequence[Item], run: RunDirectory | None, most: int) -> tuple[torch.Tensor, Learner]:
        policy = tiny.policy("gpt2", dtype=torch.float64)
        cramped(policy, most)
        made = learner(policy, ["sft"], tokens_per_pass=110)
        train(made, data, optim=OPTIM, loop=loop, run=run)
        return torch.cat([parameter.detach().flatten() for parameter in policy.module.parameters()]), made

    run = RunDirectory(tmp_path)
    found, _ = go(sft_on_all(batch), run, 120)
    wanted, _ = go(sft_on_all(survivors), None, 10**9)
    assert distance(found, wanted) < 1e-9
    events = list(run.lines("events.jsonl"))
    assert [(event["update"], event["event"]) for event in events if event["event"] == "row skipped"] == [(6, "row skipped")]
    metrics = {line["update"]: line.get("skipped_rows", 0) for line in run.lines("metrics.jsonl") if line["split"] == "train"}
    assert [update for update, skipped in metrics.items() if skipped] == [6]
    newest = latest_checkpoint(run.checkpoints)
    assert newest is not None
    policy = tiny.policy("gpt2", dtype=torch.float64)
    failed = cramped(policy, 120)
    again = learner(policy, ["sft"], tokens_per_pass=110)
    train(again, sft_on_all(batch), optim=OPTIM, loop=loop, run=run, resume=True)
    limit = next(event["tokens"] for event in events if event["event"] == "row skipped") - 1
    assert again.room.budget.limit == limit
    assert not failed
    tally(10, "updates with a row that does not fit", 1, 0, f"weights after 20 updates {distance(found, wanted):.0e} from those without the row")


def sft_on_all(batch: Sequence[Item]) -> list[Item]:
    """Lets every response that is spoken of be a demonstration."""
    return [Item(item.group, replace(item.signal, demos=item.signal.responses, pairs=())) for item in batch]


class Threads(World):
    """Ranks as threads of this process, for decisions without gradients in common."""

    def __init__(self, rank: int, board: list[Any], barrier: threading.Barrier) -> None:
        self.rank, self.size, self._board, self._barrier = rank, len(board), board, barrier

    def gathered(self, value: Any) -> list[Any]:
        self._barrier.wait(timeout=60)
        self._board[self.rank] = _on_cpu(value)
        self._barrier.wait(timeout=60)
        return list(self._board)


@pytest.mark.parametrize("names", [("dpo",), ("kto",)], ids=" ".join)
def test_ranks_agree_on_what_did_not_fit(names: tuple[str, ...]) -> None:
    """Only rank 1 meets a long row and too large a pass; both come to one budget, and their gradients add up to that of one process."""
    batch = long_rows(items(6, k=3), (3, 1))
    survivors = list(batch)
    survivors[3] = Item(batch[3].group, without(batch[3].signal, {1: ""}))
    wanted, sums = gradient(learner(tiny.policy("gpt2", dtype=torch.float64), names), survivors)
    board, barrier = [None, None], threading.Barrier(2)
    found: dict[int, tuple[torch.Tensor, Any, Budget, list[Any]]] = {}

    policies = [tiny.policy("gpt2", dtype=torch.float64) for _ in range(2)]
    cramped(policies[1], 120)

    def rank(number: int) -> None:
        policy = policies[number]
        world = Threads(number, board, barrier)
        made = Learner(policy, [objective(name) for name in names], frozen={"ref_logp": Noise()}, tokens_per_pass=10**6, world=world)
        found[number] = *gradient(made, batch), made.room.budget, made.room.told()

    threads = [threading.Thread(target=rank, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0][2] == found[1][2]
    assert distance(found[0][0] + found[1][0], wanted) < 1e-9
    assert means(found[0][1]) == means(found[1][1])
    assert means(found[0][1])["loss"] == pytest.approx(means(sums)["loss"], rel=1e-9)
    assert found[0][3] == found[1][3]


def test_what_running_out_of_memory_looks_like() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert out_of_memory(caught.value)
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not out_of_memory(RuntimeError("The size of tensor a (3) must match"))
    assert not out_of_memory(ValueError("not enough memory"))


def test_another_error_is_no_reason_to_try_again() -> None:
    policy = tiny.policy()
    made = learner(policy, ["dpo"])

    def broken(encoded: Any, wants: Any) -> Any:
        raise RuntimeError("shapes do not match")

    policy.outputs = broken
    with pytest.raises(RuntimeError, match="shapes"):
        made.backward(items(2))


def test_the_moving_state_of_a_failed_attempt_is_put_back() -> None:
    """The state moves before the loss: an attempt that failed after that must not have moved it."""
    from tests.training.test_update import moving_learner

    policy, batch = tiny.policy("gpt2", dtype=torch.float64), items(5)
    wanted = moving_learner(tiny.policy("gpt2", dtype=torch.float64), "before")
    wanted.backward(batch)
    computed, calls = policy.outputs, list[int]()

    def outputs(encoded: Any, wants: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:  # the second backward pass of two
            raise torch.OutOfMemoryError("simulated")
        return computed(encoded, wants)

    policy.outputs = outputs
    made = moving_learner(policy, "before", tokens_per_pass=110)
    made.backward(batch)
    assert len(calls) > 4
    assert float(made.states["moving"]["mean"]) == pytest.approx(float(wanted.states["moving"]["mean"]), rel=1e-12)
