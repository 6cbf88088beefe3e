"""Identity preference optimisation."""

from __future__ import annotations

from typing import Annotated, Literal

import torch

from attune.core.batch import Batch, Loss, Term
from attune.core.spec import Conventions, Paper, Preset, Range, Spec


def ipo(batch: Batch, *, tau: Annotated[float, Range("(0, inf)")] = 0.1, logp: Literal["sum", "mean"] = "sum") -> Loss:
    """Drives the log-ratio margin of every pair to a finite target, so that a certain verdict does not push for ever.

        h = log( pi(y1|x) pi_ref(y2|x) / ( pi(y2|x) pi_ref(y1|x) ) )
        L = p (h - 1/(2 tau))^2 + (1-p) (h + 1/(2 tau))^2

    Its minimum lies at h = (2p-1) / (2 tau).

    Args:
        batch: needs logp, ref_logp (nats, [N,T]) and pairs [P,2] with their target p [P] in [0,1].
        tau: strength of the pull towards the reference; 1/(2 tau) is the margin asked for, in nats (per token if logp is "mean").
        logp: "sum" over the tokens of a response, as the paper writes; "mean" over them, as several libraries do.

    Returns:
        One term [P], in squared nats, counted by pairs.

    Source: Azar et al. 2023, Eq. 17; with p it is the expectation over the verdict that Eq. 17 samples.
    """
    ratio_N = batch.log_ratio()
    if logp == "mean":
        ratio_N = ratio_N / batch.length.clamp(min=1)
    h_P = batch.margin(ratio_N)
    p_P = batch.get("target").to(h_P.dtype)
    asked = 1 / (2 * tau)
    return Loss((Term(p_P * torch.square(h_P - asked) + (1 - p_P) * torch.square(h_P + asked), "pairs"),))


SPEC = Spec(
    fn=ipo,
    paper=Paper("A General Theoretical Paradigm to Understand Learning from Human Preferences", 2023, "2310.12036", "Eq. 17"),
    needs=("logp", "ref_logp", "pairs", "target"),
    conventions=Conventions(logp="sum", reference="subtracted from each response's log-probability", count="pairs"),
    use_when="Verdicts are nearly deterministic or pairs few, where DPO would drive the margin without bound; or preferences may be intransitive.",
    avoid_when="tau cannot be tuned: the squared loss asks every pair for the same margin, however long its responses are.",
    deviations=("A target p in [0,1] per pair: the expectation over verdicts of the sampled loss, so a tie (p = 1/2) asks for no margin.",),
    presets={
        "ipo_mean": Preset(
            {"logp": "mean"}, "TRL's DPOTrainer with loss_type=ipo since its pull request 1265: log-probabilities averaged over tokens; its beta is our tau"
        ),
    },
)
