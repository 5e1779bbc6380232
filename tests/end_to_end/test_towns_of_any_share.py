"""One bundle over an untouched town and a ruined one: as many are declared as fell."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import pytest

from quakestream.bundles import load_bundle
from quakestream.synthetic import TINY, make_earthquake
from tests.helpers.calibrating import calibrate_bundle
from tests.helpers.mapping import edit, map_file

pytestmark = pytest.mark.slow
SHIPPED = Path(__file__).parents[2] / "quakestream" / "bundles" / "shipped"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`damage-synthetic`, with a stand-in where it ships without a calibration."""
    folder = tmp_path_factory.mktemp("bundle") / "damage-synthetic"
    shutil.copytree(SHIPPED / "damage-synthetic", folder)
    if load_bundle(str(folder)).spec.calibration is None:
        calibrate_bundle(folder)
    return folder


@pytest.mark.parametrize(
    ("destroyed", "least", "most"), [(0.001, 0.0, 0.05), (0.2, 0.1, 0.4), (0.6, 0.4, 0.8)]
)
def test_a_town_has_as_many_destroyed_as_fell(
    bundle: Path, tmp_path: Path, destroyed: float, least: float, most: float
) -> None:
    size = replace(TINY, extent_m=(450.0, 450.0), destroyed=destroyed)
    town = make_earthquake(tmp_path, seed=5, size=size)

    def change(content: dict[str, Any]) -> None:
        content["models"] = {"damage": str(bundle)}
        content["execution"] = {"runtime": "onnxruntime", "threads": 1}

    edit(town.run_file, change)
    result = map_file(town.run_file)
    rows = result.buildings.query("status == 'assessed'").set_index("building_id")
    truth = gpd.read_parquet(town.truth).set_index("building_id")["damage_label"]
    fell = int((truth.loc[rows.index] == "destroyed").sum())
    assert least * len(rows) <= fell <= most * len(rows)
    run = result.run["shares"]["run"]
    slack = max(1.0, 0.02 * len(rows))
    assert run["expected_low"] - slack <= fell <= run["expected_high"] + slack
    assert abs(run["declared"] - fell) <= slack
    if not fell:
        assert run["declared"] <= 0.01 * len(rows)
