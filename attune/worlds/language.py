"""The small language world: prompts, answers, exact marks, annotators, and a model that can learn it all in a minute on a CPU."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from attune.core.errors import ConfigError
from attune.core.protocols import SamplingParams
from attune.core.record import MAIN, Group, Prompt, Response, text_of
from attune.data.write import write
from attune.policies.causal import CausalPolicy
from attune.rewards.callable import CallableReward
from attune.samplers.scripted import ScriptedSampler
from attune.samplers.transformers import TransformersSampler
from attune.worlds import grammar, miniature
from attune.worlds.annotators import Annotator, judge

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

SPLITS = {"demonstrations": 0.6, "preferences": 0.25, "test": 0.15}
"""Share of the prompts in each split; no prompt is in two."""

ANNOTATORS = (
    Annotator(id="ada", temperature=0.5, tie_threshold=0.4),
    Annotator(id="ben", temperature=0.8, tie_threshold=0.8, noise=0.03),
    Annotator(id="cleo", temperature=0.6, tie_threshold=0.2, noise=0.05, position_bias=0.3),
)
"""The demo's three: careful, indecisive, and hasty with a liking for what is shown first; in marks."""

MAX_TOKENS = 40
"""Enough for every sensible answer."""

FineTune = Callable[[CausalPolicy, list[Group]], None]
"""Trains a policy in place on demonstrations."""


class LanguageWorld:
    """Everything there is, drawn from one seed.

    Args:
        seed: of the splits, the demonstrations, the weights and the verdicts.
        author: how carelessly demonstrations are written.
    """

    def __init__(self, seed: int = 0, *, author: grammar.Author | None = None) -> None:
        self.seed, self.author = seed, author or grammar.Author()

    @cached_property
    def _splits(self) -> dict[str, list[str]]:
        texts = grammar.prompts()
        Random(f"{self.seed}/splits").shuffle(texts)
        found, start = {}, 0.0
        for name, share in SPLITS.items():
            found[name] = texts[round(start * len(texts)) : round((start + share) * len(texts))]
            start += share
        return found

    def prompts(self, n: int, split: str) -> list[Group]:
        """Returns n different prompts of a split, as groups without responses; a smaller n gives the first of them.

        Raises:
            ConfigError: no such split, or it has fewer prompts.
        """
        if split not in self._splits:
            raise ConfigError("no such split", field="split", value=split, allowed=", ".join(SPLITS))
        texts = self._splits[split]
        if not 0 <= n <= len(texts):
            raise ConfigError("the split has not so many prompts", field="n", value=n, allowed=f"0 to {len(texts)}")
        return [Group(id=f"{split}-{index}", contexts={MAIN: Prompt(content=text)}) for index, text in enumerate(texts[:n])]

    def demonstrations(self, n: int) -> list[Group]:
        """Returns n prompts of their split, each with one answer by the careless author."""
        return self.authored(self.prompts(n, "demonstrations"), k=1)

    def authored(self, groups: Sequence[Group], *, k: int) -> list[Group]:
        """Returns the groups with k answers by the author each."""

        def script(group: Group, sample: int) -> str:
            return self.author.write(text_of(group.prompt.content), Random(f"{self.seed}/{group.id}/{sample}"))

        return ScriptedSampler(script, name="author").sample(groups, k=k, params=SamplingParams(), seed=self.seed)

    def gold(self, prompt: str, response: str) -> float:
        """Returns the exact marks of an answer, 0 to 10; see grammar.marks."""
        return grammar.marks(prompt, response)

    def gold_reward(self) -> CallableReward:
        """Returns the exact marks as a Reward; they may be compared across prompts."""

        def fn(prompt: Prompt, response: Response) -> float:
            return self.gold(text_of(prompt.content), response.text)

        return CallableReward(fn, scope="global")

    def judge(self, groups: Sequence[Group], annotators: Sequence[Annotator] = ANNOTATORS, *, num_pairs: int | None = None) -> list[Group]:
        """Returns the groups with verdicts (ties included) of annotators who judge by marks; see annotators.judge."""
        reward = self.gold_reward()

        def utility(group: Group, index: int) -> float:
            response = group.responses[index]
            return reward.fn(group.contexts[response.context], response)

        return judge(groups, annotators, utility, num_pairs=num_pairs, seed=self.seed)

    def build_tokenizer(self) -> PreTrainedTokenizerFast:
        """Returns a tokenizer trained on the world's prompts, answers and roles that can write any text; see miniature.build_tokenizer."""
        groups = self.demonstrations(2000)
        texts = [text for group in groups for text in (f"user\n{text_of(group.prompt.content)}\n", f"assistant\n{group.responses[0].text}\n")]
        return miniature.build_tokenizer(texts)

    def build_model(self, tokenizer: PreTrainedTokenizerFast, size: miniature.Size = "small") -> LlamaForCausalLM:
        """Returns a causal model with random weights; see miniature.build_model."""
        return miniature.build_model(tokenizer, size=size, seed=self.seed)


@dataclass(frozen=True, slots=True)
class Built:
    """Where `build` put things."""

    model: Path
    demonstrations: Path
    # one answer to a prompt
    preferences: Path
    # four answers to a prompt, with verdicts
    prompts: Path
    # test prompts without answers


def build(
    folder: str | Path,
    *,
    seed: int = 0,
    size: miniature.Size = "small",
    num_demonstrations: int = 3000,
    num_preferences: int = 1000,
    num_prompts: int = 300,
    fine_tune: FineTune | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Built:
    """Writes a world to play with: a model folder and data in attune's own format.

    Args:
        folder: made if it is not there.
        seed: of everything.
        size: of the model.
        num_demonstrations, num_preferences, num_prompts: groups in each file.
        fine_tune: trains the model on the demonstrations; the preferences are then about its own samples. None: the model stays random and
            the preferences are about the author's answers.
        on_progress: called while sampling, with responses done and responses in all.

    Returns:
        The paths.
    """
    world, place = LanguageWorld(seed), Path(folder)
    tokenizer = world.build_tokenizer()
    policy = CausalPolicy(world.build_model(tokenizer, size), tokenizer)
    demonstrations, asked = world.demonstrations(num_demonstrations), world.prompts(num_preferences, "preferences")
    if fine_tune is None:
        answered = world.authored(asked, k=4)
    else:
        fine_tune(policy, demonstrations)
        sampler = TransformersSampler(policy, batch_size=256, name="start", on_progress=on_progress)
        answered = sampler.sample(asked, k=4, params=SamplingParams(max_tokens=MAX_TOKENS), seed=seed)
    built = Built(place / "model", place / "demonstrations.jsonl", place / "preferences.jsonl", place / "prompts.jsonl")
    policy.save(str(built.model))
    write(demonstrations, built.demonstrations)
    write(world.judge(answered), built.preferences)
    write(world.prompts(num_prompts, "test"), built.prompts)
    said = {"seed": seed, "size": size, "fine_tuned": fine_tune is not None}
    (place / "world.json").write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    return built
