"""Estimates with intervals: the cluster bootstrap (percentile and BCa), Wilson and Clopper-Pearson.

Letters: N values, C clusters (the units that were drawn independently, e.g. prompts), R resamples.

An end of an interval that the data cannot tell is NaN: one cluster, or clusters that all say the same, hold no information on
their spread. Comparisons with NaN are false, so `estimate.low > 0.5` never passes by accident.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv, ndtr, ndtri

from attune.core.errors import AttuneError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

Statistic = Callable[[FloatArray], FloatArray]
"""Weights of the clusters [R, C] -> value of each resample [R]; a cluster drawn twice has weight 2."""

UNKNOWN = (math.nan, math.nan)
"""An interval about which the data say nothing."""

NUM_RESAMPLES = 2000
_CELLS = 4_000_000  # weights held at once while resampling (32 MB)
_DEFINED = 0.95  # least share of resamples on which a statistic must be defined


class Result:
    """Base of everything a statistic returns: a frozen dataclass that turns into JSON."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON types; a number that is not finite becomes None."""
        return {str(key): value for key, value in _plain(self).items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate(Result):
    """A number and how far the data can be trusted on it."""

    value: float
    # NaN: undefined on these data (e.g. agreement beyond chance where only one label occurs)
    low: float
    high: float
    # ends of the interval; NaN: unknown
    num: int
    # how many observations went in
    level: float = 0.95
    # share of such intervals that hold the true value
    method: str

    def __str__(self) -> str:
        ends = "interval unknown" if math.isnan(self.low) else f"{show(self.low)}, {show(self.high)}"
        return f"{show(self.value)} [{ends}], n = {self.num}"


def show(value: float) -> str:
    """Returns a number with as many decimals as a person wants to read."""
    if math.isnan(value):
        return "undefined"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def bootstrap_interval(
    statistic: Statistic,
    num_clusters: int,
    *,
    strata: npt.ArrayLike | None = None,
    method: Literal["percentile", "bca"] = "percentile",
    level: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """Returns the interval of a statistic under resampling of whole clusters.

        percentile: quantiles alpha/2 and 1 - alpha/2 of the resampled values
        BCa: quantiles Phi(z0 + (z0 + z) / (1 - a (z0 + z))) for z = z_{alpha/2}, z_{1 - alpha/2}

    where z0 is the normal quantile of the share of resamples below the statistic and a its jackknife skewness
    sum d^3 / (6 (sum d^2)^{3/2}).

    Args:
        statistic: weights [R, C] -> values [R]; NaN where it is undefined.
        num_clusters: C, at least 1.
        strata: label of each cluster [C]; clusters are redrawn within their stratum. None: one stratum.
        method: BCa costs C more evaluations and takes no strata.
        level: in (0, 1).
        num_resamples: R.
        seed: of the draws; the same seed gives the same interval to the last bit.

    Returns:
        (low, high); NaN where the resamples do not vary, or over 5 % of them are undefined.

    Raises:
        AttuneError: level, R or C out of range, or BCa with strata.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), sections 13.3 and 14.3.
    """
    check_level(level)
    if num_resamples < 1 or num_clusters < 1:
        raise AttuneError("a bootstrap draws from something", field="num_resamples, num_clusters", value=(num_resamples, num_clusters), allowed="at least 1")
    if method == "bca" and strata is not None:
        raise AttuneError("the BCa interval is defined for one sample", field="strata", allowed="None, or method 'percentile'")
    value_R = np.concatenate([statistic(weight_RC) for weight_RC in _resamples(num_clusters, strata, num_resamples, seed)])
    defined = value_R[np.isfinite(value_R)]
    if defined.size < _DEFINED * num_resamples or np.ptp(defined) <= 1e-12 * max(1.0, float(np.abs(defined).max())):
        return UNKNOWN
    shares = np.array([(1 - level) / 2, (1 + level) / 2])
    if method == "bca":
        shares = _bca_shares(statistic, num_clusters, defined, shares)
    if not np.isfinite(shares).all():
        return UNKNOWN
    low, high = np.quantile(defined, shares)
    return float(low), float(high)


def mean_estimate(
    values: npt.ArrayLike,
    *,
    clusters: Sequence[Hashable] | None = None,
    strata: Sequence[Hashable] | None = None,
    weights: npt.ArrayLike | None = None,
    method: Literal["percentile", "bca"] = "percentile",
    level: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Returns a weighted mean, with the interval of the bootstrap over clusters.

        sum_i w_i v_i / sum_i w_i

    Args:
        values: [N], any unit, finite.
        clusters: what each value was drawn with (its prompt), [N]; None: each value stands alone.
        strata: label of each value, the same within a cluster; clusters are redrawn within their stratum.
        weights: [N], >= 0, not all 0. None: 1.
        method, level, num_resamples, seed: see `bootstrap_interval`.

    Raises:
        AttuneError: no value, a value that is not finite, lengths that differ, or a cluster in two strata.
    """
    value_N, code_N, weight_N, num_clusters = _checked(values, clusters, weights)
    stratum_C = None if strata is None else _strata_of_clusters(code_N, strata)
    total_C = np.bincount(code_N, weights=weight_N * value_N, minlength=num_clusters)
    weight_C = np.bincount(code_N, weights=weight_N, minlength=num_clusters)

    def statistic(drawn_RC: FloatArray) -> FloatArray:
        weight_R = drawn_RC @ weight_C
        return divided(drawn_RC @ total_C, weight_R, weight_R > 0)

    low, high = bootstrap_interval(statistic, num_clusters, strata=stratum_C, method=method, level=level, num_resamples=num_resamples, seed=seed)
    value = float(total_C.sum() / weight_C.sum())
    return Estimate(value=value, low=low, high=high, num=value_N.size, level=level, method=f"{method} bootstrap over {num_clusters} clusters")


def share_estimate(
    values: npt.ArrayLike,
    *,
    clusters: Sequence[Hashable] | None = None,
    strata: Sequence[Hashable] | None = None,
    weights: npt.ArrayLike | None = None,
    level: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Returns the mean of values in [0, 1], with an interval even where all clusters agree.

    Where the bootstrap sees no spread (all right, all wrong, all tied, or one cluster) its interval would be a point. There the Wilson interval
    of as many independent observations as the clusters are worth, (sum w)^2 / sum w^2, takes over; a value in [0, 1] has at
    most the variance of a 0/1 value of the same mean, so it errs on the wide side.

    Args:
        values: [N], in [0, 1]: 1 right or won, 0.5 tied, 0 wrong or lost.
        clusters, strata, weights, level, num_resamples, seed: see `mean_estimate`.

    Raises:
        AttuneError: as `mean_estimate`, or a value outside [0, 1].
    """
    value_N = np.asarray(values, dtype=np.float64)
    outside = value_N[(value_N < 0) | (value_N > 1)]
    if outside.size:
        raise AttuneError("a share is made of values in [0, 1]", field="values", value=float(outside[0]), allowed="0 to 1")
    estimate = mean_estimate(value_N, clusters=clusters, strata=strata, weights=weights, level=level, num_resamples=num_resamples, seed=seed)
    if not math.isnan(estimate.low):
        return estimate
    _, code_N, weight_N, num_clusters = _checked(value_N, clusters, weights)
    weight_C = np.bincount(code_N, weights=weight_N, minlength=num_clusters)
    worth = float(weight_C.sum() ** 2 / np.square(weight_C).sum())
    low, high = wilson_interval(estimate.value * worth, worth, level=level)
    return Estimate(value=estimate.value, low=low, high=high, num=estimate.num, level=level, method=f"Wilson, {worth:.4g} independent clusters")


def wilson(num_successes: int, num: int, *, level: float = 0.95) -> Estimate:
    """Returns a share with its Wilson score interval (see `wilson_interval`)."""
    _check_counts(num_successes, num)
    low, high = wilson_interval(num_successes, num, level=level)
    return Estimate(value=num_successes / num, low=low, high=high, num=num, level=level, method="Wilson")


def wilson_interval(num_successes: float, num: float, *, level: float = 0.95) -> tuple[float, float]:
    """Returns the Wilson score interval of a share.

        (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n),   p = k/n

    Args:
        num_successes: k, 0 to n; may be fractional (ties counted as half, effective counts).
        num: n > 0.
        level: in (0, 1).

    Raises:
        AttuneError: k, n or level out of range.

    Source: Wilson, JASA 22 (1927).
    """
    check_level(level)
    _check_counts(num_successes, num)
    z, p = float(ndtri((1 + level) / 2)), num_successes / num
    centre = p + z * z / (2 * num)
    half = z * math.sqrt(p * (1 - p) / num + z * z / (4 * num * num))
    scale = 1 + z * z / num
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def clopper_pearson(num_successes: int, num: int, *, level: float = 0.95) -> Estimate:
    """Returns a share with its exact interval: quantiles of Beta(k, n - k + 1) and Beta(k + 1, n - k).

    Args:
        num_successes: k, 0 to n.
        num: n > 0.
        level: in (0, 1); the interval holds the true share at least that often.

    Raises:
        AttuneError: k, n or level out of range.

    Source: Clopper and Pearson, Biometrika 26 (1934).
    """
    check_level(level)
    _check_counts(num_successes, num)
    k, alpha = num_successes, 1 - level
    low = float(betaincinv(k, num - k + 1, alpha / 2)) if k else 0.0
    high = float(betaincinv(k + 1, num - k, 1 - alpha / 2)) if k < num else 1.0
    return Estimate(value=k / num, low=low, high=high, num=num, level=level, method="Clopper-Pearson")


def divided(numerator: FloatArray, denominator: FloatArray, where: npt.NDArray[np.bool_]) -> FloatArray:
    """Returns numerator / denominator, and NaN elsewhere."""
    ratio = np.full(denominator.shape, np.nan)
    np.divide(numerator, denominator, out=ratio, where=where)
    return ratio


def check_level(level: float) -> None:
    """Raises AttuneError unless `level` is a share strictly between 0 and 1."""
    if not 0 < level < 1:
        raise AttuneError("the level of an interval is a share", field="level", value=level, allowed="above 0, below 1")


def _resamples(num_clusters: int, strata: npt.ArrayLike | None, num_resamples: int, seed: int) -> Iterator[FloatArray]:
    stratum_C = np.zeros(num_clusters, dtype=np.int64) if strata is None else np.unique(np.asarray(strata), return_inverse=True)[1]
    members = [np.flatnonzero(stratum_C == stratum) for stratum in range(int(stratum_C.max()) + 1)]
    rng = np.random.default_rng(seed)
    rows = max(1, _CELLS // num_clusters)
    for start in range(0, num_resamples, rows):
        num = min(rows, num_resamples - start)
        weight_RC = np.empty((num, num_clusters))
        for member in members:
            drawn = rng.integers(member.size, size=(num, member.size)) + member.size * np.arange(num)[:, None]
            weight_RC[:, member] = np.bincount(drawn.ravel(), minlength=num * member.size).reshape(num, member.size)
        yield weight_RC


def _bca_shares(statistic: Statistic, num_clusters: int, value_R: FloatArray, shares: FloatArray) -> FloatArray:
    centre = statistic(np.ones((1, num_clusters)))[0]
    below = float(np.mean(value_R < centre) + np.mean(value_R == centre) / 2)
    rows = max(1, _CELLS // num_clusters)
    left_out = [np.arange(start, min(start + rows, num_clusters)) for start in range(0, num_clusters, rows)]
    jackknife_C = np.concatenate([statistic((np.arange(num_clusters) != some[:, None]).astype(np.float64)) for some in left_out])
    if not np.isfinite(jackknife_C).all() or not 0 < below < 1:
        return np.full(2, np.nan)
    d = jackknife_C.mean() - jackknife_C
    skew = (d**3).sum() / (6 * (d**2).sum() ** 1.5)
    z0 = ndtri(below)
    z = z0 + ndtri(shares)
    return np.asarray(ndtr(z0 + z / (1 - skew * z)))


def _checked(values: npt.ArrayLike, clusters: Sequence[Hashable] | None, weights: npt.ArrayLike | None) -> tuple[FloatArray, IntArray, FloatArray, int]:
    value_N = np.asarray(values, dtype=np.float64)
    if value_N.ndim != 1 or not value_N.size:
        raise AttuneError("an estimate needs at least one value", field="values", value=value_N.shape, allowed="a list of numbers")
    if not np.isfinite(value_N).all():
        raise AttuneError(
            "a value is not finite", field="values", value=float(value_N[~np.isfinite(value_N)][0]), allowed="finite numbers; leave out what is missing"
        )
    weight_N = np.ones(value_N.size) if weights is None else np.asarray(weights, dtype=np.float64)
    if weight_N.shape != value_N.shape or not (np.isfinite(weight_N).all() and weight_N.min() >= 0 and weight_N.sum() > 0):
        raise AttuneError("one weight a value", field="weights", value=weight_N.shape, allowed=f"{value_N.size} numbers >= 0, not all 0")
    if clusters is None:
        return value_N, np.arange(value_N.size), weight_N, value_N.size
    if len(clusters) != value_N.size:
        raise AttuneError("one cluster a value", field="clusters", value=len(clusters), allowed=str(value_N.size))
    codes: dict[Hashable, int] = {}
    code_N = np.array([codes.setdefault(cluster, len(codes)) for cluster in clusters], dtype=np.int64)
    return value_N, code_N, weight_N, len(codes)


def _strata_of_clusters(code_N: IntArray, strata: Sequence[Hashable]) -> IntArray:
    if len(strata) != code_N.size:
        raise AttuneError("one stratum a value", field="strata", value=len(strata), allowed=str(code_N.size))
    names: dict[Hashable, int] = {}
    of_cluster: dict[int, int] = {}
    for code, stratum in zip(code_N.tolist(), strata, strict=True):
        number = names.setdefault(stratum, len(names))
        if of_cluster.setdefault(code, number) != number:
            raise AttuneError("a cluster lies in one stratum", field="strata", value=stratum)
    return np.array([of_cluster[code] for code in range(len(of_cluster))], dtype=np.int64)


def _check_counts(num_successes: float, num: float) -> None:
    if not (num > 0 and 0 <= num_successes <= num):
        raise AttuneError(
            "a share counts some out of all", field="num_successes, num", value=(num_successes, num), allowed="0 <= num_successes <= num, num > 0"
        )


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
