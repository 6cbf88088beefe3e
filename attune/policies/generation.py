"""What a saved model says about generation: where a reply ends, and nothing that contradicts itself."""

from __future__ import annotations

import copy
from typing import Any

from attune.policies.templates import Template


def settled(config: Any, template: Template) -> Any:
    """Returns a generation configuration that stops where training said a reply ends, and that transformers agrees to write.

    Many published models say a temperature and not that they sample; transformers reads that, and refuses to write it. Sampling is what
    they mean. Where something else contradicts itself, only the tokens are kept.

    Args:
        config: a GenerationConfig, as a model came with it.
        template: knows the tokens that end a turn and a text.
    """
    from transformers import GenerationConfig

    tokenizer = template.tokenizer
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    tokens = {"eos_token_id": list(template.stop_ids), "pad_token_id": pad, "bos_token_id": tokenizer.bos_token_id}
    made = copy.deepcopy(config)
    made.update(**tokens)
    if not _whole(made):
        made.update(do_sample=True)
    return made if _whole(made) else GenerationConfig(**tokens)


def _whole(config: Any) -> bool:
    try:
        config.validate(strict=True)
    except ValueError:
        return False
    return True
