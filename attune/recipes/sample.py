"""`attune sample`: responses from a model to the prompts of a file."""

from __future__ import annotations

from pathlib import Path

from attune.config.recipe import ModelConfig
from attune.core.errors import FormatError
from attune.core.protocols import SamplingParams
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
        FormatError: no group of the file has a prompt.
    """
    groups = [group for group in read(prompts) if "main" in group.contexts][:limit]
    if not groups:
        raise FormatError("no group has a prompt to sample from", file=prompts)
    sampler = TransformersSampler(load_model(ModelConfig(path=model), path=model))
    params = SamplingParams(temperature=temperature, top_p=top_p, max_tokens=max_tokens)
    watcher = Watcher(quiet=quiet)
    with watcher.bar("sampling", total=len(groups)) as advance:
        sampled = sampler.sample(groups, k=k, params=params, seed=seed)
        advance(len(groups), f"{len(groups)} prompts x {k}")
    write(sampled, out)
    return out
