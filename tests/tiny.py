"""Tiny models and tokenizers, made on the spot from configurations: nothing is downloaded, nothing is random from run to run."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import torch

from attune.core.protocols import Row
from attune.core.record import MAIN, Group, Prompt, Response
from attune.policies.causal import CausalPolicy

_SPECIALS = ["<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<start_of_turn>", "<end_of_turn>"]

_CORPUS = [
    "The quick brown fox jumps over the lazy dog. Yes, no, maybe; 1234567890 times!",
    "She said: \"Is it raining?\"\nHe answered: 'It is, and it was.'\n\n  - one\n  - two",
    "def add(a, b):\n    return a + b\n\nprint(add(2, 3))  # 5",
    "user assistant system tool model [INST] hello there, how are you today? I am fine, thank you.",
    "Größe, naïve, façade, 東京, 😀 🎉, π ≈ 3.14159",
]

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

LLAMA3 = (
    "{% if tools %}{% set ns = tools | tojson %}{% endif %}{{ bos_token }}{% if tools %}{{ ns }}{% endif %}"
    "{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)

LLAMA2 = (
    "{% for m in messages %}{% if m['role'] == 'user' or m['role'] == 'tool' %}{{ bos_token + '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% elif m['role'] == 'system' %}{{ raise_exception('no system turns') }}{% else %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)

GEMMA = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{{ m['content'] | trim }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)

MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}{{ m['content'] + eos_token }}"
    "{% else %}{{ '[INST]' + m['content'] + '[/INST]' }}{% endif %}{% endfor %}"
)

PLAIN = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"

FORGETFUL = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' and not loop.last %}{{ m['content'].split('</think>')[-1] | trim }}{% else %}{{ m['content'] }}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Drops the reasoning of every reply but the last."""

HASTY = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
"""Begins a reply with a word that it leaves out of the finished one."""

TEMPLATES = {"chatml": CHATML, "llama3": LLAMA3, "llama2": LLAMA2, "gemma": GEMMA, "mistral": MISTRAL, "plain": PLAIN}

STOP = {"chatml": "<|im_end|>", "llama3": "<|eot_id|>", "llama2": "</s>", "gemma": "<end_of_turn>", "mistral": "</s>", "plain": "</s>"}

ARCHITECTURES = ("llama", "qwen2", "gpt2", "mistral", "gemma2")


@cache
def _trained(family: str, vocab_size: int) -> str:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    if family == "bytes":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer: Any = trainers.BpeTrainer(
            vocab_size=vocab_size, special_tokens=_SPECIALS, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
        )
    else:
        letters = sorted({letter for text in _CORPUS for letter in text} | {chr(code) for code in range(32, 127)})
        bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
        tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<pad>") if family == "metaspace" else models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=family == "unigram")
        fallback = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        tokenizer.decoder = decoders.Sequence(fallback) if family == "metaspace" else decoders.Metaspace(prepend_scheme="first")
        if family == "metaspace":
            trainer = trainers.BpeTrainer(vocab_size=vocab_size + 400, special_tokens=[*_SPECIALS, *bytes_], initial_alphabet=letters, show_progress=False)
        else:
            tokenizer.normalizer = normalizers.NFC()
            trainer = trainers.UnigramTrainer(vocab_size=vocab_size, special_tokens=_SPECIALS, initial_alphabet=letters, unk_token="<pad>", show_progress=False)
    tokenizer.train_from_iterator(_CORPUS * 4, trainer)
    return str(tokenizer.to_str())


def tokenizer(
    family: str = "bytes", *, bos: bool = True, writes_bos: bool = True, pad_is_eos: bool = False, chat: str | None = None, vocab_size: int = 400
) -> Any:
    """Returns a new tokenizer.

    Args:
        family: "bytes" (byte-level BPE), "metaspace" (BPE that puts a space before a text, with byte fallback), "unigram".
        bos: whether it has a BOS token.
        writes_bos: whether it writes it before every text by itself.
        pad_is_eos: whether padding and end of text are one token.
        chat: a key of TEMPLATES, a template in Jinja, or None for none.
        vocab_size: about how many tokens it knows.
    """
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer.from_str(_trained(family, vocab_size))
    if bos and writes_bos:
        inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", inner.token_to_id("<s>"))])
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        eos_token="</s>",
        pad_token="</s>" if pad_is_eos else "<pad>",
        clean_up_tokenization_spaces=False,
        **({"bos_token": "<s>"} if bos else {}),
    )
    if chat is not None:
        made.chat_template = TEMPLATES.get(chat, chat)
    return made


_EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "decoder_sparse_step": 1, "mlp_only_layers": []}
_SLIDING: dict[str, Any] = {"use_sliding_window": True, "max_window_layers": 1}
_FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {}),
    "qwen2": ("Qwen2Config", {"tie_word_embeddings": True, **_SLIDING}),
    "qwen3": ("Qwen3Config", {"head_dim": 8, **_SLIDING}),
    "mistral": ("MistralConfig", {}),
    "gemma": ("GemmaConfig", {"head_dim": 8}),
    "gemma2": ("Gemma2Config", {"head_dim": 8, "query_pre_attn_scalar": 8, "final_logit_softcapping": 5.0, "attn_logit_softcapping": 20.0}),
    "gemma3_text": (
        "Gemma3TextConfig",
        {"head_dim": 8, "query_pre_attn_scalar": 8, "num_hidden_layers": 3, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
    ),
    "phi": ("PhiConfig", {"num_key_value_heads": 4}),
    "phi3": ("Phi3Config", {"pad_token_id": 2}),
    "olmo": ("OlmoConfig", {}),
    "olmo2": ("Olmo2Config", {}),
    "gpt_neox": ("GPTNeoXConfig", {"num_key_value_heads": 4, "initializer_range": 0.1}),
    "cohere2": ("Cohere2Config", {"layer_types": ["sliding_attention", "full_attention"]}),
    "mixtral": ("MixtralConfig", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen2_moe": ("Qwen2MoeConfig", {**_EXPERTS, **_SLIDING, "shared_expert_intermediate_size": 32}),
    "qwen3_moe": ("Qwen3MoeConfig", {**_EXPERTS, **_SLIDING, "head_dim": 8}),
}
WINDOWED = ("mistral", "gemma2", "gemma3_text", "phi3", "cohere2", "mixtral", "qwen2", "qwen3", "qwen2_moe", "qwen3_moe")
EVERY = ("gpt2", *_FAMILIES)


def config(architecture: str, *, vocab_size: int = 512, dropout: float = 0.0, positions: int = 256, window: int = 128) -> Any:
    """Returns the configuration of a tiny model of any architecture in EVERY, such as qwen2 (tied), gpt2 (learned positions), gemma2 (soft caps, a window)."""
    import transformers

    sizes: dict[str, Any] = {
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
    }
    sizes |= {
        "max_position_embeddings": positions,
        "attention_dropout": dropout,
        "initializer_range": 0.3,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": None,
    }
    if architecture in _FAMILIES:
        name, extra = _FAMILIES[architecture]
        return getattr(transformers, name)(**sizes | extra | ({"sliding_window": window} if architecture in WINDOWED else {}))
    assert architecture == "gpt2", architecture
    drops: dict[str, Any] = {"resid_pdrop": dropout, "embd_pdrop": dropout, "attn_pdrop": dropout}
    ends: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 1}
    return transformers.GPT2Config(vocab_size=vocab_size, n_embd=32, n_layer=2, n_head=4, n_positions=positions, initializer_range=0.3, **drops, **ends)


def model(
    architecture: str = "llama", *, seed: int = 0, dtype: torch.dtype = torch.float32, head: str = "lm", attention: str | None = None, **sizes: Any
) -> Any:
    """Returns a new model with random weights that are large enough for tokens to matter; the caller's random state is untouched."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    made = config(architecture, **sizes)
    auto: Any = AutoModelForCausalLM
    if head == "scalar":
        auto, made.num_labels = AutoModelForSequenceClassification, 1
    how = {} if attention is None else {"attn_implementation": attention}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        built = auto.from_config(made, **how).to(dtype).eval()
    if dtype == torch.float64 and architecture in ("mixtral", "qwen2_moe", "qwen3_moe"):
        built.set_experts_implementation("eager")  # the batched product knows no float64
    return built


def policy(
    architecture: str = "llama",
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    head: str = "lm",
    chat: str | None = "chatml",
    bos: bool = True,
    **options: Any,
) -> CausalPolicy:
    """Returns a policy over a tiny model and a byte-level tokenizer; options are those of CausalPolicy."""
    sizes = {name: options.pop(name) for name in ("positions", "window") if name in options}
    return CausalPolicy(model(architecture, seed=seed, dtype=dtype, head=head, **sizes), tokenizer(chat=chat, bos=bos), head=head, **options)


def texts(count: int, *, seed: int = 0, words: tuple[int, int] = (1, 8)) -> list[str]:
    """Returns `count` different short texts."""
    draw = random.Random(seed)
    known = " ".join(_CORPUS).split()
    found: dict[str, None] = {}
    while len(found) < count:
        found[" ".join(draw.choice(known) for _ in range(draw.randint(*words)))] = None
    return list(found)


def groups(count: int, k: int, *, seed: int = 0) -> list[Group]:
    """Returns `count` groups of one text prompt and `k` text responses each."""
    prompts = texts(count, seed=seed)
    return [
        Group(id=f"g{index}", contexts={MAIN: Prompt(content=prompt)}, responses=tuple(Response(content=text) for text in texts(k, seed=seed + 100 + index)))
        for index, prompt in enumerate(prompts)
    ]


def rows(found: list[Group]) -> list[Row]:
    """Returns one row for every response of the groups."""
    return [Row(group=index, response=response) for index, group in enumerate(found) for response in range(len(group.responses))]
