import json

import pytest

from attune.core.errors import ConfigError
from attune.data.read import read
from attune.policies.causal import load
from attune.worlds import grammar
from attune.worlds.annotators import Annotator
from attune.worlds.language import SPLITS, LanguageWorld, build


def texts(groups):
    return [(group.prompt.content, *(response.text for response in group.responses)) for group in groups]


def test_splits_share_no_prompt_and_cover_all():
    world = LanguageWorld(3)
    sizes = {"demonstrations": 3456, "preferences": 1440, "test": 864}
    found = {split: [group.prompt.content for group in world.prompts(sizes[split], split)] for split in SPLITS}
    assert sorted(text for split in found.values() for text in split) == sorted(grammar.prompts())
    assert [group.prompt.content for group in world.prompts(5, "test")] == found["test"][:5]
    with pytest.raises(ConfigError, match=r"n: the split has not so many prompts .* 0 to 864"):
        world.prompts(865, "test")
    with pytest.raises(ConfigError, match=r"split: no such split .* demonstrations, preferences, test"):
        world.prompts(1, "train")


def test_a_seed_makes_the_demonstrations():
    assert texts(LanguageWorld(1).demonstrations(20)) == texts(LanguageWorld(1).demonstrations(30))[:20]
    assert texts(LanguageWorld(1).demonstrations(20)) != texts(LanguageWorld(2).demonstrations(20))


def test_gold_marks_reach_rewards_and_judges():
    world = LanguageWorld(0)
    groups = world.authored(world.prompts(40, "preferences"), k=4)
    scores = world.gold_reward().score(groups)
    assert scores[7] == [grammar.marks(groups[7].prompt.content, response.text) for response in groups[7].responses]
    compared = 0
    for group, marks in zip(world.judge(groups, [Annotator(id="exact", temperature=0)]), scores, strict=True):
        for verdict in group.verdicts:
            best, worst = verdict.tiers[0][0], verdict.tiers[-1][-1]
            assert marks[best] == marks[worst] if len(verdict.tiers) == 1 else marks[best] > marks[worst]
            compared += 1
    assert compared > 200


def test_the_three_annotators_tie_sometimes_and_differ():
    world = LanguageWorld(0)
    judged = world.judge(world.authored(world.prompts(100, "preferences"), k=4), num_pairs=2)
    ties = {name: [len(v.tiers) == 1 for group in judged for v in group.verdicts if v.annotator == name] for name in ("ada", "ben", "cleo")}
    shares = {name: sum(found) / len(found) for name, found in ties.items()}
    assert 0.02 < shares["cleo"] < shares["ada"] < shares["ben"] < 0.4


def test_the_tokenizer_knows_the_worlds_words():
    tokenizer = LanguageWorld(0).build_tokenizer()
    words = [f" {word}" for kind in grammar.KINDS.values() for word in kind]
    assert sum(len(tokenizer(word, add_special_tokens=False)["input_ids"]) == 1 for word in words) > 0.9 * len(words)


def test_build_writes_a_model_and_data_that_can_be_read(tmp_path):
    def fine_tune(policy, demonstrations):
        seen.append(len(demonstrations))

    seen = []
    sizes = {"num_demonstrations": 12, "num_preferences": 5, "num_prompts": 3, "size": "tiny"}
    built = build(tmp_path / "a", seed=2, **sizes)
    policy = load(str(built.model))
    demonstrations, preferences, prompts = (list(read(str(path))) for path in (built.demonstrations, built.preferences, built.prompts))
    assert (len(demonstrations), len(preferences), len(prompts)) == (12, 5, 3)
    assert all(len(group.responses) == 4 and group.verdicts for group in preferences)
    assert texts(prompts) == texts(LanguageWorld(2).prompts(3, "test"))
    assert policy.admit(preferences[0]) == {}
    sampled = build(tmp_path / "b", seed=2, fine_tune=fine_tune, **sizes)
    assert seen == [12]
    assert {response.generator for group in read(str(sampled.preferences)) for response in group.responses} == {"start"}
    assert json.loads((tmp_path / "b" / "world.json").read_text()) == {"seed": 2, "size": "tiny", "fine_tuned": True}
