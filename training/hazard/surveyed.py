"""Does shaking alone predict damage from town to town? 430 surveyed buildings of February 2023.

The buildings have ShakeMap values and VS30 at their place (`turkiye-2023-shaking`). The answer is:
hardly. The figures stay here so that nobody ships a fragility curve fitted to them.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from quakestream.domain.damage_words import USGS_SURVEY
from quakestream.errors import RequestError
from training.data.splits import block_folds
from training.hazard.families import logistic
from training.hazard.judging import class_aucs, macro_auc, rounded
from training.hazard.nested import gathered, mean_probabilities
from training.hazard.points import HazardPoints
from training.metrics import block_interval, blocks_of

FILE = Path("turkiye-2023-shaking/usgs_field_building_damage_with_shakemap_values.csv")
LOGARITHMS = {
    "pga_g": "PGA_mean",
    "pgv_cm_s": "PGV_mean",
    "psa03_g": "SA(0.3)_mean",
    "psa10_g": "SA(1.0)_mean",
    "psa30_g": "SA(3.0)_mean",
}
"""Columns of the file that hold the logarithm of a measure."""
CLASS_OF = USGS_SURVEY.positions()
BLOCK_DEG, BUFFER_DEG = 0.15, 0.03
"""Blocks of the size of a town; the grid of the ShakeMap is 0.033°."""
VALUES = {
    "MMI": ("mmi",),
    "PGA": ("pga_g",),
    "MMI and VS30": ("mmi", "vs30_m_s"),
    "all shaking and VS30": ("mmi", *LOGARITHMS, "vs30_m_s"),
}


def read_surveyed(data_dir: Path) -> HazardPoints:
    """Reads buildings with a known damage, and the values at their place.

    Raises:
        RequestError: if the file is missing.
    """
    file = data_dir / FILE
    if not file.is_file():
        raise RequestError(
            "no surveyed buildings",
            str(file),
            remedy="set QUAKESTREAM_DATA to the folder of the data",
        )
    table = pd.read_csv(file)
    table = table[table["damage_condition"].isin(CLASS_OF)]
    values = {
        "mmi": table["MMI_mean"],
        **{name: np.exp(table[column]) for name, column in LOGARITHMS.items()},
        "vs30_m_s": table["vs30"],
    }
    return HazardPoints(
        lon_N=table["longitude"].to_numpy(np.float64),
        lat_N=table["latitude"].to_numpy(np.float64),
        values_NM=np.stack([np.asarray(v, np.float32) for v in values.values()], axis=1),
        label_N=np.asarray(table["damage_condition"].map(CLASS_OF), np.int64),
        names=tuple(values),
        classes=USGS_SURVEY.labels,
    )


def surveyed_figures(points: HazardPoints) -> list[dict[str, Any]]:
    """Macro AUC of a plain logistic regression on held-out blocks of the size of a town.

    Nothing is tuned: there is one term per value and one penalty.
    """
    block_N = blocks_of(points.lon_N, points.lat_N, side_m=BLOCK_DEG)
    folds = block_folds(points.lon_N, points.lat_N, BLOCK_DEG, BUFFER_DEG)
    rows = []
    for name, values in VALUES.items():
        given_NM = points.values_NM[:, [points.names.index(v) for v in values]]
        held = []
        for fold in folds:
            model = logistic(1, 0.1).fit(given_NM[fold.train_N], points.label_N[fold.train_N])
            held.append(mean_probabilities([model], given_NM[fold.held_N]))
        predicted = gathered(points, folds, held)
        rows.append(
            {
                "values": name,
                "buildings": len(points),
                "blocks": int(block_N.max()) + 1,
                "macro_auc": rounded(block_interval(macro_auc(predicted, points.label_N), block_N)),
                "auc_per_class": [round(a, 4) for a in class_aucs(predicted, points.label_N)],
            }
        )
    return rows
