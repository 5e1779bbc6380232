"""How well do hazard values alone tell damage? The field points of Kahramanmaraş, 24,352 of them.

The random forest of Yu et al. 2024 (published macro one-vs-rest AUC 0.69) under its kind of
split and under blocks of ground, and on the same blocks what is to beat it: logistic regression,
boosting, extremely random trees, their mean, the metadata encoders of QuakeMetaFormer, and the
procedure behind the shipped hazard bundle. Nothing is chosen by these figures.
"""

import json
import sys
from typing import Any

from benchmarks.common import data_dir, main, measure

PUBLISHED_AUC = 0.69


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    command = [sys.executable, "-m", "training.hazard", "table", "--json"]
    command += ["--data", str(data_dir()), *(["--quick"] if quick else [])]
    # One core: what is measured is what was learnt, and the processor time it took.
    done = measure(command, env={"OMP_NUM_THREADS": "1"})
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    table = json.loads(done.stdout)
    settings = {
        "points": table.pop("points"),
        "per_class": table.pop("support"),
        "points_that_share_a_place": table.pop("shared_places"),
        "block_deg": 0.02,
        "buffer_deg": 0.005,
        "outer_folds": table.pop("folds"),
        "published_forest_auc": PUBLISHED_AUC,
        "chosen": table.pop("settings"),
    }
    metrics = {
        **table,
        "processor_s": round(sum(r.get("seconds", 0.0) for r in table["blocks"].values()), 1),
        "wall_s": round(done.wall_s, 1),
        "peak_mb": round(done.peak_mb),
    }
    return settings, metrics


if __name__ == "__main__":
    main("field_points", run)
