"""`quakestream demo`: the whole way on an earthquake with a known answer."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> dict:
    out = tmp_path_factory.mktemp("demo") / "demo-out"
    command = [sys.executable, "-m", "quakestream.cli.main", "demo", "--out", str(out), "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_bundle_knows_rubble_and_the_difference_does_not(demo: dict) -> None:
    assert demo["score"]["auc"]["value"] >= 0.95
    assert demo["score"]["baseline"]["auc"]["value"] < 0.8


def test_every_reason_the_scenes_were_made_for_comes_out(demo: dict) -> None:
    assert {"no_imagery", "no_pre", "cloud", "nodata"} <= set(demo["counts"]["reasons"])
    assert demo["counts"]["assessed"] > 500


def test_the_map_lies_where_it_says(demo: dict) -> None:
    out = Path(demo["out"])
    for name in ("index.html", "buildings.parquet", "summary.csv", "run.json"):
        assert (out / name).stat().st_size > 200
    assert demo["memory"]["peak_rss_mb"] < 3000
