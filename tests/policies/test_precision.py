"""Products in 16 bits over float32 weights, weights in 16 bits, and a frozen base in 4 or 8 bits below its adapter."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from attune.core.errors import AttuneError, ConfigError
from attune.policies import precision
from attune.policies.adapters import adapter_parameters, add_adapter
from attune.policies.causal import CausalPolicy, load
from attune.policies.fingerprint import fingerprint
from attune.policies.references import adapter_off, as_now
from tests import tiny

GROUPS = tiny.groups(3, 2)
ROWS = tiny.rows(GROUPS)
LAYOUTS = ("shared", "plain")


def read(policy: CausalPolicy, column: str = "logp") -> Tensor:
    return policy.outputs(policy.collate(GROUPS, ROWS), (column,))[column]


def distance(one: Tensor, other: Tensor) -> float:
    """Relative, of the sums of the rows."""
    return float(((one.double() - other.double()).sum(-1).abs() / other.double().sum(-1).abs()).max())


def small(architecture: str = "llama", *, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    """A model with weights of a usual size, so that rounding is a usual one too."""
    model = tiny.model(architecture, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.3 if parameter.ndim > 1 else 1.0)
    return model.to(dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_products_in_16_bits_give_float32_numbers_and_gradients(architecture: str, layout: str) -> None:
    """Against float64: within a few roundings to 8 bits of mantissa, but not equal; weights, gradients and log-probabilities are float32."""
    tokenizer = tiny.tokenizer(chat="chatml")
    policy = CausalPolicy(small(architecture), tokenizer, layout=layout, compute="bfloat16")
    exact = CausalPolicy(small(architecture, dtype=torch.float64), tokenizer, layout=layout)
    logp = read(policy)
    logp.sum().backward()
    read(exact).sum().backward()
    assert logp.dtype == torch.float32
    assert 1e-7 < distance(logp.detach(), read(exact).detach()) < 4 * 2**-8
    pairs = list(zip(policy.module.parameters(), exact.module.parameters(), strict=True))
    assert all(parameter.grad.dtype == torch.float32 for parameter, _ in pairs)
    ours, theirs = (torch.cat([pair[side].grad.double().flatten() for pair in pairs]) for side in (0, 1))
    assert (ours - theirs).norm() / theirs.norm() < 8 * 2**-8


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_reference_is_computed_in_the_same_way(layout: str) -> None:
    for policy in (
        CausalPolicy(small(), tiny.tokenizer(chat="chatml"), layout=layout, compute="bfloat16"),
        CausalPolicy(small(dtype=torch.bfloat16), tiny.tokenizer(chat="chatml"), layout=layout),
    ):
        encoded = policy.collate(GROUPS, ROWS)
        logp = policy.outputs(encoded, ("logp",))["logp"]
        assert logp.dtype == torch.float32
        assert (logp - as_now(policy).logp(encoded)).abs().max() <= 1e-6


def test_it_counts_as_another_model() -> None:
    tokenizer = tiny.tokenizer(chat="chatml")
    assert fingerprint(CausalPolicy(tiny.model(), tokenizer)) != fingerprint(CausalPolicy(tiny.model(), tokenizer, compute="bfloat16"))


def test_what_changes_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for dtype in (torch.bfloat16, torch.float64):
        with pytest.raises(ConfigError, match="computed in their own type"):
            tiny.policy(dtype=dtype, compute="bfloat16")
    with pytest.raises(ConfigError, match="allowed: same, bfloat16"):
        tiny.policy(compute="float8")
    with pytest.raises(ConfigError, match="allowed: nf4, int8"):
        precision.quantized("int3", torch.float32, "cpu")
    with pytest.raises(ConfigError, match="float32 or bfloat16"):
        precision.quantized("nf4", torch.float64, "cpu")
    monkeypatch.setattr(precision, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"quantize: bitsandbytes is not installed .*attune\[quant\]"):
        precision.quantized("nf4", torch.float32, "cpu")


@pytest.fixture
def base(tmp_path: Path) -> str:
    pytest.importorskip("bitsandbytes")
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 128, "intermediate_size": 256, "initializer_range": 0.05}  # bitsandbytes' blocks of 64 lie within rows
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(**{**tiny.config("llama").to_dict(), **sizes})).eval()
    CausalPolicy(model, tiny.tokenizer(chat="chatml")).save(str(tmp_path / "base"))
    return str(tmp_path / "base")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("quantize", ["nf4", "int8"])
def test_a_quantised_base_below_an_adapter(base: str, quantize: str, dtype: str) -> None:
    """Only the adapter learns; with the adapter new the policy is its base, to 1e-3; it is near the model it was made from, and not that model."""
    policy = load(base, quantize=quantize, dtype=dtype, adapter={"rank": 2})
    kinds = {type(part).__name__ for name, part in policy.model.named_modules() if name.endswith(("up_proj.base_layer", "q_proj.base_layer"))}
    assert kinds == {"Linear4bit" if quantize == "nf4" else "Linear8bitLt"}
    assert policy.model.get_output_embeddings().weight.dtype == getattr(torch, dtype), "the vocabulary head is not quantised"
    encoded = policy.collate(GROUPS, ROWS)
    logp = policy.outputs(encoded, ("logp",))["logp"]
    assert (logp - adapter_off(policy).logp(encoded)).abs().max() <= 1e-3
    assert 1e-5 < distance(logp.detach(), read(load(base)).detach()) < 0.02
    logp.sum().backward()
    learning = {name for name, parameter in policy.module.named_parameters() if parameter.grad is not None}
    assert learning == set(adapter_parameters(policy.module))
    assert all(parameter.dtype == torch.float32 for parameter in adapter_parameters(policy.module).values())


def test_nf4_weights_are_the_nearest_of_sixteen_values_a_block(base: str) -> None:
    """By hand: a block of 64 is scaled by its largest magnitude, and each number is the nearest of the 16 of the code; scales lose a little again."""
    from bitsandbytes.functional import dequantize_4bit

    layer = load(base, quantize="nf4").model.model.layers[0].mlp.up_proj
    whole = load(base).model.model.layers[0].mlp.up_proj.weight.detach().view(-1, 64)
    below = [-1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500]
    code = torch.tensor([*below, 0.0, 0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1.0])
    scale = whole.abs().amax(-1, keepdim=True)
    wanted = scale * code[((whole / scale)[..., None] - code).abs().argmin(-1)]
    found = dequantize_4bit(layer.weight, layer.weight.quant_state).view(-1, 64)
    assert (found - wanted).abs().max() < 0.02 * scale.max()
    assert layer.weight.numel() * layer.weight.element_size() == whole.numel() / 2


def test_a_quantised_reward_model_keeps_its_head_whole(base: str) -> None:
    policy = load(base, quantize="nf4", head="scalar", adapter={"rank": 2}, new_head=True)
    read(policy, "reward").sum().backward()
    scores = [parameter for name, parameter in policy.module.named_parameters() if "score" in name and parameter.grad is not None]
    assert len(scores) == 1
    assert scores[0].dtype == torch.float32
    assert math.isfinite(float(scores[0].grad.sum()))


def test_a_torn_model_is_still_said(base: str) -> None:
    file = Path(base) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(AttuneError, match="cannot be read"):
        load(base, quantize="nf4")


def test_an_adapter_alone_is_widened_and_nothing_else() -> None:
    policy = CausalPolicy(add_adapter(small(dtype=torch.bfloat16), {"rank": 2}), tiny.tokenizer(chat="chatml"))
    found = {name in adapter_parameters(policy.module): parameter.dtype for name, parameter in policy.module.named_parameters()}
    assert found == {True: torch.float32, False: torch.bfloat16}
