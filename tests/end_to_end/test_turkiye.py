"""All scenes of February 2023 in one run, and Kahramanmaraş through the shipped model."""

from pathlib import Path

import geopandas as gpd
import pandas as pd
import pytest
import yaml

from quakestream.bundles import load_bundle, shipped_names
from quakestream.config import open_run
from quakestream.config.sections import DEFAULT_DAMAGE_MODEL
from quakestream.pipeline.backends.local import LocalBackend
from quakestream.pipeline.run import Result, map_run

pytestmark = pytest.mark.data
LATER = {
    "post": {"datetime": "2023-02-06/2023-03-01"},
    "pre": {"datetime": "2018-01-01/2023-02-05"},
}

LARGE = ("adiyaman3", "adiyaman4")
"""Scenes with three quarters of all boxes."""
ASSESSED = {6016: 4900, 1598: 1100}
"""Least number of boxes with a verdict, by the number of boxes."""


def write_run(folder: Path, images: list[Path], boxes: gpd.GeoDataFrame, **changed: object) -> Path:
    boxes.to_parquet(folder / "boxes.parquet")
    content = {
        "event": {"id": "turkiye-2023", "time": "2023-02-06T01:17:34Z"},
        "aoi": "36,36,39,38.5",
        "imagery": {"catalog": [str(p) for p in images], **LATER},
        "footprints": {"path": "boxes.parquet", "id": "id"},
        "out": str(folder / "out"),
        **changed,
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def boxes_of(labels: Path) -> gpd.GeoDataFrame:
    """Detector boxes of every scene, all of them, ids by scene."""
    parts = []
    for path in sorted(labels.glob("*_detection_boxes.geojson")):
        frame = gpd.read_file(path)
        scene = path.name.removesuffix("_detection_boxes.geojson")
        frame["id"] = [f"{scene}-{n:04}" for n in range(len(frame))]
        parts.append(frame[["id", "status", "geometry"]])
    return gpd.GeoDataFrame(pd.concat(parts, ignore_index=True), crs=4326)


@pytest.fixture(
    scope="module",
    params=[(), pytest.param(LARGE, marks=pytest.mark.slow)],
    ids=["small scenes", "all scenes"],
)
def turkiye(
    request: pytest.FixtureRequest, data_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Result, pd.DataFrame]:
    source = data_dir / "turkiye-2023-scenes"
    folder = tmp_path_factory.mktemp("turkiye")
    boxes = boxes_of(source / "labels")
    left_out = tuple(name for name in LARGE if name not in request.param)
    boxes = boxes[~boxes["id"].str.startswith(left_out)]
    images = sorted((source / "imagery").rglob("*.tif")) + sorted(
        (source / "imagery").rglob("*.jpg")
    )
    images = [path for path in images if not path.name.startswith(left_out)]
    path = write_run(folder, images, boxes, execution={"runtime": "threshold"})
    return map_run(open_run(path), backend=LocalBackend()), boxes.set_index("id")


def test_every_box_is_answered(turkiye: tuple[Result, pd.DataFrame]) -> None:
    result, boxes = turkiye
    assert sorted(result.buildings["building_id"]) == sorted(boxes.index)
    assert result.run["counts"]["assessed"] > ASSESSED[len(boxes)]


def test_the_pair_that_lies_2_km_apart_gives_no_verdict(
    turkiye: tuple[Result, pd.DataFrame],
) -> None:
    result, boxes = turkiye
    rows = result.buildings.set_index("building_id")
    rows = rows[rows.index.str.startswith("gaziantep2")]
    only_post = boxes.loc[rows.index, "status"] == "only_in_post"
    assert rows["damage"].isna().all()
    assert set(rows.loc[only_post, "reason"]) == {"no_pre"}
    assert set(rows.loc[~only_post, "reason"]) == {"no_imagery"}


def test_images_without_a_georeference_are_named(turkiye: tuple[Result, pd.DataFrame]) -> None:
    named = {Path(i.subject).name for i in turkiye[0].issues}
    assert named == {"km_merkez2_post_20230209.jpg", "km_merkez2_pre_20210403.jpg"}


def test_no_roof_or_haze_is_taken_for_cloud(turkiye: tuple[Result, pd.DataFrame]) -> None:
    reasons = turkiye[0].run["counts"]["reasons"]
    assert not {"cloud", "snow", "saturated", "misaligned"} & set(reasons)


TASKS = {name: load_bundle(name).spec.task for name in shipped_names()}
DAMAGE = [name for name, task in TASKS.items() if task not in ("hazard", "landslide")]
HAZARD = [name for name, task in TASKS.items() if task == "hazard"]
LAYERS = {
    "adi": "amplitude_dispersion_index",
    "dpm_s1": "dpm_sentinel1",
    "dpm_alos2": "dpm_alos2",
    "ndbi": "ndbi",
    "pga_g": "pga_g",
}


@pytest.mark.parametrize(
    "bundle",
    [pytest.param(n, marks=[] if n == DEFAULT_DAMAGE_MODEL else pytest.mark.slow) for n in DAMAGE],
)
def test_kahramanmaras_is_mapped_by_the_shipped_models(
    data_dir: Path, tmp_path: Path, bundle: str
) -> None:
    """The map is made and its layers are there; how right it is, a benchmark says."""
    source = data_dir / "kahramanmaras-2023-main"
    boxes = boxes_of(source / "labels")
    boxes = boxes[boxes["status"] != "only_in_post"]
    path = write_run(
        tmp_path,
        sorted((source / "imagery").glob("*.tif")),
        boxes,
        aoi="36.9215,37.5755,36.9335,37.5820",
        hazard={"layers": {"pga_yu_g": str(source / "fusion" / "pga_g.tif")}},
        models={"damage": bundle},
    )
    rows = map_run(open_run(path), backend=LocalBackend()).buildings
    assert len(rows) == 447
    assert (rows["status"] == "assessed").all()
    assert rows["p_destroyed"].between(0, 1).all()
    assert rows["p_destroyed"].std() > 0.02
    known = rows["pga_yu_g"].dropna()
    assert known.between(0.26, 0.28).all()
    assert 150 < len(known) < 300, "half the boxes lie on nodata of the 30 m layer"
    assert rows["mmi"].isna().all()
    assert all("mmi" in missing for missing in rows["hazard_missing"])


@pytest.mark.parametrize("bundle", HAZARD)
def test_kahramanmaras_with_the_evidence_of_its_layers(
    data_dir: Path, tmp_path: Path, bundle: str
) -> None:
    """The columns are there and add up, PGA from a layer too; nothing is said of how right."""
    source = data_dir / "kahramanmaras-2023-main"
    boxes = boxes_of(source / "labels")
    boxes = boxes[boxes["status"] != "only_in_post"]
    layers = {name: str(source / "fusion" / f"{file}.tif") for name, file in LAYERS.items()}
    path = write_run(
        tmp_path,
        sorted((source / "imagery").glob("*.tif")),
        boxes,
        aoi="36.9215,37.5755,36.9335,37.5820",
        hazard={"layers": layers},
        models={"damage": DAMAGE[0], "hazard": bundle},
        execution={"runtime": "threshold"},
    )
    result = map_run(open_run(path), backend=LocalBackend())
    rows, run = result.buildings, result.run
    assert len(rows) == 447
    assert (rows["status"] == "assessed").all()
    assert not result.issues
    assert not [n for n in run["notes"] if "models.hazard" in n], "every value is given"
    known = rows[list(LAYERS)].notna().any(axis=1)
    assert 150 < known.sum() < 300, "half the boxes lie on nodata of the 30 m layers"
    assert rows["pga_g"].dropna().between(0.26, 0.28).all()
    columns = [c for c in rows.columns if c.startswith("p_hazard_")]
    assert columns == ["p_hazard_intact", "p_hazard_destroyed"]
    assert (rows[columns].notna().all(axis=1) == known).all()
    assert rows.loc[known, columns].sum(axis=1).between(1 - 1e-5, 1 + 1e-5).all()
    assert rows["evidence"].eq("image+hazard").eq(known).all()
    evidence = {"image": int((~known).sum()), "image+hazard": int(known.sum())}
    assert run["counts"]["evidence"] == evidence
    assert run["hazard_bundle"]["name"] == bundle
    assert run["hazard_bundle"]["footprints"] == known.sum()
    assert run["hazard"]["layers"]["pga_g"]["uri"] == layers["pga_g"]
