import pytest
import torch

from attune.core.errors import RecordError
from attune.core.record import MAIN, Group, Prompt, Response
from attune.rewards.scalar import ScalarReward
from attune.worlds.tabular import TabularWorld
from tests import tiny


def test_scores_are_the_policys_in_the_order_of_the_responses():
    table = torch.tensor([[1.0, 2.0, 3.0], [-1.0, 0.5, 7.0]], dtype=torch.float64)
    world = TabularWorld(torch.log_softmax(torch.zeros(2, 3), -1), table)
    policy = world.policy()
    with torch.no_grad():
        policy.module.scores.score_XY.copy_(table)
    shuffled = Group(id="x", contexts={MAIN: Prompt(content="1")}, responses=tuple(Response(content=y) for y in "202"))
    empty = Group(id="y", contexts={MAIN: Prompt(content="0")})
    for batch_size, ends in ((1, [1, 2, 3, 4]), (4, [1, 2, 4]), (6, [2, 4]), (64, [4])):
        told = []
        reward = ScalarReward(policy, batch_size=batch_size, on_progress=lambda done, _, told=told: told.append(done))
        assert reward.score([*world.groups(), shuffled, empty]) == [[1, 2, 3], [-1, 0.5, 7], [7, -1, 7], []]
        assert told == ends


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_scores_do_not_depend_on_the_batch(architecture):
    policy = tiny.policy(architecture, head="scalar")
    texts = tiny.texts(12, words=(1, 12))
    groups = [
        Group(id=f"g{i}", contexts={MAIN: Prompt(content=texts[i])}, responses=tuple(Response(content=text) for text in texts[6 : 7 + i])) for i in range(6)
    ]
    alone = ScalarReward(policy, batch_size=1).score(groups)
    assert len({round(score, 6) for scores in alone for score in scores}) == sum(map(len, alone)) == 21
    for batch_size in (2, 3, 64):
        found = ScalarReward(policy, batch_size=batch_size).score(groups)
        for scores, expected in zip(found, alone, strict=True):
            assert scores == pytest.approx(expected, abs=1e-5)


def test_a_response_that_cannot_be_read_is_named():
    policy = tiny.policy(head="scalar", max_response_tokens=2)
    group = Group(id="g7", contexts={MAIN: Prompt(content="q")}, responses=(Response(content="a"), Response(content="many more words than two")))
    with pytest.raises(RecordError, match=r"g7\.responses\[1\]: a response cannot be scored: the response has more than 2 tokens"):
        ScalarReward(policy).score([group])
