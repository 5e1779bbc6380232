"""Standing rows of every comparison: what needs no training, and what gives the answer away.

A model must beat the difference of the two dates. It must also beat what knows nothing of the
damage: the size of a building, and the image before the event. Where those score well, the labels
or the outlines leak, and a good figure of a model may be the same leak. So everything is also
judged inside squares of one size, where no outline can tell.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from quakestream.bundles import load_bundle
from quakestream.engines import open_engine
from training.data.pairs import LabelledPair, in_squares
from training.metrics import Figures, figures
from training.pair_report import differences
from training.quantise_gate import engine_logits
from training.scoring import BuildingLogits, pixels_of

SQUARE_M = 29.0
"""Side of the squares that everything is judged in beside the outlines."""
ZERO_LABELS = "damage-synthetic"
"""The shipped model that has seen no label of a real event."""
AREA, DIFFERENCE, MODEL = "area_m2", "difference_square", "zero_labels"
BEFORE = ("before_mean", "before_deviation", "before_edges")
"""Columns of a building's square in the image before the event: mean, deviation, mean gradient."""


def standing_table(pairs: Sequence[LabelledPair]) -> pd.DataFrame:
    """Columns of the standing rows by `building_id`; buildings without a pixel have no row.

    The area is that of the bounds, in which buildings are judged.
    """
    bundle = load_bundle(ZERO_LABELS)
    engine = open_engine(bundle)
    parts = []
    for pair in pairs:
        area_of = {b.id: b.geometry.envelope.area for b in pair.buildings}
        square = in_squares(pair, SQUARE_M)
        scored = engine_logits(engine, bundle.spec, square)
        rows = [(s.building.id, *_before(s, square)) for s in scored]
        table = pd.DataFrame(rows, columns=["building_id", *BEFORE])
        table[AREA] = table["building_id"].map(area_of)
        table[DIFFERENCE] = differences(scored, [square])
        table[MODEL] = [s.probability(temperature=bundle.spec.temperature) for s in scored]
        parts.append(table)
    return pd.concat(parts, ignore_index=True)


def standing_scores(answers: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """A score per building for each standing row, out of a table with its columns.

    "Before alone" is a logistic regression on the image before the event, fitted on the other
    regions. It is left out where there is one region.
    """
    scores = {
        "area alone": answers[AREA].to_numpy(np.float64),
        f"difference in {SQUARE_M:g} m squares": answers[DIFFERENCE].to_numpy(np.float64),
        f"{ZERO_LABELS} in {SQUARE_M:g} m squares": answers[MODEL].to_numpy(np.float64),
    }
    before_N = _left_out_regression(answers)
    return scores if before_N is None else {"before alone": before_N, **scores}


def standing_figures(
    scored: Sequence[BuildingLogits], pairs: Sequence[LabelledPair]
) -> dict[str, Figures]:
    """Figures of each standing row on the buildings that a model was judged on."""
    region_of = {pair.name: pair.region for pair in pairs}
    answers = pd.DataFrame(
        {
            "building_id": [s.building.id for s in scored],
            "region": [region_of[s.pair] for s in scored],
            "destroyed": [s.building.destroyed for s in scored],
        }
    ).merge(standing_table(pairs), on="building_id")
    destroyed_N = answers["destroyed"].to_numpy(bool)
    return {
        name: figures(score_N, destroyed_N, probabilities=False)
        for name, score_N in standing_scores(answers).items()
    }


def _left_out_regression(answers: pd.DataFrame) -> NDArray[np.float64] | None:
    region_N, destroyed_N = answers["region"].to_numpy(), answers["destroyed"].to_numpy(bool)
    value_ND = answers[list(BEFORE)].to_numpy(np.float64)
    score_N = np.zeros(len(answers))
    for region in np.unique(region_N):
        here_N = region_N == region
        if len(np.unique(destroyed_N[~here_N])) < 2:
            return None
        model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
        model.fit(value_ND[~here_N], destroyed_N[~here_N])
        score_N[here_N] = model.decision_function(value_ND[here_N])
    return score_N


def _before(scored: BuildingLogits, pair: LabelledPair) -> tuple[float, float, float]:
    """Mean, deviation and mean gradient of the image before the event, inside a building."""
    rows, cols, inside_YX = pixels_of(scored.building, pair)
    grey_YX = pair.pre.pixels_BYX[:, rows, cols].mean(axis=0)
    edges_YX = np.hypot(*np.gradient(grey_YX)) if min(grey_YX.shape) > 1 else np.zeros_like(grey_YX)
    inside_P = grey_YX[inside_YX]
    return float(inside_P.mean()), float(inside_P.std()), float(edges_YX[inside_YX].mean())
