"""`quakestream demo`: the whole way on an earthquake with a known answer."""

from pathlib import Path
from typing import Any


def test_the_bundle_knows_rubble_and_the_difference_does_not(demo_record: dict[str, Any]) -> None:
    assert demo_record["score"]["auc"]["value"] >= 0.95
    assert demo_record["score"]["baseline"]["auc"]["value"] < 0.8


def test_every_reason_the_scenes_were_made_for_comes_out(demo_record: dict[str, Any]) -> None:
    assert {"no_imagery", "no_pre", "cloud", "nodata"} <= set(demo_record["counts"]["reasons"])
    assert demo_record["counts"]["assessed"] > 500


def test_the_map_lies_where_it_says(demo_record: dict[str, Any]) -> None:
    out = Path(demo_record["out"])
    for name in ("index.html", "buildings.parquet", "summary.csv", "run.json"):
        assert (out / name).stat().st_size > 200
    assert demo_record["memory"]["peak_rss_mb"] < 3000
