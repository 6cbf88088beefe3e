"""Strengths from comparisons, by maximum likelihood: Bradley-Terry, Rao-Kupper, Davidson, Plackett-Luce.

Letters: K items, P pairs that were compared. Strengths are in nats: strength_i - strength_j is the log-odds of i over j.
All four likelihoods are concave, so the maximum is unique where it exists; where it does not (an item that never loses, say)
an error says which items and why.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit, log_expit, logsumexp, ndtri

from attune.core.errors import AttuneError
from attune.ops.graphs import strong_components
from attune.ops.intervals import Estimate, FloatArray, IntArray, Result, check_level

Derivatives = tuple[float, FloatArray, FloatArray]
"""Log-likelihood, its gradient and its Hessian."""

PairTerms = tuple[FloatArray, FloatArray, float, FloatArray, FloatArray, float]
"""Log-likelihood [P]; its derivatives by the difference of strengths [P] and by the tie parameter; then the second ones: by the
difference twice [P], by both [P], by the tie parameter twice."""

Terms = Callable[[FloatArray, FloatArray, FloatArray, FloatArray, float], PairTerms]
"""Wins of the first [P], of the second [P], ties [P], difference of strengths [P], tie parameter -> their terms."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RankingFit(Result):
    """Strengths of K items and how well they are known."""

    model: str
    names: tuple[str, ...]
    strength: FloatArray
    # [K], nats, sum 0
    standard_error: FloatArray
    # [K], nats, of the strengths as centred; from the observed information
    covariance: FloatArray
    # [K, K], nats^2
    tie: float | None
    # Rao-Kupper: eta >= 0 in nats; Davidson: nu >= 0; None: the model has no ties of its own
    tie_standard_error: float | None
    # NaN: no tie was seen, so the tie parameter sits on its bound
    log_likelihood: float
    # nats, without the penalty
    num: int
    # comparisons, or rankings, that went in

    def margin(self, first: int, second: int, *, level: float = 0.95) -> Estimate:
        """Returns strength_first - strength_second in nats with its normal interval."""
        check_level(level)
        cov = self.covariance
        value = float(self.strength[first] - self.strength[second])
        error = math.sqrt(max(0.0, float(cov[first, first] + cov[second, second] - 2 * cov[first, second])))
        half = float(ndtri((1 + level) / 2)) * error
        return Estimate(value=value, low=value - half, high=value + half, num=self.num, level=level, method=f"{self.model}, normal")

    def order(self) -> tuple[int, ...]:
        """Returns the items from strongest to weakest."""
        return tuple(int(index) for index in np.argsort(-self.strength, kind="stable"))

    def __str__(self) -> str:
        ranks = [f"{self.names[i]} {self.strength[i]:+.3f} ± {self.standard_error[i]:.3f}" for i in self.order()]
        tie = "" if self.tie is None else f"; tie parameter {self.tie:.3f}"
        return f"{self.model} over {self.num}: {', '.join(ranks)}{tie}"


def bradley_terry(wins: npt.ArrayLike, ties: npt.ArrayLike | None = None, *, l2: float = 0.0, names: Sequence[str] | None = None) -> RankingFit:
    """Fits P(i beats j) = sigmoid(s_i - s_j), a tie counted as half a win for each.

        log L = sum_{i != j} (w_ij + t_ij / 2) log sigmoid(s_i - s_j) - l2 / 2 sum_i s_i^2

    Args:
        wins: w [K, K], how often row beat column.
        ties: t [K, K], symmetric: how often the two were called equal. None: never.
        l2: >= 0; above 0 a finite fit always exists.
        names: of the items, [K]; None: their numbers.

    Raises:
        AttuneError: a table that is not one, or strengths that the comparisons do not bound.

    Source: Bradley and Terry, Biometrika 39 (1952); existence: Ford, American Mathematical Monthly 64 (1957).
    """
    return _fit_pairs("Bradley-Terry", wins, ties, None, l2, names)


def rao_kupper(wins: npt.ArrayLike, ties: npt.ArrayLike, *, l2: float = 0.0, names: Sequence[str] | None = None) -> RankingFit:
    """Fits a threshold below which a difference is called a tie.

        P(i beats j) = sigmoid(s_i - s_j - eta),   P(tie) = (e^{2 eta} - 1) sigmoid(s_i - s_j - eta) sigmoid(s_j - s_i - eta)

    Without a tie eta is 0 and the fit is Bradley and Terry's.

    Args:
        wins, ties, l2, names: see `bradley_terry`; the penalty leaves eta alone.

    Raises:
        AttuneError: as `bradley_terry`, or ties so many that eta has no bound.

    Source: Rao and Kupper, JASA 62 (1967); their theta is e^eta.
    """
    return _fit_pairs("Rao-Kupper", wins, ties, _rao_kupper_terms, l2, names)


def davidson(wins: npt.ArrayLike, ties: npt.ArrayLike, *, l2: float = 0.0, names: Sequence[str] | None = None) -> RankingFit:
    """Fits ties that are likeliest between equals.

        P(i beats j) : P(j beats i) : P(tie) = e^{s_i} : e^{s_j} : nu e^{(s_i + s_j) / 2}

    Without a tie nu is 0 and the fit is Bradley and Terry's.

    Args:
        wins, ties, l2, names: see `bradley_terry`; the penalty leaves nu alone.

    Raises:
        AttuneError: as `bradley_terry`, or ties so many that nu has no bound.

    Source: Davidson, JASA 65 (1970).
    """
    return _fit_pairs("Davidson", wins, ties, _davidson_terms, l2, names)


def plackett_luce(
    rankings: Sequence[Sequence[int]], num_items: int, *, counts: npt.ArrayLike | None = None, l2: float = 0.0, names: Sequence[str] | None = None
) -> RankingFit:
    """Fits rankings as choices of the best of what is left.

        log L = sum_r c_r sum_k (s_{r_k} - logsumexp_{l >= k} s_{r_l}) - l2 / 2 sum_i s_i^2

    Args:
        rankings: items from best to worst, each at least two different of 0 ... K - 1; what is not named was not compared.
        num_items: K.
        counts: c, how often each ranking occurred. None: once.
        l2: >= 0; above 0 a finite fit always exists.
        names: of the items, [K]; None: their numbers.

    Raises:
        AttuneError: a ranking that is not one, or strengths that the rankings do not bound.

    Source: Plackett, Applied Statistics 24 (1975); existence: Hunter, Annals of Statistics 32 (2004), assumption 1.
    """
    count_R = np.ones(len(rankings)) if counts is None else np.asarray(counts, dtype=np.float64)
    if count_R.shape != (len(rankings),) or not (np.isfinite(count_R).all() and (count_R >= 0).all() and count_R.sum() > 0):
        raise AttuneError("each ranking has a count", field="counts", value=count_R.shape, allowed=f"{len(rankings)} numbers >= 0, not all 0")
    by_length: dict[int, list[int]] = {}
    for index, ranking in enumerate(rankings):
        if len(ranking) < 2 or len(set(ranking)) != len(ranking) or not all(0 <= item < num_items for item in ranking):
            raise AttuneError(
                "a ranking orders different items", field=f"rankings[{index}]", value=list(ranking), allowed=f"at least two of 0 to {num_items - 1}"
            )
        by_length.setdefault(len(ranking), []).append(index)
    blocks = [(np.array([rankings[i] for i in members], dtype=np.int64), count_R[members]) for members in by_length.values()]
    beats_KK = np.zeros((num_items, num_items))
    for order_RL, count in blocks:
        for place in range(order_RL.shape[1] - 1):
            np.add.at(beats_KK, (order_RL[:, place], order_RL[:, place + 1]), count)
    labels = _names(names, num_items)
    if l2 == 0:
        _check_bounded(beats_KK > 0, labels)

    def evaluate(x: FloatArray) -> Derivatives:
        total, gradient, hessian = 0.0, np.zeros(num_items), np.zeros((num_items, num_items))
        for order_RL, count in blocks:
            total += _add_choices(x, order_RL, count, gradient, hessian)
        return total, gradient, hessian

    fit, covariance = _maximise(evaluate, np.zeros(num_items), num_items, l2)
    return _result("Plackett-Luce", labels, fit, covariance, None, None, evaluate(fit)[0], round(float(count_R.sum())))


def _fit_pairs(model: str, wins: npt.ArrayLike, ties: npt.ArrayLike | None, terms: Terms | None, l2: float, names: Sequence[str] | None) -> RankingFit:
    wins_KK, ties_KK = _tables(wins, ties)
    k, num = len(wins_KK), _num(wins_KK, ties_KK)
    labels = _names(names, k)
    if terms is None:
        wins_KK, ties_KK = wins_KK + ties_KK / 2, np.zeros_like(ties_KK)
    has_ties = bool(ties_KK.any())
    if l2 == 0:
        _check_bounded(wins_KK + ties_KK > 0, labels)
    if has_ties:
        _check_tie_bounded(wins_KK, ties_KK, penalised=l2 > 0)
    i_P, j_P = np.nonzero(np.triu(wins_KK + wins_KK.T + ties_KK, 1))
    w_P, v_P, t_P = wins_KK[i_P, j_P], wins_KK[j_P, i_P], ties_KK[i_P, j_P]

    def evaluate(x: FloatArray) -> Derivatives:
        d_P = x[i_P] - x[j_P]
        if terms is not None and has_ties:
            return _assemble(terms(w_P, v_P, t_P, d_P, float(x[k])), i_P, j_P, k, has_ties)
        # without a tie both tie models are Bradley and Terry's, at the bound of their tie parameter
        return _assemble(_bradley_terry_terms(w_P, v_P, d_P), i_P, j_P, k, has_ties)

    fit, covariance = _maximise(evaluate, np.concatenate([np.zeros(k), [1.0] * has_ties]), k, l2)
    tie, tie_error = None, None
    if terms is not None:
        tie, tie_error = (float(fit[k]), math.sqrt(covariance[k, k])) if has_ties else (0.0, math.nan)
    if terms is _davidson_terms and has_ties:
        tie = math.exp(fit[k])
        tie_error = tie * math.sqrt(covariance[k, k])
    return _result(model, labels, fit[:k], covariance[:k, :k], tie, tie_error, evaluate(fit)[0], num)


def _assemble(terms: PairTerms, i_P: IntArray, j_P: IntArray, k: int, has_ties: bool) -> Derivatives:
    value_P, d1_P, tie1, d2_P, mixed_P, tie2 = terms
    gradient, hessian = np.zeros(k + has_ties), np.zeros((k + has_ties, k + has_ties))
    np.add.at(gradient, i_P, d1_P)
    np.add.at(gradient, j_P, -d1_P)
    for a, b, sign in ((i_P, i_P, 1), (j_P, j_P, 1), (i_P, j_P, -1), (j_P, i_P, -1)):
        np.add.at(hessian, (a, b), sign * d2_P)
    if has_ties:
        gradient[k], hessian[k, k] = tie1, tie2
        np.add.at(hessian[k], i_P, mixed_P)
        np.add.at(hessian[k], j_P, -mixed_P)
        hessian[:k, k] = hessian[k, :k]
    return float(value_P.sum()), gradient, hessian


def _bradley_terry_terms(w_P: FloatArray, v_P: FloatArray, d_P: FloatArray) -> PairTerms:
    p_P, num_P = expit(d_P), w_P + v_P
    value_P = w_P * log_expit(d_P) + v_P * log_expit(-d_P)
    return value_P, w_P - num_P * p_P, 0.0, -num_P * p_P * (1 - p_P), np.zeros_like(d_P), 0.0


def _rao_kupper_terms(w_P: FloatArray, v_P: FloatArray, t_P: FloatArray, d_P: FloatArray, eta: float) -> PairTerms:
    if eta <= 0:  # outside the domain: the likelihood of a tie is 0, and the search turns back
        return np.full_like(d_P, -np.inf), d_P, 0.0, d_P, d_P, 0.0
    # P(tie) is a product of both sigmoids, so a tie adds a count to each side and a term in eta alone
    a_P, b_P = w_P + t_P, v_P + t_P
    p_P, q_P = expit(d_P - eta), expit(-d_P - eta)
    value_P = a_P * log_expit(d_P - eta) + b_P * log_expit(-d_P - eta) + t_P * (2 * eta + np.log(-np.expm1(-2 * eta)))
    up_P, down_P = a_P * (1 - p_P), b_P * (1 - q_P)
    curve_up_P, curve_down_P = a_P * p_P * (1 - p_P), b_P * q_P * (1 - q_P)
    rest, num_ties = -math.expm1(-2 * eta), float(t_P.sum())
    tie1 = num_ties * 2 / rest - float((up_P + down_P).sum())
    tie2 = -num_ties * 4 * math.exp(-2 * eta) / rest**2 - float((curve_up_P + curve_down_P).sum())
    return value_P, up_P - down_P, tie1, -curve_up_P - curve_down_P, curve_up_P - curve_down_P, tie2


def _davidson_terms(w_P: FloatArray, v_P: FloatArray, t_P: FloatArray, d_P: FloatArray, log_nu: float) -> PairTerms:
    num_P = w_P + v_P + t_P
    utility_3P = np.stack([d_P / 2, -d_P / 2, np.full_like(d_P, log_nu)])
    norm_P = logsumexp(utility_3P, axis=0)
    win_P, lose_P, tie_P = np.exp(utility_3P - norm_P)
    lead_P = win_P - lose_P
    value_P = (w_P - v_P) * d_P / 2 + t_P * log_nu - num_P * norm_P
    d2_P = -num_P * (win_P + lose_P - lead_P**2) / 4
    tie1, tie2 = float((t_P - num_P * tie_P).sum()), -float((num_P * tie_P * (1 - tie_P)).sum())
    return value_P, (w_P - v_P - num_P * lead_P) / 2, tie1, d2_P, num_P * lead_P * tie_P / 2, tie2


def _add_choices(x: FloatArray, order_RL: IntArray, count_R: FloatArray, gradient: FloatArray, hessian: FloatArray) -> float:
    strength_RL = x[order_RL]
    norm_RL = np.logaddexp.accumulate(strength_RL[:, ::-1], axis=1)[:, ::-1]
    length = order_RL.shape[1]
    chance_RLL = np.exp(np.where(np.tri(length, dtype=bool).T, strength_RL[:, None, :] - norm_RL[:, :, None], -np.inf))
    np.add.at(gradient, order_RL, count_R[:, None] * (1 - chance_RLL.sum(axis=1)))
    curve_RLL = chance_RLL.transpose(0, 2, 1) @ chance_RLL
    curve_RLL[:, range(length), range(length)] -= chance_RLL.sum(axis=1)
    np.add.at(hessian, (order_RL[:, :, None], order_RL[:, None, :]), count_R[:, None, None] * curve_RLL)
    return float(count_R @ (strength_RL - norm_RL).sum(axis=1))


def _maximise(evaluate: Callable[[FloatArray], Derivatives], start: FloatArray, num_items: int, l2: float) -> tuple[FloatArray, FloatArray]:
    """Newton's method with step halving; returns the maximum and the covariance of the parameters, strengths centred."""
    if not (math.isfinite(l2) and l2 >= 0):
        raise AttuneError("the penalty is a number", field="l2", value=l2, allowed="at least 0")
    is_item = np.arange(len(start)) < num_items
    shift = np.outer(is_item, is_item) / num_items  # strengths are known up to a shift: this holds their sum at 0

    def penalised(x: FloatArray) -> Derivatives:
        value, gradient, hessian = evaluate(x)
        return value - l2 / 2 * float(np.square(x[is_item]).sum()), gradient - l2 * x * is_item, hessian - l2 * np.diag(is_item)

    x, (value, gradient, hessian) = start, penalised(start)
    for _ in range(200):
        step = np.linalg.solve(shift - hessian, gradient)
        gain = float(gradient @ step)
        if gain < 1e-14 * (1 + abs(value)):
            # rounding hides any further gain, but one more whole step still halves the digits that are wrong
            x = x + step
            information = shift - penalised(x)[2]
            return x, np.linalg.inv(information) - shift / (1 + l2)
        size = 1.0
        while penalised(x + size * step)[0] < value + size * gain / 4:
            size /= 2
        x = x + size * step
        value, gradient, hessian = penalised(x)
    raise AttuneError("the strengths have not settled after 200 steps", mend="give l2 > 0")


def _check_bounded(beats_KK: npt.NDArray[np.bool_], names: tuple[str, ...]) -> None:
    edges = [(int(i), int(j)) for i, j in np.argwhere(beats_KK)]
    sets = strong_components(edges, range(len(names)))
    if len(sets) < 2:
        return
    mend = "leave such items out, compare more, or give l2 > 0"
    for members in sets:
        inside = np.isin(np.arange(len(names)), members)
        to_rest, from_rest = beats_KK[inside][:, ~inside].any(), beats_KK[~inside][:, inside].any()
        if to_rest and from_rest:
            continue
        said = "never loses to" if to_rest else "never beats" if from_rest else "was never compared with"
        shown = ", ".join(names[i] for i in members[:5]) + (", ..." if len(members) > 5 else "")
        raise AttuneError(f"no finite strengths fit: {{{shown}}} {said} any of the other {len(names) - len(members)} items", field="wins", mend=mend)


def _check_tie_bounded(wins_KK: FloatArray, ties_KK: FloatArray, *, penalised: bool) -> None:
    """Raises where the tie parameter has no finite best value.

    That is where some ladder has every winner a rung or more above its loser and no two that tied more than a rung apart: rungs and
    tie parameter can then grow together for ever. As difference constraints: s_i - s_j >= 1 for a win, >= -1 (both ways) for a tie;
    they have a solution unless some cycle holds more wins than ties. A penalty on the strengths stops the growth if there is a win.
    """
    mend = "fit bradley_terry, which counts a tie as half"
    if not wins_KK.any():
        raise AttuneError("no tie parameter fits: there are only ties", field="wins", mend=mend)
    if penalised:
        return
    least_KK = np.where(wins_KK > 0, 1.0, np.where(ties_KK > 0, -1.0, -np.inf))
    level_K = np.zeros(len(wins_KK))
    for _ in range(len(wins_KK)):
        raised_K = np.maximum(level_K, (least_KK + level_K[None, :]).max(axis=1))
        if np.array_equal(raised_K, level_K):
            raise AttuneError(
                "no finite tie parameter fits: a ladder explains every win and every tie, however far apart its rungs are", field="ties", mend=mend
            )
        level_K = raised_K


def _result(
    model: str, names: tuple[str, ...], x: FloatArray, covariance: FloatArray, tie: float | None, tie_error: float | None, value: float, num: int
) -> RankingFit:
    return RankingFit(
        model=model,
        names=names,
        strength=x - x.mean(),
        standard_error=np.sqrt(np.maximum(0.0, np.diag(covariance))),
        covariance=covariance,
        tie=tie,
        tie_standard_error=tie_error,
        log_likelihood=value,
        num=num,
    )


def _tables(wins: npt.ArrayLike, ties: npt.ArrayLike | None) -> tuple[FloatArray, FloatArray]:
    wins_KK = np.asarray(wins, dtype=np.float64)
    ties_KK = np.zeros_like(wins_KK) if ties is None else np.asarray(ties, dtype=np.float64)
    for field, table in (("wins", wins_KK), ("ties", ties_KK)):
        if table.ndim != 2 or table.shape != wins_KK.T.shape or not (np.isfinite(table).all() and (table >= 0).all()) or np.diag(table).any():
            raise AttuneError("comparisons are a square table of counts", field=field, value=table.shape, allowed="[K, K], numbers >= 0, diagonal 0")
    if not np.array_equal(ties_KK, ties_KK.T):
        raise AttuneError("a tie is a tie both ways", field="ties", allowed="a symmetric table")
    if _num(wins_KK, ties_KK) == 0:
        raise AttuneError("strengths need a comparison", field="wins", value=wins_KK.shape, allowed="at least one win or tie")
    return wins_KK, ties_KK


def _num(wins_KK: FloatArray, ties_KK: FloatArray) -> int:
    return round(float(wins_KK.sum() + ties_KK.sum() / 2))


def _names(names: Sequence[str] | None, num: int) -> tuple[str, ...]:
    if names is not None and len(names) != num:
        raise AttuneError("one name an item", field="names", value=len(names), allowed=str(num))
    return tuple(map(str, range(num))) if names is None else tuple(names)
