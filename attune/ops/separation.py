"""How well scores separate two classes. Letters: N values, C clusters, U values of the upper class, D of the lower one, R resamples."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from attune.core.errors import AttuneError
from attune.ops.intervals import NUM_RESAMPLES, Estimate, FloatArray, bootstrap_interval


def auc_estimate(
    scores: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Returns the probability that a value of the upper class scores higher than one of the lower class (the area under the ROC curve).

        AUC = sum_{u,d} ( [s_u > s_d] + [s_u = s_d] / 2 ) / (U D)

    Args:
        scores: [N], any unit, finite.
        labels: [N] bool; True is the upper class.
        clusters: what each value was drawn with (its prompt), [N]; None: each value stands alone.
        level, num_resamples, seed: see `bootstrap_interval`; clusters are redrawn whole.

    Raises:
        AttuneError: a class without a value, or scores that are not finite.

    Source: Mann and Whitney 1947; as an area: Hanley and McNeil 1982.
    """
    score_N, label_N = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=bool)
    if not np.isfinite(score_N).all() or not 0 < label_N.sum() < label_N.size:
        raise AttuneError("two classes are separated by finite scores", field="labels", value=(int(label_N.sum()), label_N.size), allowed="values of both")
    names = list(clusters) if clusters is not None else list(range(score_N.size))
    code = {name: number for number, name in enumerate(dict.fromkeys(names))}
    code_N = np.array([code[name] for name in names])
    upper, lower = np.flatnonzero(label_N), np.flatnonzero(~label_N)
    difference_UD = score_N[upper][:, None] - score_N[lower][None, :]
    right_UD = (difference_UD > 0) + 0.5 * (difference_UD == 0)

    def statistic(drawn_RC: FloatArray) -> FloatArray:
        weight_RU, weight_RD = drawn_RC[:, code_N[upper]], drawn_RC[:, code_N[lower]]
        total_R = weight_RU.sum(-1) * weight_RD.sum(-1)
        value_R: FloatArray = np.einsum("ru,ud,rd->r", weight_RU, right_UD, weight_RD, optimize=True) / np.where(total_R > 0, total_R, np.nan)
        return value_R

    low, high = bootstrap_interval(statistic, len(code), level=level, num_resamples=num_resamples, seed=seed)
    return Estimate(value=float(right_UD.mean()), low=low, high=high, num=score_N.size, level=level, method=f"percentile bootstrap over {len(code)} clusters")
