"""Probabilities at a share, in whole runs of a small world with a calibrated bundle."""

import base64
import gzip
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
import yaml
from scipy.special import expit, logit

from quakestream.cli.map import needs_attention
from quakestream.errors import ConfigError
from quakestream.fusion.shares import (
    WEAK_SHARE,
    AreaShares,
    SharePrior,
    adding_up,
    at_share,
    estimate_shares,
)
from quakestream.fusion.stated import shift_to_share
from quakestream.outputs.buildings import SHARE_COLUMNS
from quakestream.outputs.expected import amount, expected, share_interval
from quakestream.outputs.units import neighbours
from quakestream.pipeline.result.shares import SHARE_KEYS, with_worst
from quakestream.pipeline.run import Result
from quakestream.testing import write_hazard_bundle
from tests.helpers.calibrating import PLAIN, calibrate_bundle
from tests.helpers.cropping import crop_world
from tests.helpers.mapping import by_id, edit, map_file

REGION_SD = float(np.hypot(PLAIN.region_sd, PLAIN.covariance[0][0] ** 0.5))
COLUMNS = ["score", "share", "share_low", "share_high", "share_area"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shares")
    crop_world(folder)
    return folder


@pytest.fixture(scope="module")
def plain(folder: Path) -> pd.DataFrame:
    """The map before the bundle was calibrated."""
    return by_id(map_file(folder / "run.yaml", folder / "plain").buildings)


@pytest.fixture(scope="module")
def auto(folder: Path, plain: pd.DataFrame) -> Result:
    assert not {*COLUMNS} & {*plain.columns}
    calibrate_bundle(folder / "crops")
    return map_file(folder / "run.yaml")


def at(folder: Path, share: Any) -> Result:
    """The map at another share, from the commits of the first."""
    edit(folder / "run.yaml", lambda content: content["models"].update(share=share))
    try:
        return map_file(folder / "run.yaml")
    finally:
        edit(folder / "run.yaml", lambda content: content["models"].pop("share"))


def ratio_of(rows: pd.DataFrame) -> np.ndarray:
    """The log-ratio of `PLAIN`, from the scores."""
    return 1.0 + 2.0 * logit(rows["score"].to_numpy(np.float64).clip(1e-3, 1 - 1e-3))


def estimated(rows: pd.DataFrame, prior: SharePrior) -> tuple[AreaShares, np.ndarray]:
    """Shares from the columns of a map alone, and the place of each building's area."""
    areas, area = np.unique(rows["share_area"].to_numpy(str), return_inverse=True)
    pairs = neighbours(areas.astype(object), None)
    return estimate_shares(ratio_of(rows), area, pairs, prior, PLAIN), area


def test_the_score_is_the_probability_before_calibration(plain: pd.DataFrame, auto: Result) -> None:
    rows = by_id(auto.buildings)
    assert rows["score"].to_numpy() == pytest.approx(
        plain["p_destroyed"].to_numpy(), abs=1e-6, nan_ok=True
    )
    assert (rows["status"] == plain["status"]).all()
    assert rows.loc[rows["status"] != "assessed", COLUMNS].isna().all(axis=None)
    assert rows.loc[rows["status"] == "assessed", COLUMNS].notna().all(axis=None)


def test_probabilities_are_those_of_the_score_at_the_share_around_a_building(
    auto: Result,
) -> None:
    rows = by_id(auto.buildings).query("status == 'assessed'")
    p = rows["p_destroyed"].to_numpy(np.float64)
    found, area = estimated(rows, SharePrior.weak(rows["share_area"].nunique()))
    assert len(found.share_G) > 1
    own = found.expected_share_G3[area]
    assert rows[COLUMNS[1:4]].to_numpy() == pytest.approx(own, abs=1e-5)
    assert p == pytest.approx(at_share(found.log_ratio_N, found.share_G[area]), abs=1e-4)
    assert (rows["damage"].astype(int) == (p >= 0.5)).all()
    assert rows["share"].between(rows["share_low"], rows["share_high"]).all()
    areas = auto.run["shares"]["areas"]
    assert [a["assumed"] for a in areas] == pytest.approx(found.share_G.tolist(), abs=1e-5)


def test_run_json_and_summary_say_the_shares(auto: Result, folder: Path) -> None:
    shares = auto.run["shares"]
    assert (shares["mode"], shares["label"], shares["threshold"]) == ("auto", "destroyed", 0.5)
    rows = auto.buildings
    assert sum(a["buildings"] for a in shares["areas"]) == auto.run["counts"]["assessed"]
    assert shares["run"]["buildings"] == auto.run["counts"]["assessed"]
    assert shares["run"]["declared"] == int((rows["damage"] == 1).sum())
    summary = pd.read_csv(folder / "out" / "summary.csv", index_col="unit")
    for area in shares["areas"]:
        here = rows[rows["share_area"] == area["id"]]
        assert len(here) == area["buildings"] == summary.loc[area["id"], "assessed"]
        assert int((here["damage"] == 1).sum()) == area["declared"]
        assert here["share"].to_numpy() == pytest.approx(area["share"], abs=1e-5)
        row = summary.loc[area["id"]]
        assert row["expected_destroyed"] == pytest.approx(area["expected"], abs=0.06)
        assert row["expected_low"] <= row["expected_destroyed"] <= row["expected_high"]
    unseen = summary[summary["assessed"] == 0]
    assert unseen["expected_destroyed"].isna().all()


def test_all_products_say_one_share_of_a_district(auto: Result, folder: Path) -> None:
    """Once tables of buildings held the assumed share, and summary.csv the expected number's."""
    west, south, east, north = auto.buildings.total_bounds
    cuts = (west, west + (east - west) / 3, east)
    outline = [shapely.box(a, south, b, north) for a, b in pairwise(cuts)]
    gpd.GeoDataFrame({"name": ["wide", "far"]}, geometry=outline, crs=4326).to_file(
        folder / "districts.geojson"
    )
    content = yaml.safe_load((folder / "run.yaml").read_text()) | {
        "summary": {"admin": "districts.geojson", "id": "name"},
        "outputs": ["gpkg"],
    }
    (folder / "districts.yaml").write_text(yaml.safe_dump(content))
    told = map_file(folder / "districts.yaml")
    out, shares = folder / "out", told.run["shares"]
    summary = pd.read_csv(out / "summary.csv", index_col="unit")
    report, page = ((out / name).read_text() for name in ("report.html", "index.html"))
    about = re.search(r'id="data-about">([^<]*)<', page)
    assert about is not None
    units = json.loads(gzip.decompress(base64.b64decode(about.group(1))))["shares"]
    tables = (told.buildings, gpd.read_file(out / "map.gpkg", layer="buildings"))
    assert {"wide", "far"} <= {area["id"] for area in shares["areas"]}
    for area in shares["areas"]:
        ends = [area[key] for key in ("expected", "expected_low", "expected_high")]
        part = pytest.approx([end / area["buildings"] for end in ends], abs=1e-5)
        assert [area[key] for key in SHARE_KEYS] == part
        for table in tables:
            here = table.loc[table["share_area"] == area["id"], [*SHARE_COLUMNS]]
            assert here.drop_duplicates().to_numpy().tolist() == [part]
        row = summary.loc[area["id"], ["share_destroyed", "share_low", "share_high"]]
        assert row.tolist() == pytest.approx(part.expected, abs=6e-5)
        assert share_interval(area) in report
        assert [u["share"] for u in units if u["id"] == area["id"]] == [share_interval(area)]
    whole = shares["run"]
    assert whole["share"] == pytest.approx(whole["expected"] / whole["buildings"], abs=1e-5)
    assert whole["low"] == pytest.approx(whole["expected_low"] / whole["buildings"], abs=1e-5)
    found = expected(told.run)
    assert found is not None
    assert f"({amount(100 * whole['share'])} %)" in found.beside


def test_a_share_that_is_told_moves_every_probability_and_reads_no_pixel(
    auto: Result, folder: Path
) -> None:
    before = by_id(auto.buildings)
    for share in (0.02, 0.4):
        told = at(folder, share)
        assert told.run["counts"]["cells_scored"] == 0
        rows = by_id(told.buildings).query("status == 'assessed'")
        shift, _ = shift_to_share(ratio_of(rows), np.full(len(rows), share), REGION_SD)
        expected = expit(ratio_of(rows) + shift + logit(share))
        assert rows["p_destroyed"].to_numpy() == pytest.approx(expected, abs=2e-5)
        by_unit = rows.groupby("share_area")
        part = by_unit["p_destroyed"].transform("mean")
        assert rows["share"].to_numpy() == pytest.approx(part.to_numpy(), abs=2e-5)
        run = told.run["shares"]
        assert {area["stated"] for area in [run["run"], *run["areas"]]} == {share}
        assert run["prior"] == {"share": share}
        assert run["run"]["expected"] == pytest.approx(expected.sum(), abs=0.01)
        alone, whole = run["by_scores"], auto.run["shares"]["run"]
        assert [alone[key] for key in SHARE_KEYS] == [whole[key] for key in SHARE_KEYS]
        assert alone["low"] < 0.4 < alone["high"]
        assert alone["contradict"] == needs_attention(told) == (share == 0.02)
    again = map_file(folder / "run.yaml")
    pd.testing.assert_frame_equal(by_id(again.buildings)[COLUMNS], before[COLUMNS])


def test_a_layer_of_shares_is_taken_building_by_building(auto: Result, folder: Path) -> None:
    told = at(folder, {"layer": "dpm"})
    rows = by_id(told.buildings).query("status == 'assessed'")
    dpm = rows["dpm"].to_numpy(np.float64)
    hole = np.isnan(dpm)
    assert 0 < hole.sum() < len(rows)
    everyone = by_id(told.buildings)["dpm"].astype(float)
    share = np.where(hole, everyone.mean(), dpm).clip(1e-3, 1 - 1e-3)
    areas = {area["id"]: area["stated"] for area in told.run["shares"]["areas"]}
    means = pd.Series(share).groupby(rows["share_area"].to_numpy()).mean()
    assert areas == pytest.approx(means.to_dict(), abs=1e-5)
    shift, _ = shift_to_share(ratio_of(rows), share, REGION_SD)
    assert rows["p_destroyed"].to_numpy() == pytest.approx(
        expit(ratio_of(rows) + shift + logit(share)), abs=2e-5
    )
    assert told.run["shares"]["mode"] == "layer"


@pytest.mark.parametrize(
    ("share", "words"),
    [
        ({"layer": "vs30"}, "no such layer"),
        ({"layer": "percent"}, "0 to 1.*per cent are divided by 100"),
        ({"layer": "elsewhere"}, "no value at any footprint"),
    ],
)
def test_a_layer_that_holds_no_shares_is_refused_before_a_pixel_is_read(
    auto: Result, folder: Path, share: Any, words: str
) -> None:
    def add(content: dict[str, Any]) -> None:
        layers = content["hazard"]["layers"]
        layers |= {"percent": str(folder / "percent.tif"), "elsewhere": str(folder / "sea.tif")}

    with rasterio.open(folder / "dpm.tif") as dataset:
        profile, values = dict(dataset.profile), dataset.read(1)
    with rasterio.open(folder / "percent.tif", "w", **profile) as dataset:
        dataset.write(values * 100, 1)
    with rasterio.open(folder / "sea.tif", "w", **profile) as dataset:
        dataset.write(np.full_like(values, np.nan), 1)
    before = (folder / "run.yaml").read_text()
    edit(folder / "run.yaml", add)
    try:
        with pytest.raises(ConfigError, match=words):
            at(folder, share)
    finally:
        (folder / "run.yaml").write_text(before)


def test_a_share_for_a_bundle_without_calibration_is_refused(tmp_path: Path) -> None:
    world = crop_world(tmp_path)
    edit(world.run_file, lambda content: content["models"].update(share=0.1))
    with pytest.raises(ConfigError, match="has no calibration") as caught:
        map_file(world.run_file)
    assert caught.value.where == "models.share"


def test_hazard_evidence_counts_once(auto: Result, folder: Path) -> None:
    """Its level in a unit moves the prior of the share; the rest moves single buildings."""
    hazard = write_hazard_bundle(folder / "hazard", hazard=("vs30_m_s",), prior=(0.7, 0.3))
    edit(folder / "run.yaml", lambda content: content["models"].update(hazard=str(hazard)))
    try:
        result = map_file(folder / "run.yaml")
    finally:
        edit(folder / "run.yaml", lambda content: content["models"].pop("hazard"))
    assert result.run["counts"]["cells_scored"] == 0
    rows = by_id(result.buildings).query("status == 'assessed'")
    hazard_p = rows["p_hazard_destroyed"].to_numpy(np.float64).clip(1e-3, 1 - 1e-3)
    strength = pd.Series(logit(hazard_p) - logit(0.3), index=rows.index)
    level = strength.groupby(rows["share_area"]).mean()
    rest = strength - rows["share_area"].map(level)
    assert rest.abs().max() > 0.2
    found, area = estimated(
        rows, SharePrior(share_G=expit(logit(WEAK_SHARE) + level.to_numpy()), strength=4.0)
    )
    p = rows["p_destroyed"].to_numpy(np.float64)
    moved = found.log_ratio_N + rest.to_numpy()
    told = adding_up(moved, area, found.share_G, found.expected_G)
    expected = at_share(told, found.share_G[area])
    assert np.bincount(area, p) == pytest.approx(found.expected_G, rel=1e-3)
    assert p == pytest.approx(expected, abs=1e-4)
    prior = result.run["shares"]["prior"]
    assert prior["from"] == "hazard values"
    expected_share = expit(logit(WEAK_SHARE) + rows["share_area"].map(level))
    assert prior["share"] == pytest.approx(expected_share.mean(), abs=1e-4)
    assert (rows["score"] == by_id(auto.buildings).loc[rows.index, "score"]).all()


def test_other_classes_keep_their_proportions() -> None:
    p_nC = np.array([[0.5, 0.3, 0.2], [0.0, 0.0, 1.0], [0.2, 0.0, 0.8]])
    out = with_worst(p_nC, np.array([0.6, 0.9, 0.1]))
    assert out == pytest.approx(np.array([[0.25, 0.15, 0.6], [0.0, 0.1, 0.9], [0.9, 0.0, 0.1]]))


def test_a_map_on_which_nothing_is_assessed_has_no_shares(
    auto: Result, folder: Path, tmp_path: Path
) -> None:
    rows = auto.buildings
    unseen = rows[rows["status"] != "assessed"]
    gpd.GeoDataFrame({"id": unseen["building_id"]}, geometry=unseen.geometry, crs=4326).to_file(
        tmp_path / "unseen.geojson"
    )
    before = (folder / "run.yaml").read_text()
    edit(
        folder / "run.yaml", lambda c: c["footprints"].update(path=str(tmp_path / "unseen.geojson"))
    )
    try:
        result = map_file(folder / "run.yaml", tmp_path / "out")
    finally:
        (folder / "run.yaml").write_text(before)
    assert result.run["counts"]["assessed"] == 0
    assert result.run["shares"]["areas"] == []
    assert result.run["shares"]["run"] == {"buildings": 0, "declared": 0}
    assert "score" in result.buildings
    assert (tmp_path / "out" / "index.html").stat().st_size > 0
