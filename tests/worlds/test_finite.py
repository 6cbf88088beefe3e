import math

import pytest
import torch

from attune.core.errors import MissingField, RecordError
from attune.core.protocols import Policy, Row
from attune.core.record import MAIN, Group, Prompt, Response
from attune.worlds.finite import FinitePolicy, Linear, Softmax, Table, finite_group

BASE = torch.tensor([[0.0, math.log(3.0)], [math.log(2.0), math.log(2.0)]], dtype=torch.float64)


def table():
    policy = FinitePolicy(Softmax(BASE, Table(2, 2)))
    with torch.no_grad():
        policy.module.scores.score_XY.copy_(torch.tensor([[math.log(3.0), 0.0], [math.log(4.0), 0.0]]))
    return policy


def test_log_probabilities_and_rewards_by_hand():
    policy, groups = table(), [finite_group(0, 2), finite_group(1, 2)]
    assert isinstance(policy, Policy)
    encoded = policy.collate(groups, [Row(group=0, response=0), Row(group=1, response=0), Row(group=1, response=1), Row(group=0, response=1, written_by=1)])
    found = policy.outputs(encoded, ("logp", "reward"))
    # 1:3 times 3:1 is 1:1; 1:1 times 4:1 is 4:1
    assert found["logp"].exp().squeeze(-1).tolist() == pytest.approx([1 / 2, 4 / 5, 1 / 5, 1 / 2])
    assert found["reward"].tolist() == pytest.approx([math.log(3), math.log(4), 0, 0])
    assert encoded.keys == ["0/0", "1/0", "1/1", "0/1"]
    assert encoded.mask.tolist() == [[True]] * 4
    assert policy.logp(encoded).requires_grad is False
    with pytest.raises(MissingField, match="value: this policy does not compute the column"):
        policy.outputs(encoded, ("value",))


def test_a_new_policy_is_its_base():
    policy = FinitePolicy(Softmax(BASE, Linear(torch.ones(2, 2, 3))))
    encoded = policy.collate([finite_group(0, 2)], [Row(group=0, response=0), Row(group=0, response=1)])
    assert policy.logp(encoded).exp().squeeze(-1).tolist() == pytest.approx([1 / 4, 3 / 4])


def test_what_is_not_of_the_world_is_refused():
    policy = table()
    strange = Group(id="s", contexts={MAIN: Prompt(content="0")}, responses=tuple(Response(content=text) for text in ("1", "2", "-1", "one", None)))
    assert dict(policy.admit(strange)) == dict.fromkeys((1, 2, 3, 4), "not a response of this world (0 to 1)")
    with pytest.raises(RecordError, match="s: a row is not of this finite world"):
        policy.collate([strange], [Row(group=0, response=1)])


@pytest.mark.parametrize("scores", [Table(2, 2), Linear(torch.tensor([[[1.0, 0.0], [0.0, 2.0]], [[0.5, 0.5], [3.0, 0.0]]]))])
def test_a_saved_policy_comes_back(tmp_path, scores):
    policy = FinitePolicy(Softmax(BASE, scores))
    with torch.no_grad():
        next(scores.parameters()).normal_(generator=torch.Generator().manual_seed(0))
    policy.save(str(tmp_path / "model"))
    assert torch.equal(FinitePolicy.load(str(tmp_path / "model")).module(), policy.module())
