"""`attune sample`: responses from a model to the prompts of a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from attune.config.recipe import ModelConfig
from attune.core.errors import FormatError
from attune.core.protocols import SamplingParams
from attune.core.record import MAIN, Group
from attune.data.read import read
from attune.data.write import write
from attune.recipes.assemble import load_model
from attune.recipes.progress import Watcher
from attune.samplers.transformers import TransformersSampler


def sample_file(
    prompts: str, model: str, out: Path, *, k: int, temperature: float, top_p: float, max_tokens: int, limit: int | None, seed: int, quiet: bool
) -> Path:
    """Writes the groups of a file with k new responses each; see samplers.transformers. Returns the path written.

    Raises:
        FormatError: no group of the file has a prompt, or the place cannot be written to (said before anything is sampled).
    """
    reading, watcher = read(prompts), Watcher(quiet=quiet)
    groups = list(reading)
    asked = [group for group in groups if MAIN in group.contexts]
    watcher.say(f"{prompts}: {reading.account.summary()}; {len(groups) - len(asked)} without a prompt")
    if not asked:
        raise FormatError("no group has a prompt to sample from", file=prompts)
    policy = load_model(ModelConfig(path=model), path=model)
    params = SamplingParams(temperature=temperature, top_p=top_p, max_tokens=max_tokens)

    def sampled() -> Iterator[Group]:
        with watcher.bar("sampling", total=len(asked[:limit]) * k) as advance:
            sampler = TransformersSampler(policy, on_progress=lambda done, total: advance(done, f"{done} of {total} responses"))
            yield from sampler.sample(asked[:limit], k=k, params=params, seed=seed)

    write(sampled(), out)
    return out
