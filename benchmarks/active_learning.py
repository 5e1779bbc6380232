"""Active learning on frozen features: each way to choose labels against labels at random.

    python -m benchmarks.active_learning islahiye.npz adiyaman.npz -o active.json

Half of the blocks is the pool, the other half the test; halves swap between draws. All methods of
a draw start from the same labels at random and ask for the same number in each round; the head is
fitted anew each time. Files come from `benchmarks.frozen_features`.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.frozen_features import FrozenSet, load_frozen
from training.active import (
    METHODS,
    Pool,
    acquire,
    bald,
    class_distance,
    correlate,
    dropout_passes,
    entropy,
    margin,
    neighbour_disagreement,
)
from training.metrics import seed_interval

START, STEP, LAST = 50, 25, 250
"""Labels at random, labels a round, and labels at the end."""
STRENGTH = 0.01
"""Inverse weight decay of the head."""
SHOWN = (100, 150, 250)
LEAST_BLOCKS = 10
"""Smallest number of blocks with both classes for a correlation over blocks."""


def fitted(items: FrozenSet) -> LogisticRegression:
    """A head on labelled items; both classes count the same."""
    head = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=500)
    return head.fit(items.feature_ND, items.destroyed_N)


def passes_of(head: LogisticRegression, items: FrozenSet, seed: int) -> NDArray[np.float64]:
    """Class probabilities over Monte Carlo dropout."""
    return dropout_passes(items.feature_ND, head.coef_.T, head.intercept_, seed=seed)


def halves(items: FrozenSet, draw: int) -> tuple[FrozenSet, FrozenSet]:
    """Pool and test: blocks dealt out at random, with at least a third of the destroyed on either
    side. Each even draw deals anew, and the next one swaps.
    """
    rng = np.random.default_rng(draw // 2)
    blocks = np.unique(items.block_N)
    for _ in range(1000):
        first = np.isin(items.block_N, rng.permutation(blocks)[: len(blocks) // 2])
        share = items.destroyed_N[first].sum() / items.destroyed_N.sum()
        if 1 / 3 <= share <= 2 / 3:
            break
    chosen = first if draw % 2 == 0 else ~first
    return items.part(chosen), items.part(~chosen)


def start_of(pool: FrozenSet, draw: int) -> list[int]:
    """Labels at random, more of them until both states are among them."""
    order = np.random.default_rng(1000 + draw).permutation(len(pool))
    count = START
    while len(np.unique(pool.destroyed_N[order[:count]])) < 2:
        count += 1
    return [int(n) for n in order[:count]]


def curve(items: FrozenSet, method: str, draw: int) -> Iterator[dict[str, Any]]:
    """Figures on the test after each round."""
    pool, test = halves(items, draw)
    labelled = start_of(pool, draw)
    while True:
        head = fitted(pool.part(np.array(labelled)))
        score_N = head.decision_function(test.feature_ND)
        yield {
            "labels": len(labelled),
            "destroyed": int(pool.destroyed_N[labelled].sum()),
            "auc": float(roc_auc_score(test.destroyed_N, score_N)),
            "ap": float(average_precision_score(test.destroyed_N, score_N)),
        }
        if len(labelled) >= LAST:
            return
        free = np.setdiff1d(np.arange(len(pool)), labelled)
        rest = pool.part(free)
        candidates = Pool(
            id_N=rest.id_N,
            probabilities_TNC=passes_of(head, rest, draw),
            feature_ND=rest.feature_ND,
        )
        count = min(STEP, LAST - len(labelled))
        labelled += free[acquire(method, candidates, count, seed=draw)].tolist()


def compared(items: FrozenSet, draws: int) -> dict[str, Any]:
    """Each method's figures, and its difference from random in the same draws."""
    curves = {m: [list(curve(items, m, d)) for d in range(draws)] for m in METHODS}
    rows = {}
    for method, all_rounds in curves.items():
        row: dict[str, Any] = {}
        for figure in ("auc", "ap"):
            mean_N = np.array([np.mean([r[figure] for r in rounds]) for rounds in all_rounds])
            base_N = np.array([np.mean([r[figure] for r in rounds]) for rounds in curves["random"]])
            row[figure] = {n: _at(all_rounds, n, figure) for n in SHOWN}
            row[f"{figure}_gain"] = asdict(seed_interval((mean_N - base_N).tolist()))
            row[f"{figure}_wins"] = int((mean_N > base_N).sum())
        row["destroyed_among_250"] = _at(all_rounds, LAST, "destroyed")
        rows[method] = row
    whole = [full_pool(items, d) for d in range(draws)]
    rows["all labels of the pool"] = {
        figure: float(np.mean([w[figure] for w in whole])) for figure in ("auc", "ap", "labels")
    }
    return rows


def full_pool(items: FrozenSet, draw: int) -> dict[str, float]:
    """Figures with every label of the pool."""
    pool, test = halves(items, draw)
    score_N = fitted(pool).decision_function(test.feature_ND)
    return {
        "labels": len(pool),
        "auc": float(roc_auc_score(test.destroyed_N, score_N)),
        "ap": float(average_precision_score(test.destroyed_N, score_N)),
    }


def ambiguity(items: FrozenSet, draws: int) -> dict[str, Any]:
    """How neighbours of another class and the distance of classes go with the uncertainty.

    A head with `LAST` labels at random; neighbours and classes by its own predictions, because
    there are no labels where it is used.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for draw in range(draws):
        pool, test = halves(items, draw)
        order = np.random.default_rng(1000 + draw).permutation(len(pool))[:LAST]
        p_TNC = passes_of(fitted(pool.part(order)), test, draw)
        class_N = p_TNC.mean(axis=0).argmax(axis=1)
        places = {"features": test.feature_ND, "ground": test.place_N2}
        for name, score in (("entropy", entropy), ("margin", margin), ("bald", bald)):
            score_N = score(p_TNC)
            for place, place_ND in places.items():
                if np.isfinite(place_ND).all():
                    told = correlate(neighbour_disagreement(place_ND, class_N), score_N)
                    found.setdefault(f"neighbours in {place}, {name}", []).append(asdict(told))
            told = correlate(*_by_block(test, class_N, score_N))
            if told.items >= LEAST_BLOCKS:
                found.setdefault(f"distance of classes in a block, {name}", []).append(asdict(told))
    return {name: _pooled(rows) for name, rows in found.items()}


def _by_block(
    items: FrozenSet, class_N: NDArray[np.int64], score_N: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distance of classes on four principal features, and mean uncertainty, of each block."""
    *_, axes = np.linalg.svd(items.feature_ND - items.feature_ND.mean(axis=0), full_matrices=False)
    narrow_ND = items.feature_ND @ axes[:4].T
    distance, score = [], []
    for block in np.unique(items.block_N):
        own = items.block_N == block
        pixels_BYX = narrow_ND[own].T[:, None]
        distance.append(class_distance(pixels_BYX, (class_N[own] == 1)[None]))
        score.append(float(score_N[own].mean()))
    return np.array(distance), np.array(score)


def _pooled(rows: list[dict[str, Any]]) -> dict[str, Any]:
    rho = [row["spearman"] for row in rows if np.isfinite(row["spearman"])]
    known = [row["spearman_p"] for row in rows if np.isfinite(row["spearman_p"])]
    return {
        "draws": len(rho),
        "items": float(np.mean([row["items"] for row in rows])),
        "left_out": float(np.mean([row["left_out"] for row in rows])),
        "spearman": asdict(seed_interval(rho)),
        # Bonferroni over the draws.
        "significant": int(sum(p < 0.01 / len(rows) for p in known)),
    }


def _at(all_rounds: list[list[dict[str, Any]]], labels: int, figure: str) -> float:
    near = [min(rounds, key=lambda r: abs(r["labels"] - labels)) for rounds in all_rounds]
    return float(np.mean([r[figure] for r in near]))


def as_table(rows: dict[str, Any]) -> str:
    """The rows as a table."""
    lines = [
        "| method | AUC at 100 / 150 / 250 | AP at 100 / 150 / 250 | gain in AUC | gain in AP |"
    ]
    lines += ["|---|---|---|---|---|"]
    for name, row in rows.items():
        if name not in METHODS:
            lines.append(
                f"| {name} ({row['labels']:.0f}) | {row['auc']:.3f} | {row['ap']:.3f} | | |"
            )
            continue
        cells = [" / ".join(f"{row[f][n]:.3f}" for n in SHOWN) for f in ("auc", "ap")]
        for figure in ("auc", "ap"):
            g, wins = row[f"{figure}_gain"], row[f"{figure}_wins"]
            cells.append(f"{g['value']:+.3f} ({g['low']:+.3f} to {g['high']:+.3f}), {wins} of 10")
        lines.append(f"| {name} ({row['destroyed_among_250']:.0f}) | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs both tables for each set."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", type=Path, nargs="+", metavar="NPZ")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="JSON")
    parser.add_argument("--draws", type=int, default=10)
    options = parser.parse_args(arguments)
    found = {}
    for path in options.sets:
        items = load_frozen(path)
        rows = compared(items, options.draws)
        found[path.stem] = {"table": rows, "ambiguity": ambiguity(items, options.draws)}
        print(f"{path.stem}\n{as_table(rows)}")
        print(json.dumps(found[path.stem]["ambiguity"], indent=1))
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
