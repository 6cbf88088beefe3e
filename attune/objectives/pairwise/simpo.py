"""Simple preference optimisation."""

from __future__ import annotations

from typing import Annotated

from torch.nn.functional import logsigmoid

from attune.core.batch import Batch, Loss, Term
from attune.core.spec import Conventions, Paper, Preset, Range, Spec


def simpo(batch: Batch, *, beta: Annotated[float, Range("(0, inf)")] = 2.0, gamma: Annotated[float, Range("[0, inf)")] = 1.0) -> Loss:
    """Raises the mean token log-probability of the preferred response over that of the other one by a margin, without a reference.

        h = beta * ( log pi(y1|x) / |y1| - log pi(y2|x) / |y2| )
        L = - p log sigma(h - gamma) - (1-p) log sigma(-h - gamma)

    Args:
        batch: needs logp (nats, [N,T]) and pairs [P,2] with their target p [P] in [0,1].
        beta: scale of the reward; about a response's length times DPO's.
        gamma: margin asked for, in units of h. The authors' code and many libraries take gamma / beta instead.

    Returns:
        One term [P], counted by pairs.

    Source: Meng et al. 2024, Eq. 6.
    """
    h_P = beta * batch.margin(batch.mean("logp"))
    p_P = batch.get("target").to(h_P.dtype)
    return Loss((Term(-p_P * logsigmoid(h_P - gamma) - (1 - p_P) * logsigmoid(-h_P - gamma), "pairs"),))


_README = "princeton-nlp/SimPO, README: gamma / beta = "

SPEC = Spec(
    fn=simpo,
    paper=Paper("SimPO: Simple Preference Optimization with a Reference-Free Reward", 2024, "2405.14734", "Eq. 6", "princeton-nlp/SimPO"),
    needs=("logp", "pairs", "target"),
    conventions=Conventions(logp="mean", reference="none", count="pairs"),
    use_when="Memory for a reference is short, or lengths must not be rewarded: the score is a mean over tokens, as in decoding.",
    avoid_when="The model must stay near its start: nothing but the learning rate and the number of updates holds it there.",
    deviations=("A target p in [0,1] per pair: the margin is asked of whichever side a verdict names, so a tie (p = 1/2) is lowest at h = 0.",),
    presets={
        "simpo_mistral_base": Preset({"beta": 2.0, "gamma": 1.6}, _README + "0.8"),
        "simpo_mistral_instruct": Preset({"beta": 2.5, "gamma": 0.25}, _README + "0.1"),
        "simpo_llama3_instruct": Preset({"beta": 2.5, "gamma": 1.375}, _README + "0.55"),
        "simpo_llama3_instruct_v2": Preset({"beta": 10.0, "gamma": 3.0}, "princeton-nlp/SimPO, llama-3-8b-instruct-simpo-v2.yaml: gamma / beta = 0.3"),
        "simpo_gemma2": Preset({"beta": 10.0, "gamma": 5.0}, "princeton-nlp/SimPO, gemma-2-9b-it-simpo.yaml: gamma / beta = 0.5"),
    },
)
