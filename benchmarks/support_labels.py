"""Deep Support Vectors on frozen features: wrong labels found, coresets, made-up items.

    python -m benchmarks.support_labels islahiye.npz adiyaman.npz -o support.json

Files come from `benchmarks.frozen_features`. Pool and test are halves of the blocks, as in
`benchmarks.active_learning`.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from benchmarks.active_learning import halves
from benchmarks.frozen_features import FrozenSet, load_frozen
from training.support import (
    HeadSupport,
    TrainedHead,
    check_first,
    coreset,
    head_support,
)
from training.support.distil import DistilSettings, MadeItems, distil

WRONG = 0.05
COUNTS = (100, 250, 500)
STRENGTH = 0.01


def new_head() -> LogisticRegression:
    """A head before it is fitted; both classes count the same."""
    return LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=500)


def wrong_labels(items: FrozenSet, count: int, draw: int) -> dict[str, dict[str, float]]:
    """How well each order finds labels that were turned round.

    Returns:
        For each order the share of the wrong labels in its first tenth, the AUC, and the AUC among
        labels of one class, where it does not help that wrong labels are mostly of the rare class.
    """
    rng = np.random.default_rng(draw)
    chosen = items.part(rng.permutation(len(items))[:count])
    wrong_N = np.zeros(count, np.bool_)
    wrong_N[rng.choice(count, round(WRONG * count), replace=False)] = True
    class_N = (chosen.destroyed_N ^ wrong_N).astype(np.int64)
    head = new_head().fit(chosen.feature_ND, class_N)
    apart_NC = cross_val_predict(
        new_head(), chosen.feature_ND, class_N, cv=5, method="predict_proba"
    )
    trained = {
        name: TrainedHead(
            item_N=chosen.id_N,
            feature_ND=chosen.feature_ND,
            class_N=class_N,
            weight_DK=head.coef_.T,
            bias_K=head.intercept_,
            class_weight_C=count / 2 / np.bincount(class_N),
            apart_NC=apart,
        )
        for name, apart in (("own", None), ("apart", apart_NC))
    }
    orders = {
        "rare class first": (class_N == np.bincount(class_N).argmin()) + 0.5 * rng.random(count),
        "largest multiplier (DSV)": trained["own"].support().multiplier_N,
        "largest pull of the support": _places(trained["own"], "support"),
        "largest pull in training": trained["own"].share_N(),
        "least belief": _places(trained["own"], "belief"),
        "least belief of heads without the label": _places(trained["apart"], "belief"),
    }
    return {name: _found(order_N, wrong_N, class_N) for name, order_N in orders.items()}


def coresets(items: FrozenSet, draw: int) -> dict[str, float]:
    """AUC on the test of heads that were fitted on a few items of the pool."""
    pool, test = halves(items, draw)
    class_N = pool.destroyed_N.astype(np.int64)
    head = new_head().fit(pool.feature_ND, class_N)
    support = head_support(pool.feature_ND, class_N, head.coef_.T, head.intercept_)
    rng = np.random.default_rng(draw)
    scores = {
        "at random": rng.random(len(pool)),
        "largest multiplier (DSV)": support.multiplier_N,
        "largest pull of the support": support.pull_N,
    }
    found = {"whole pool": _auc(head, test)}
    for per_class in (50, 10, 1):
        for name, score_N in scores.items():
            if (np.bincount(class_N) < per_class).any():
                continue
            own = coreset(score_N, class_N, per_class)
            few = new_head().fit(pool.feature_ND[own], class_N[own])
            found[f"{per_class} a class, {name}"] = _auc(few, test)
    found |= _explained(support, head, pool)
    return found


def _explained(support: HeadSupport, head: LogisticRegression, pool: FrozenSet) -> dict[str, float]:
    margin_N = np.abs(head.decision_function(pool.feature_ND))
    return {
        "residual of the multipliers": support.residual,
        "share of items with a multiplier": float((support.multiplier_N > 0).mean()),
        "Spearman of multiplier and margin": float(spearmanr(support.multiplier_N, margin_N)[0]),
    }


def made_up(items: FrozenSet, draw: int, steps: int) -> dict[str, float]:
    """AUC on the test of heads fitted on made-up items, where part of the pool is at hand."""
    pool, test = halves(items, draw)
    class_N = pool.destroyed_N.astype(np.int64)
    head = new_head().fit(pool.feature_ND, class_N)
    rng = np.random.default_rng(draw)
    found = {}
    for share in (0.1, 1.0):
        part = _part(class_N, share, rng)
        features, labels = pool.feature_ND[part], class_N[part]
        found[f"{share:.0%} at hand, all of it, real"] = _auc(
            new_head().fit(features, labels), test
        )
        for per_class in (1, 10):
            key = f"{share:.0%} at hand, {per_class} a class"
            for name, kkt in (("distribution matching", 0.0), ("with DKKT", 30.0)):
                how = DistilSettings(per_class=per_class, kkt=kkt, steps=steps, seed=draw)
                made = distil(features, labels, head.coef_.T, head.intercept_, how)
                found[f"{key}, {name}"] = _made_auc(made, test, weighted=False)
            # The loop ends with the items of DKKT.
            found[f"{key}, with DKKT, counted by multiplier"] = _made_auc(made, test, weighted=True)
    return found


def _made_auc(made: MadeItems, test: FrozenSet, *, weighted: bool) -> float:
    if len(np.unique(made.class_N)) < 2:
        return 0.5
    # A head of two outputs has multipliers half as large as one of a single output.
    weight_N = 2 * made.multiplier_N / STRENGTH if weighted else None
    head = LogisticRegression(
        C=STRENGTH, class_weight=None if weighted else "balanced", max_iter=500
    )
    return _auc(head.fit(made.feature_ND, made.class_N, sample_weight=weight_N), test)


def _part(class_N: NDArray[np.int64], share: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """A share of each class, two items at least."""
    parts = []
    for label in np.unique(class_N):
        own = rng.permutation(np.flatnonzero(class_N == label))
        parts.append(own[: max(2, round(share * len(own)))])
    return np.sort(np.concatenate(parts))


def _places(head: TrainedHead, order: Any) -> NDArray[np.float64]:
    """Minus the place of each label in the list for the analyst."""
    place = {check.item: n for n, check in enumerate(check_first(head, order=order))}
    return -np.array([place[str(item)] for item in head.item_N], np.float64)


def _found(
    order_N: NDArray[np.floating], wrong_N: NDArray[np.bool_], class_N: NDArray[np.int64]
) -> dict[str, float]:
    first = np.argsort(-order_N, kind="stable")[: round(0.1 * len(order_N))]
    within = [
        roc_auc_score(wrong_N[own], order_N[own])
        for own in (class_N == 0, class_N == 1)
        if 0 < wrong_N[own].sum() < own.sum()
    ]
    return {
        "in the first tenth": float(wrong_N[first].sum() / wrong_N.sum()),
        "AUC": float(roc_auc_score(wrong_N, order_N)),
        "AUC in a class": float(np.mean(within)),
    }


def _auc(head: LogisticRegression, test: FrozenSet) -> float:
    return float(roc_auc_score(test.destroyed_N, head.decision_function(test.feature_ND)))


def _summary(rows: Sequence[dict[str, float]]) -> dict[str, str]:
    """Mean ± standard deviation over draws."""
    return {
        key: f"{np.mean([r[key] for r in rows]):.3f} ± {np.std([r[key] for r in rows], ddof=1):.3f}"
        for key in rows[0]
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the tables of each set."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", type=Path, nargs="+", metavar="NPZ")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="JSON")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--steps", type=int, default=200, help="of made-up items")
    options = parser.parse_args(arguments)
    found: dict[str, Any] = {}
    draws = range(options.draws)
    for path in options.sets:
        items = load_frozen(path)
        wrong: dict[str, Any] = {}
        for count in COUNTS:
            rows = [wrong_labels(items, count, draw) for draw in draws]
            wrong[f"{count} labels"] = {k: _summary([r[k] for r in rows]) for k in rows[0]}
        found[path.stem] = {
            "wrong labels": wrong,
            "coresets": _summary([coresets(items, draw) for draw in draws]),
            "made up": _summary([made_up(items, draw, options.steps) for draw in draws]),
        }
    text = json.dumps(found, indent=1, ensure_ascii=False)
    options.out.write_text(text + "\n")
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
