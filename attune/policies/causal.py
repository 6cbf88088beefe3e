"""A causal language model of transformers behind core.protocols.Policy. Letters: N rows, T steps, M supervised tokens."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from attune.core.errors import AttuneError, ConfigError, MissingField
from attune.core.protocols import Row
from attune.core.record import Group, Prompt
from attune.policies import adapters
from attune.policies.heads import scalar_head, vocabulary_head
from attune.policies.layouts import choose, states
from attune.policies.packing import Layout, Line, Packed, pack
from attune.policies.templates import Template, Tokens

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}


class CausalPolicy:
    """Log-probabilities of responses, or a reward head's scores of them.

    Attributes:
        module: the model, with its adapter around it if it has one.
        template: how conversations become token ids; samplers use the same object, so ids agree.
        continued: whether its adapter was trained before; a new one changes nothing at the start.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        head: str = "lm",
        layout: str = "grouped",
        chat: str = "auto",
        max_prompt_tokens: int | None = None,
        max_response_tokens: int | None = None,
        overlong: str = "drop",
        use_token_ids: bool = False,
        dropout: bool = False,
    ) -> None:
        """Puts a model behind the protocol.

        Args:
            model: a causal model, or a sequence classifier with one label; perhaps with a peft adapter around it.
            tokenizer: its tokenizer.
            head: "lm" for log-probabilities, "scalar" for rewards.
            layout: "grouped" computes each prompt once where the model can take it; "plain" never does. The numbers are equal.
            chat: see Template.
            max_prompt_tokens, max_response_tokens: limits; None: what the model's positions allow.
            overlong: what happens beyond them: "drop" leaves the response out with a reason, "cut" keeps the end of the prompt
                and the beginning of the response.
            use_token_ids: see Template.
            dropout: whether dropout acts while training.

        Raises:
            ConfigError: an option that does not exist. AttuneError: a model that does not fit the head.
        """
        if head not in ("lm", "scalar"):
            raise ConfigError("no such head", field="head", value=head, allowed="'lm', 'scalar'")
        if overlong not in ("drop", "cut"):
            raise ConfigError("no such way with long rows", field="overlong", value=overlong, allowed="'drop', 'cut'")
        self._module, self.template = model, Template(tokenizer, chat=chat, use_token_ids=use_token_ids)
        self.max_prompt_tokens, self.max_response_tokens, self.overlong = max_prompt_tokens, max_response_tokens, overlong
        self.kind = head
        self.continued = False
        with evaluating(model):
            if head == "scalar":
                self.head: Any = scalar_head(self.model)
            else:
                self.head = vocabulary_head(self.model, _probe(self.model))
            self.layout = choose(self.model, self.head, layout)
        model.train(dropout)

    @property
    def module(self) -> Any:
        return self._module

    @property
    def model(self) -> Any:
        """The model of transformers, from inside its adapter if it has one."""
        return self._module.get_base_model() if hasattr(self._module, "get_base_model") else self._module

    @property
    def tokenizer(self) -> Any:
        return self.template.tokenizer

    @property
    def layout_used(self) -> Layout:
        """The layout that rows get."""
        return self.layout.layout

    @property
    def layout_reason(self) -> str:
        """Why rows get the layout they get."""
        return self.layout.reason

    @property
    def max_positions(self) -> int | None:
        """Tokens that prompt and response may have together; None where the configuration does not say."""
        config = self.model.config.get_text_config()
        return getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)

    def with_module(self, module: Any) -> CausalPolicy:
        """Returns a policy that reads rows as this one does, with another model of the same architecture."""
        other = copy.copy(self)
        other._module = module
        return other

    def prompt_ids(self, prompt: Prompt) -> tuple[int, ...]:
        """Returns the ids behind which a response to `prompt` is trained, and must be sampled."""
        ids = self.template.encode_prompt(prompt)
        return self._cut(Tokens(ids, (), (), 0, 0)).prompt_ids

    def tokens(self, group: Group, row: Row) -> Tokens:
        """Returns the ids that are computed for a row of one group.

        Raises:
            AttuneError: the row cannot be read; see Template.
        """
        return self._cut(self.template.encode(group.contexts[row.context], group.responses[row.response]))

    def admit(self, group: Group) -> Mapping[int, str]:
        """Returns response index -> why it cannot be trained on; all others can."""
        reasons = {index: self._unfit(group, index) for index in range(len(group.responses))}
        return {index: reason for index, reason in reasons.items() if reason is not None}

    def collate(self, groups: Sequence[Group], rows: Sequence[Row]) -> Packed:
        """Returns the rows as `outputs` takes them, on the model's device."""
        found = []
        for row in rows:
            writer = groups[row.group if row.written_by is None else row.written_by]
            found.append(self._cut(self.template.encode(groups[row.group].contexts[row.context], writer.responses[row.response])))
            self._check_length(found[-1], groups[row.group], writer)
        return pack(found, self.layout.of(found)).to(self.model.device)

    def outputs(self, encoded: Any, wants: Collection[str]) -> dict[str, Tensor]:
        """Returns `logp` [N,T] (nats; 0 where not supervised) and `reward` [N], as wanted, in float32 or wider."""
        offered = "logp" if self.kind == "lm" else "reward"
        for name in wants:
            if name != offered:
                raise MissingField("this policy does not compute the column", field=name, allowed=offered, mend=f"its head is {self.kind!r}")
        if not wants:
            return {}
        found = states(self.model, self.head, encoded)
        if self.kind == "scalar":
            return {"reward": self.head.rewards(self.model, found[encoded.last])}
        logp_M = self.head.logps(self.model, found[encoded.predicting], encoded.targets)
        logp_NT = torch.zeros(encoded.mask.shape, dtype=logp_M.dtype, device=logp_M.device)
        return {"logp": logp_NT.masked_scatter(encoded.mask, logp_M)}

    def save(self, folder: str) -> None:
        """Writes model (or adapter), tokenizer and chat template, in safetensors and JSON."""
        if self.kind == "scalar":
            self._mark_padding()
        self._module.save_pretrained(folder, safe_serialization=True)
        self.tokenizer.save_pretrained(folder)

    def _mark_padding(self) -> None:
        """Says which id is padding: a classifier of transformers reads its score at the last token that is no padding.

        Where the tokenizer pads with the stop token, that would be the token before it. Then no padding token is declared, and
        transformers refuses to score several rows at once instead of scoring them wrongly.
        """
        pad = self.tokenizer.pad_token_id
        self.model.config.get_text_config().pad_token_id = None if pad in self.template.stop_ids else pad

    def _cut(self, tokens: Tokens) -> Tokens:
        if self.overlong == "drop":
            return tokens
        return self.template.cut(tokens, max_prompt=self.max_prompt_tokens, max_response=self.max_response_tokens)

    def _unfit(self, group: Group, index: int) -> str | None:
        context = group.responses[index].context
        if group.untrainable is not None:
            return group.untrainable
        try:
            tokens = self.tokens(group, Row(group=0, response=index, context=context))
        except AttuneError as error:
            return error.message
        limits = ((tokens.prompt_ids, self.max_prompt_tokens, "prompt"), (tokens.response_ids, self.max_response_tokens, "response"))
        for ids, limit, name in limits:
            if limit is not None and len(ids) > limit:
                return f"the {name} has more than {limit} tokens"
        if self.max_positions is not None and len(tokens.prompt_ids) + len(tokens.response_ids) > self.max_positions:
            return f"prompt and response have more tokens than the model's {self.max_positions} positions"
        if not tokens.prompt_ids:
            return "the prompt has no token"
        if max(tokens.prompt_ids + tokens.response_ids) >= self.model.get_input_embeddings().num_embeddings:
            return "a token of the tokenizer is beyond the model's vocabulary"
        return None if any(tokens.supervised) else "no token of the response is supervised"

    def _check_length(self, tokens: Tokens, group: Group, writer: Group) -> None:
        num = len(tokens.prompt_ids) + len(tokens.response_ids)
        if self.max_positions is not None and num > self.max_positions:
            where = group.id if writer is group else f"{group.id} with a response of {writer.id}"
            mend = "set max_prompt_tokens and max_response_tokens so that both fit together"
            raise AttuneError("a row has more tokens than the model has positions", field=where, value=num, allowed=f"at most {self.max_positions}", mend=mend)


@contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Switches dropout off inside the block; each part of the model is then put back into the mode it was in."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def _probe(model: Any) -> Line:
    ids = (7 * torch.arange(8) + 3).remainder(model.config.get_text_config().vocab_size)
    row = Tokens(tuple(ids.tolist()), (0,), (True,), 0, 0)
    return pack([row], "plain").to(model.device).lines[0]


def load(
    path: str,
    *,
    dtype: str = "float32",
    head: str = "lm",
    device: str = "cpu",
    trust_remote_code: bool = False,
    adapter: Mapping[str, Any] | None = None,
    new_head: bool = False,
    **options: Any,
) -> CausalPolicy:
    """Reads a model and its tokenizer from a folder or from the hub, from safetensors only.

    Args:
        path: a folder (a saved adapter's folder too: its base model is read first), or a hub id.
        dtype: of the weights: "float32", "float64", "bfloat16" or "float16".
        head: "lm", or "scalar" for a reward model.
        device: where the model goes.
        trust_remote_code: whether code that lies beside the weights may run.
        adapter: see add_adapter; None: none, or the one in the folder.
        new_head: whether a language model's folder gets a reward head with random weights, to be trained; otherwise it is no reward model.
        options: the other options of CausalPolicy.

    Raises:
        AttuneError: there is no such model, its weights are pickles, or it wants to run code of its own.
    """
    if dtype not in DTYPES:
        raise ConfigError("no such type of weights", field="dtype", value=dtype, allowed=", ".join(DTYPES))
    if head not in ("lm", "scalar"):
        raise ConfigError("no such head", field="head", value=head, allowed="'lm', 'scalar'")
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    base = _base_of_adapter(path)
    check_weights(base or path)
    auto: Any = AutoModelForCausalLM if head == "lm" else AutoModelForSequenceClassification
    how = {"dtype": DTYPES[dtype], "use_safetensors": True, "trust_remote_code": trust_remote_code, "output_loading_info": True}
    how |= {} if head == "lm" else {"num_labels": 1}
    try:
        tokenizer = _load_tokenizer(path, trust_remote_code=trust_remote_code)
        model, report = auto.from_pretrained(base or path, **how)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:  # absent, unknown, torn, or with code of its own
        raise AttuneError(f"the model cannot be read: {str(error).strip()}", field="model", value=path) from error
    _check_missing(report["missing_keys"], path, head, new_head=new_head or base is not None)  # an adapter brings the head trained beside it
    if base is not None and adapter is not None:
        mend = "give the model below it and the adapter apart, or train on from the merged model"
        raise ConfigError("the path is an adapter's folder, and another adapter is asked for", field="model.adapter", value=path, mend=mend)
    if base is not None:
        model = adapters.load_adapter(model, path, head=head)
    elif adapter is not None:
        model = adapters.add_adapter(model, adapter, head=head)
    policy = CausalPolicy(model.to(device), tokenizer, head=head, **options)
    policy.continued = base is not None or "path" in (adapter or {})
    return policy


def _check_missing(missing: Collection[str], path: str, head: str, *, new_head: bool) -> None:
    """Raises AttuneError where the folder lacks weights: transformers would go on with random numbers in their place."""
    lacking = sorted(name for name in missing if not (new_head and name.startswith("score.")))
    if lacking and all(name.startswith("score.") for name in lacking):
        mend = "give a reward model, such as the model/ of a run of the recipe `reward`"
        raise AttuneError("this is no reward model: its weights hold no trained reward head", field="model", value=path, mend=mend)
    if lacking:
        raise AttuneError(
            "weights are missing", file=path, field="model", value=lacking, mend="a reward model has no vocabulary head" if head == "lm" else None
        )


def _load_tokenizer(path: str, *, trust_remote_code: bool) -> Any:
    """Returns the tokenizer that was saved: one without a class of its own must not become that of the model's family, which splits words otherwise."""
    import transformers
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    said = get_tokenizer_config(path)
    declared = said.get("tokenizer_class") or ""
    if declared in ("TokenizersBackend", "PreTrainedTokenizerFast"):
        return transformers.PreTrainedTokenizerFast.from_pretrained(path)
    if "AutoTokenizer" in said.get("auto_map", {}) and not hasattr(transformers, declared) and not trust_remote_code:
        raise AttuneError(
            "the tokenizer wants to run code of its own", file=path, field="tokenizer_class", value=declared, mend="allow it with trust_remote_code"
        )
    return transformers.AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)


def _base_of_adapter(path: str) -> str | None:
    """Returns where the model of an adapter's folder lies; None where the path is no such folder."""
    config = os.path.join(path, "adapter_config.json")
    if not os.path.isfile(config):
        return None
    with open(config, encoding="utf-8") as file:
        try:
            return str(json.load(file)["base_model_name_or_path"])
        except (ValueError, KeyError) as error:
            raise AttuneError("the adapter does not say which model it belongs to", file=config, field="base_model_name_or_path") from error


def check_weights(path: str) -> None:
    """Raises AttuneError for a path that does not exist or holds pickled weights only; a hub id (owner/name) is left to transformers."""
    if not os.path.isdir(path):
        if os.path.exists(path) or path.startswith(("/", ".", "~")) or path.count("/") != 1:
            raise AttuneError("there is no folder with a model", field="model", value=path, allowed="a folder, or a hub id such as owner/name")
        return
    names = os.listdir(path)
    if not any(name.endswith(".safetensors") for name in names):
        pickled = next((name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt"))), None)
        mend = "a pickle can run code; save the model again in safetensors" if pickled else "the folder holds no weights"
        raise AttuneError("only safetensors are read", file=os.path.join(path, pickled or ""), field="model", mend=mend)
