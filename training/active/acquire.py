"""Five ways to choose what to label next: random, entropy, margin, bald and kmeans.

A choice depends on the seed and on the items, never on their order: ties and random draws go by a
hash of the seed and the item's id. Several workers can therefore rank their own items; ranking
the best of each again gives what one worker would have chosen.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from quakestream.errors import ConfigError, ShapeError
from training.active.scores import Passes, bald, entropy, margin

SCORES: dict[str, Callable[[Passes], NDArray[np.float64]]] = {
    "entropy": entropy,
    "margin": margin,
    "bald": bald,
}
"""Methods that take the items with the highest scores."""
METHODS = ("random", *SCORES, "kmeans")
ROUNDS = 25
"""Most rounds of k-means."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pool:
    """Items that have no label yet.

    Raises:
        ShapeError: if the arrays have different numbers of items, or an id occurs twice.
    """

    id_N: NDArray[np.str_]
    probabilities_TNC: NDArray[np.floating] | None = None
    """Class probabilities over passes; `entropy`, `margin` and `bald` need them."""
    feature_ND: NDArray[np.floating] | None = None
    """Features; `kmeans` needs them, and so does a choice that is spread out."""

    def __post_init__(self) -> None:
        p, feature = self.probabilities_TNC, self.feature_ND
        counts = {len(self.id_N)} | ({p.shape[1]} if p is not None else set())
        counts |= {len(feature)} if feature is not None else set()
        if len(counts) > 1 or len(np.unique(self.id_N)) != len(self.id_N):
            raise ShapeError(
                "items do not match",
                "pool",
                expected="distinct ids, one per row of probabilities and features",
                got=f"{len(np.unique(self.id_N))} distinct of {len(self.id_N)} ids; "
                f"{sorted(counts)} items",
            )


def acquire(
    method: str, pool: Pool, count: int, *, seed: int = 0, spread: bool = False
) -> NDArray[np.int64]:
    """Places in the pool of the items to label next, the most wanted first.

    Args:
        method: one of `METHODS`.
        pool: the candidates.
        count: number of items; all of them if the pool has fewer.
        seed: of random draws, ties and the start of k-means.
        spread: of the 3 · `count` items with the highest scores, take those that lie farthest
            apart in features, so that the choice does not hold one item many times over. Not part
            of the published method.

    Raises:
        ConfigError: if no method has that name, `count` is below 1, or the pool lacks what the
            method needs.
    """
    if method not in METHODS:
        raise ConfigError(
            "unknown method", expected=f"one of {', '.join(METHODS)}", got=repr(method)
        )
    if count < 1:
        raise ConfigError("wrong number of items", expected="1 or more", got=str(count))
    count = min(count, len(pool.id_N))
    if method == "kmeans":
        return _central(pool, count, seed)
    if method == "random":
        return rank(np.zeros(len(pool.id_N)), pool.id_N, count, seed=seed)
    if pool.probabilities_TNC is None:
        raise _lacking(method, "probabilities")
    score_N = SCORES[method](pool.probabilities_TNC)
    if not spread:
        return rank(score_N, pool.id_N, count, seed=seed)
    best_N = rank(score_N, pool.id_N, 3 * count, seed=seed)
    return best_N[farthest_first(_features(pool, method)[best_N], count)]


def rank(
    score_N: NDArray[np.floating], id_N: NDArray[np.str_], count: int, *, seed: int = 0
) -> NDArray[np.int64]:
    """Places of the highest scores, highest first; ties go by the hash of seed and id."""
    order_N: NDArray[np.int64] = np.lexsort((_hashes(id_N, seed), -np.asarray(score_N)))
    return order_N[:count]


def farthest_first(feature_ND: NDArray[np.floating], count: int) -> NDArray[np.int64]:
    """Places of items that lie far apart: the first item, then always the farthest from all."""
    chosen = [0]
    distance_N = _squared(feature_ND, feature_ND[:1])[:, 0]
    while len(chosen) < min(count, len(feature_ND)):
        distance_N[chosen[-1]] = -1.0
        chosen.append(int(distance_N.argmax()))
        distance_N = np.minimum(distance_N, _squared(feature_ND, feature_ND[chosen[-1:]])[:, 0])
        distance_N[chosen] = -1.0
    return np.array(chosen, np.int64)


def _central(pool: Pool, count: int, seed: int) -> NDArray[np.int64]:
    """Items nearest to the centres of `count` clusters, those of large clusters first."""
    raw_ND = np.asarray(_features(pool, "kmeans"), np.float64)
    order_N = np.argsort(_hashes(pool.id_N, seed))
    feature_ND = (raw_ND - raw_ND.mean(axis=0)) / np.maximum(raw_ND.std(axis=0), 1e-9)
    feature_ND = feature_ND[order_N]
    centre_CD = _start(feature_ND, count, np.random.default_rng(seed))
    owner_N = _squared(feature_ND, centre_CD).argmin(axis=1)
    for _ in range(ROUNDS):
        for c in np.unique(owner_N):
            centre_CD[c] = feature_ND[owner_N == c].mean(axis=0)
        before_N, owner_N = owner_N, _squared(feature_ND, centre_CD).argmin(axis=1)
        if np.array_equal(before_N, owner_N):
            break
    size_C = np.bincount(owner_N, minlength=count)
    distance_NC = _squared(feature_ND, centre_CD)
    chosen = []
    for c in np.argsort(-size_C, kind="stable"):
        chosen.append(int(distance_NC[:, c].argmin()))
        distance_NC[chosen[-1]] = np.inf
    place_N: NDArray[np.int64] = order_N[chosen]
    return place_N


def _start(
    feature_ND: NDArray[np.float64], count: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Centres drawn one by one, with the squared distance to those before as weight."""
    chosen = [int(rng.integers(len(feature_ND)))]
    distance_N = _squared(feature_ND, feature_ND[chosen])[:, 0]
    while len(chosen) < count:
        distance_N[chosen] = 0.0
        total = distance_N.sum()
        # All that are left may equal a centre; any of them will do then.
        free_N = np.setdiff1d(np.arange(len(feature_ND)), chosen)
        weight_N = distance_N / total if total > 0 else None
        drawn = rng.choice(len(feature_ND), p=weight_N) if total > 0 else rng.choice(free_N)
        chosen.append(int(drawn))
        distance_N = np.minimum(distance_N, _squared(feature_ND, feature_ND[chosen[-1:]])[:, 0])
    start_CD: NDArray[np.float64] = feature_ND[chosen]
    return start_CD


def _squared(a_ND: NDArray[np.floating], b_CD: NDArray[np.floating]) -> NDArray[np.float64]:
    """Squared distance of each row of one table to each row of another."""
    a, b = np.asarray(a_ND, np.float64), np.asarray(b_CD, np.float64)
    square_NC = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2.0 * a @ b.T
    positive_NC: NDArray[np.float64] = np.maximum(square_NC, 0.0)
    return positive_NC


def _hashes(id_N: NDArray[np.str_], seed: int) -> NDArray[np.uint64]:
    digests = [blake2b(f"{seed}:{id_}".encode(), digest_size=8).digest() for id_ in id_N]
    return np.frombuffer(b"".join(digests), np.uint64)


def _features(pool: Pool, method: str) -> NDArray[np.floating]:
    if pool.feature_ND is None:
        raise _lacking(method, "features")
    return pool.feature_ND


def _lacking(method: str, what: str) -> ConfigError:
    return ConfigError(f"method needs {what}", method, remedy="choose `random`, which needs none")
