"""Ranking models against choix, evalica, closed forms and a generic optimiser."""

from __future__ import annotations

import json
import math

import choix
import evalica
import numpy as np
import pytest
from scipy.optimize import linprog, minimize
from scipy.special import expit, logit

from attune.core.errors import AttuneError
from attune.ops.ranking_models import bradley_terry, davidson, plackett_luce, rao_kupper


def tables(num: int, seed: int, ties: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    strength = rng.normal(size=num)
    wins, tied = np.zeros((num, num), dtype=int), np.zeros((num, num), dtype=int)
    for i in range(num):
        for j in range(i + 1, num):
            equal, played = rng.binomial(12, ties), 12
            won = rng.binomial(played - equal, expit(strength[i] - strength[j]))
            wins[i, j], wins[j, i], tied[i, j], tied[j, i] = won, played - equal - won, equal, equal
    return wins, tied


def as_pairs(wins: np.ndarray) -> list[tuple[int, int]]:
    return [(i, j) for i, j in np.argwhere(wins).tolist() for _ in range(wins[i, j])]


@pytest.mark.parametrize("l2", [0.0, 0.5])
def test_bradley_terry_equals_choix(l2: float) -> None:
    wins, _ = tables(6, seed=0)
    theirs = choix.opt_pairwise(6, as_pairs(wins), alpha=l2 / 2, method="Newton-CG", tol=1e-12)
    fit = bradley_terry(wins, l2=l2)
    assert fit.strength == pytest.approx(theirs - theirs.mean(), abs=1e-6)
    assert fit.log_likelihood == pytest.approx(choix.log_likelihood_pairwise(as_pairs(wins), fit.strength), abs=1e-9)
    assert fit.num == wins.sum()


def test_bradley_terry_with_ties_equals_evalica() -> None:
    wins, ties = tables(5, seed=1, ties=0.3)
    rows = [(i, j, evalica.Winner.X) for i, j in as_pairs(wins)] + [(i, j, evalica.Winner.Draw) for i, j in as_pairs(np.triu(ties))]
    xs, ys, winners = zip(*rows, strict=True)
    scores = evalica.bradley_terry(xs, ys, winners, tie_weight=0.5, tolerance=1e-14, limit=100_000).scores
    theirs = np.log([scores[i] for i in range(5)])
    assert bradley_terry(wins, ties).strength == pytest.approx(theirs - theirs.mean(), abs=1e-5)


def test_two_items_by_hand() -> None:
    wins, ties = [[0, 50], [30, 0]], [[0, 20], [20, 0]]
    plain, kupper, david = bradley_terry(wins, ties), rao_kupper(wins, ties), davidson(wins, ties)
    assert plain.margin(0, 1).value == pytest.approx(logit(0.6))
    error = 1 / math.sqrt(100 * 0.6 * 0.4)
    assert plain.standard_error == pytest.approx([error / 2, error / 2])
    assert plain.margin(0, 1).high == pytest.approx(logit(0.6) + 1.959964 * error, abs=1e-6)
    # two shares and two parameters: the models meet the shares exactly
    assert kupper.margin(0, 1).value == pytest.approx((logit(0.5) - logit(0.3)) / 2)
    assert kupper.tie == pytest.approx(-(logit(0.5) + logit(0.3)) / 2)
    assert david.margin(0, 1).value == pytest.approx(math.log(50 / 30))
    assert david.tie == pytest.approx(20 / math.sqrt(50 * 30))
    # log nu = log n_tie - (log n_1 + log n_2) / 2 of a multinomial: variance 1/20 + 1/200 + 1/120
    assert david.tie_standard_error == pytest.approx(david.tie * math.sqrt(1 / 20 + 1 / 200 + 1 / 120))
    for fit in (kupper, david):
        assert fit.log_likelihood == pytest.approx(50 * math.log(0.5) + 30 * math.log(0.3) + 20 * math.log(0.2))


def chances(model: str, d: np.ndarray, tie: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if model == "rao_kupper":
        win, lose = expit(d - tie), expit(-d - tie)
        return win, lose, 1 - win - lose
    weights = np.stack([np.exp(d / 2), np.exp(-d / 2), np.full_like(d, tie)])
    return tuple(weights / weights.sum(axis=0))


@pytest.mark.parametrize(("model", "fit_model"), [("rao_kupper", rao_kupper), ("davidson", davidson)])
def test_tie_models_equal_a_generic_optimiser(model: str, fit_model) -> None:
    wins, ties = tables(4, seed=5, ties=0.25)
    i, j = np.triu_indices(4, 1)

    def loss(x: np.ndarray) -> float:
        s = np.append(x[:3], -x[:3].sum())
        win, lose, tie = chances(model, s[i] - s[j], math.exp(x[3]))
        return -float(wins[i, j] @ np.log(win) + wins[j, i] @ np.log(lose) + ties[i, j] @ np.log(tie))

    found = minimize(loss, np.zeros(4), method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-12, "maxiter": 20_000, "maxfev": 20_000})
    fit = fit_model(wins, ties)
    assert fit.log_likelihood == pytest.approx(-found.fun, abs=1e-8)
    assert fit.strength[:3] == pytest.approx(found.x[:3], abs=1e-5)
    assert fit.tie == pytest.approx(math.exp(found.x[3]), abs=1e-5)
    # the covariance is the inverse of a numerical Hessian at the maximum
    best, h = np.append(fit.strength[:3], math.log(fit.tie)), 1e-4
    steps = np.eye(4) * h
    hessian = [[(loss(best + a + b) - loss(best + a - b) - loss(best - a + b) + loss(best - a - b)) / (4 * h * h) for a in steps] for b in steps]
    inverse = np.linalg.inv(hessian)
    assert fit.standard_error[:3] == pytest.approx(np.sqrt(np.diag(inverse)[:3]), rel=1e-4)
    assert fit.tie_standard_error == pytest.approx(fit.tie * math.sqrt(inverse[3, 3]), rel=1e-4)


@pytest.mark.parametrize("fit_model", [rao_kupper, davidson])
def test_without_ties_both_tie_models_are_bradley_terry(fit_model) -> None:
    wins, ties = tables(5, seed=2)
    fit = fit_model(wins, ties)
    assert fit.tie == 0.0
    assert math.isnan(fit.tie_standard_error)
    assert fit.strength == pytest.approx(bradley_terry(wins).strength, abs=1e-12)


def test_plackett_luce_equals_choix_on_mixed_lengths() -> None:
    rng = np.random.default_rng(0)
    rankings = [rng.permutation(6)[: rng.integers(2, 6)].tolist() for _ in range(80)]
    theirs = choix.opt_rankings(6, rankings, alpha=0.0, method="Newton-CG", tol=1e-12)
    fit = plackett_luce(rankings, 6)
    assert fit.strength == pytest.approx(theirs - theirs.mean(), abs=1e-6)
    assert fit.log_likelihood == pytest.approx(choix.log_likelihood_rankings(rankings, fit.strength), abs=1e-9)


def test_plackett_luce_of_pairs_is_bradley_terry() -> None:
    wins, _ = tables(4, seed=3)
    one, other = plackett_luce(as_pairs(wins), 4), bradley_terry(wins)
    assert one.strength == pytest.approx(other.strength, abs=1e-10)
    assert one.covariance == pytest.approx(other.covariance, abs=1e-10)


def test_counts_stand_for_repetition() -> None:
    rankings, counts = [[0, 1, 2], [2, 0, 1], [1, 2, 0]], [3, 1, 2]
    one = plackett_luce(rankings, 3, counts=counts)
    other = plackett_luce([r for r, c in zip(rankings, counts, strict=True) for _ in range(c)], 3)
    assert one.strength == pytest.approx(other.strength, abs=1e-12)
    assert one.num == other.num == 6


def test_standard_errors_are_the_spread_of_repeated_studies() -> None:
    truth, rng, num = np.array([0.8, 0.1, -0.9]), np.random.default_rng(0), 200
    found = []
    for _ in range(num):
        wins = np.zeros((3, 3))
        for i, j in ((0, 1), (0, 2), (1, 2)):
            wins[i, j] = rng.binomial(60, expit(truth[i] - truth[j]))
            wins[j, i] = 60 - wins[i, j]
        found.append(bradley_terry(wins))
    spread = np.std([fit.strength for fit in found], axis=0)
    assert spread == pytest.approx(np.mean([fit.standard_error for fit in found], axis=0), rel=0.15)
    assert np.mean([fit.strength for fit in found], axis=0) == pytest.approx(truth, abs=0.05)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: bradley_terry([[0, 3, 1], [0, 0, 2], [0, 1, 0]], names=["best", "x", "y"]), r"\{best\} never loses to any of the other 2"),
        (lambda: bradley_terry([[0, 1, 1], [1, 0, 1], [0, 0, 0]]), r"\{0, 1\} never loses"),
        (lambda: bradley_terry([[0, 1, 0], [1, 0, 0], [0, 0, 0]]), "was never compared"),
        (lambda: plackett_luce([[0, 1, 2], [1, 0, 2]], 3), "never"),
        (lambda: davidson([[0, 1], [0, 0]], [[0, 1], [1, 0]]), "ladder"),
        (lambda: rao_kupper([[0, 1], [0, 0]], [[0, 1], [1, 0]]), "ladder"),
        (lambda: davidson([[0, 0], [0, 0]], [[0, 4], [4, 0]]), "only ties"),
        (lambda: davidson([[0, 0], [0, 0]], [[0, 4], [4, 0]], l2=1.0), "only ties"),
    ],
)
def test_what_has_no_finite_fit_is_said(call, said: str) -> None:
    with pytest.raises(AttuneError, match=said):
        call()


@pytest.mark.parametrize("fit_model", [rao_kupper, davidson])
def test_a_cycle_with_more_wins_than_ties_bounds_the_tie_parameter(fit_model) -> None:
    # 0 beats 1 beats 2, and 0 ties with 2: going round 0 > 1 > 2 = 0 climbs twice and drops once
    fit = fit_model([[0, 2, 0], [1, 0, 2], [0, 1, 0]], [[0, 0, 3], [0, 0, 0], [3, 0, 0]])
    assert np.isfinite(fit.strength).all()
    chain = [[0, 1, 0], [0, 0, 1], [0, 0, 0]]
    ends_tie, all_tie = [[0, 0, 1], [0, 0, 0], [1, 0, 0]], [[0, 1, 1], [1, 0, 1], [1, 1, 0]]
    assert math.isfinite(fit_model(chain, ends_tie).tie)
    with pytest.raises(AttuneError, match="ladder"):
        fit_model([[0, 1, 0], [0, 0, 0], [0, 0, 0]], all_tie)


def runs_away(wins: np.ndarray, ties: np.ndarray) -> bool:
    """Says by linear programming whether some direction of (strengths, tie parameter) never lowers the likelihood of a comparison and raises one."""
    num = len(wins)
    never_positive = []
    for i, j in np.argwhere(wins + ties > 0):
        d, tie = np.eye(num + 1)[i] - np.eye(num + 1)[j], np.eye(num + 1)[num]
        never_positive += ([tie - d, -d] if wins[i, j] else []) + ([d - tie, -d - tie] if ties[i, j] else [])
    rows = np.array(never_positive)
    return linprog(rows.sum(axis=0), A_ub=rows, b_ub=np.zeros(len(rows)), bounds=[(-1, 1)] * (num + 1)).fun < -1e-9


def test_a_fit_is_refused_exactly_where_linear_programming_finds_a_way_to_infinity() -> None:
    rng, seen = np.random.default_rng(0), {True: 0, False: 0}
    while min(seen.values()) < 15:
        wins = rng.binomial(2, rng.choice([0.2, 0.5]), size=(3, 3)) * (1 - np.eye(3, dtype=int))
        upper = np.triu(rng.binomial(2, 0.3, size=(3, 3)), 1)
        ties = upper + upper.T
        met = (wins + wins.T + ties > 0).sum()
        if not wins.any() or not ties.any() or met < 4:  # with four of six places filled three items hang together
            continue
        expected = runs_away(wins, ties)
        seen[expected] += 1
        for fit_model in (rao_kupper, davidson):
            try:
                fit_model(wins, ties)
            except AttuneError:
                assert expected
            else:
                assert not expected


def test_a_penalty_makes_a_fit_where_there_is_none() -> None:
    fit = bradley_terry([[0, 3], [0, 0]], l2=1.0)
    # d/ds of 3 log sigmoid(2 s) - s^2 is 0: 3 sigmoid(-2 s) = s
    s = fit.strength[0]
    assert 3 * expit(-2 * s) == pytest.approx(s, abs=1e-12)


@pytest.mark.parametrize(
    "call",
    [
        lambda: bradley_terry([[0, 1, 2]]),
        lambda: bradley_terry([[0, -1], [1, 0]]),
        lambda: bradley_terry([[1, 1], [1, 0]]),
        lambda: bradley_terry([[0, 0], [0, 0]]),
        lambda: bradley_terry([[0, 1], [1, 0]], [[0, 1], [0, 0]]),
        lambda: bradley_terry([[0, 1], [1, 0]], l2=-1.0),
        lambda: bradley_terry([[0, 1], [1, 0]], names=["a"]),
        lambda: plackett_luce([[0, 0]], 2),
        lambda: plackett_luce([[0, 2]], 2),
        lambda: plackett_luce([[0, 1]], 2, counts=[0.0]),
        lambda: plackett_luce([], 2),
    ],
)
def test_wrong_input_is_refused(call) -> None:
    with pytest.raises(AttuneError):
        call()


def test_a_fit_reads_well_and_turns_into_json() -> None:
    fit = bradley_terry([[0, 1], [3, 0]], names=["a", "b"])
    assert fit.order() == (1, 0)
    assert str(fit).startswith("Bradley-Terry over 4: b +0.549 ± ")
    assert json.loads(json.dumps(fit.to_dict(), allow_nan=False))["strength"] == pytest.approx([-math.log(3) / 2, math.log(3) / 2])
