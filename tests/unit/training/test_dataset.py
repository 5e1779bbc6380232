"""`python -m training.dataset`: chips are what inference would read, and every loss is counted."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
import yaml

from quakestream.catalog import scene_extent
from quakestream.config import RunFile, open_run
from quakestream.domain import Grid
from quakestream.errors import RequestError
from quakestream.hazard import sample_hazard
from quakestream.hazard.units import MEASURES
from quakestream.pipeline.planning.jobs import RunBundles
from quakestream.pipeline.planning.plan import Plan, plan_for
from quakestream.pipeline.work.prepare import Prepared, run_step, steps_for
from quakestream.raster.coregistration import PairShifts
from quakestream.raster.prepare import PreparedScene
from quakestream.raster.source import RasterioSource
from quakestream.synthetic import TINY, SyntheticEarthquake, make_earthquake
from quakestream.tiling import crop_windows
from tests.helpers.xbd_case import write_tile
from training.data.filters import TileFilter
from training.data.labels import LabelRequest, parse_scale
from training.data.run_store import (
    LocalShardWorkers,
    RunSource,
    StoreReport,
    StoreRequest,
    store_bundle,
    write_run_store,
)
from training.data.splits import table_region_folds
from training.data.store import ChipStore
from training.data.synthetic_store import synthetic_store
from training.dataset import main

SIDE = 64
SMALL = StoreRequest(crop_px=SIDE)
GRADED = parse_scale(["slight", "heavy", "destroyed"])


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> SyntheticEarthquake:
    return make_earthquake(tmp_path_factory.mktemp("town"), seed=2, size=TINY, bad_inputs=True)


def run_of(town: SyntheticEarthquake, folder: Path, **changed: Any) -> RunFile:
    """The town's run file with sections replaced."""
    content = yaml.safe_load(town.run_file.read_text()) | changed
    for key in ("aoi",):
        content[key] = str(town.out / content[key])
    content["imagery"]["catalog"] = str(town.catalogue)
    content["footprints"]["path"] = str(town.out / Path(content["footprints"]["path"]).name)
    hazard = content["hazard"]
    hazard["shakemaps"] = [str(town.out / s) for s in hazard.get("shakemaps", [])]
    if "vs30" in hazard:
        hazard["vs30"] = str(town.out / hazard["vs30"])
    hazard["layers"] = {k: str(town.out / v) for k, v in hazard.get("layers", {}).items()}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.yaml").write_text(yaml.safe_dump(content))
    return open_run(folder / "run.yaml")


def source_of(run: RunFile, town: SyntheticEarthquake, **labels: Any) -> RunSource:
    request = LabelRequest(uri=str(town.truth), scale=GRADED, column="grade")
    return RunSource(run=run, labels=replace(request, **labels))


@pytest.fixture(scope="module")
def made(
    town: SyntheticEarthquake, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ChipStore, StoreReport, RunFile]:
    folder = tmp_path_factory.mktemp("made")
    run = run_of(town, folder)
    store, report = write_run_store(str(folder / "store"), [source_of(run, town)], SMALL)
    return store, report, run


def prepared_alone(plan: Plan) -> Prepared:
    """Statistics and shifts, measured without a store."""
    views = dict.fromkeys((u.view, u.cell.epsg) for u in plan.units)
    jobs = steps_for(
        [(plan.views[v], epsg) for v, epsg in views], plan.run.storage_options, scene_extent
    )
    prepared = Prepared()
    for job in jobs:
        done = run_step(job)
        if isinstance(done, PreparedScene):
            prepared.scenes[job.scene.version] = done  # type: ignore[union-attr]
        elif isinstance(done, PairShifts):
            prepared.shifts[job.view.id, job.epsg] = done  # type: ignore[union-attr]
    return prepared


def test_chips_and_values_are_those_of_the_footprints_own_square_of_ground(
    made: tuple[ChipStore, StoreReport, RunFile],
) -> None:
    store, _, run = made
    plan = plan_for(run, RunBundles(damage=store_bundle(SMALL)))
    prepared = prepared_alone(plan)
    (view,) = plan.views
    epsg = int(plan.zone_N[0])
    grid = Grid(epsg=epsg, gsd_m=0.5)
    ids = plan.footprints.table["building_id"].tolist()
    chips = store.read(range(len(store)))
    assert chips.pre_NBYX is not None
    assert view.pre is not None
    with RasterioSource(view.post, grid) as post, RasterioSource(view.pre, grid) as pre:
        for n, id_ in enumerate(store.table["building_id"]):
            polygon = plan.polygon_N[ids.index(id_)]
            (window,) = crop_windows(np.array([polygon.bounds]), grid, SIDE)
            moved = window.moved(prepared.shifts[view.id, epsg].at(grid, window))
            for source, place, scene, found in (
                (post, window, view.post, chips.post_NBYX[n]),
                (pre, moved, view.pre, chips.pre_NBYX[n]),
            ):
                read = source.read(place)
                known = prepared.scenes[scene.version].statistics
                mean_B = np.rint(known.mean_B).astype(np.uint8)[:, None, None]
                expected = np.where(read.valid_YX, read.counts_BYX, mean_B)
                # GDAL decodes JPEG by another library; a pixel beside would differ by more
                assert np.abs(found.astype(int) - expected).mean() < 2.0, id_
                beside = np.roll(expected, 1, axis=-1)
                assert np.abs(found.astype(int) - beside).mean() > 2.5, id_
            west, south, east, north = grid.bounds(window)
            assert store.table["x_m"][n] == (west + east) / 2
            assert store.table["y_m"][n] == (south + north) / 2
            shown = polygon.intersection(shapely.box(west, south, east, north)).area
            assert chips.inside_NYX[n].sum() * 0.25 == pytest.approx(shown, rel=0.05, abs=5)
    points = plan.footprints.representative
    hazard = sample_hazard(shapely.get_x(points), shapely.get_y(points), run.hazard)
    rows = [ids.index(id_) for id_ in store.table["building_id"]]
    names = list(store.meta.hazard_names)
    np.testing.assert_array_equal(chips.hazard_NM, hazard.values[names].to_numpy()[rows])


def test_the_shaking_of_each_event_reaches_the_store(
    made: tuple[ChipStore, StoreReport, RunFile], town: SyntheticEarthquake, tmp_path: Path
) -> None:
    """A mainshock and an aftershock: the maximum of both would hide the second."""
    first = next(iter(made[2].hazard.shakemaps))
    name = ElementTree.parse(first).getroot().attrib["event_id"]
    (tmp_path / "after.xml").write_text(Path(first).read_text().replace(name, "after"))
    run = run_of(town, tmp_path)
    hazard = run.hazard.model_copy(update={"shakemaps": [first, str(tmp_path / "after.xml")]})
    source = source_of(run.model_copy(update={"hazard": hazard}), town)
    request = replace(SMALL, per_event=True)
    store, _ = write_run_store(str(tmp_path / "store"), [source], request)
    shaking = [h for h in store.meta.hazard if h.group == "shaking"]
    assert [h.name for h in shaking] == [
        f"{measure}__{event}" for event in (name, "after") for measure in MEASURES.values()
    ]
    assert [h.unit for h in shaking[:3]] == ["MMI", "g", "cm/s"]
    once = made[0].table.set_index("building_id")["pga_g"]
    for event in (name, "after"):
        known = store.table.set_index("building_id")[f"pga_g__{event}"].dropna()
        assert len(known) > 10
        pd.testing.assert_series_equal(known, once[known.index], check_names=False)


def test_labels_are_the_truth_by_id_and_everything_else_is_counted(
    made: tuple[ChipStore, StoreReport, RunFile], town: SyntheticEarthquake
) -> None:
    store, report, _ = made
    truth = gpd.read_parquet(town.truth).set_index("building_id")["grade"]
    grades = [store.meta.classes[label] for label in store.table["label"]]
    assert grades == truth[store.table["building_id"]].tolist()
    assert report.chips == len(store) == report.candidates - report.dropped.total()
    assert sum(report.classes.values()) == report.chips
    assert store.meta.hazard_names[0] == "dpm"
    assert store.meta.hazard_groups == (1, 6, 1)
    missing = int(store.table["dpm"].isna().sum())
    assert report.hazard_missing == ({"dpm": missing} if missing else {})
    causes = " ".join(issue.cause for issue in report.issues)
    assert "repeats an id with another outline" in causes  # the town's bad inputs
    assert store.table["chip"].is_monotonic_increasing
    assert store.meta.provenance["labels"][0]["how"] == "by building_id"


def test_post_alone_needs_no_pre_imagery_and_drops_are_counted_by_reason(
    town: SyntheticEarthquake, tmp_path: Path
) -> None:
    imagery = yaml.safe_load(town.run_file.read_text())["imagery"]
    imagery.pop("pre")
    run = run_of(town, tmp_path, imagery=imagery)
    with pytest.raises(RequestError, match="names no pre-event imagery"):
        write_run_store(str(tmp_path / "a"), [source_of(run, town)], SMALL)
    strict = replace(SMALL, epochs=("post",), tile_filter=TileFilter(black=None, snow=None))
    store, report = write_run_store(
        str(tmp_path / "b"), [source_of(run, town)], replace(strict, empty_classes=True)
    )
    assert store.read([0]).pre_NBYX is None
    assert report.dropped["filter:flat"] > 0
    assert report.chips + report.dropped.total() == report.candidates


def test_shards_cut_anywhere_make_the_same_store(
    made: tuple[ChipStore, StoreReport, RunFile],
    town: SyntheticEarthquake,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, _, run = made
    monkeypatch.setattr("training.data.run_store.shard_chips_of", lambda _: 7)

    class Backwards(LocalShardWorkers):
        def shards(self, job: Any, tasks: Any) -> Any:
            return super().shards(job, reversed(list(tasks)))

    other, _ = write_run_store(
        str(tmp_path / "store"), [source_of(run, town)], SMALL, workers=Backwards()
    )
    assert other.meta.shards > 5
    pd.testing.assert_frame_equal(store.table, other.table)
    index = range(len(store))
    np.testing.assert_array_equal(store.read(index).post_NBYX, other.read(index).post_NBYX)
    np.testing.assert_array_equal(store.read(index).inside_NYX, other.read(index).inside_NYX)


@pytest.mark.slow
def test_ray_cuts_what_the_loop_cuts(
    made: tuple[ChipStore, StoreReport, RunFile], town: SyntheticEarthquake, tmp_path: Path
) -> None:
    store = made[0]
    out = tmp_path / "store"
    arguments = [str(tmp_path / "run.yaml"), "--labels", str(town.truth), "-o", str(out)]
    arguments += ["--label-column", "grade", "--classes", *GRADED.labels]
    run_of(town, tmp_path)
    code = main([*arguments, "--crop-px", str(SIDE), "--backend", "ray", "--quiet"])
    assert code == 1  # the town's bad inputs
    other = ChipStore.open(str(out))
    pd.testing.assert_frame_equal(store.table, other.table)
    index = range(len(store))
    np.testing.assert_array_equal(store.read(index).pre_NBYX, other.read(index).pre_NBYX)


def test_several_towns_make_one_store_with_a_region_each(tmp_path: Path) -> None:
    request = replace(SMALL, empty_classes=True)
    store, report = synthetic_store(str(tmp_path / "s"), [1, 2], request, size=TINY)
    assert set(store.table["region"]) == {"seed-1", "seed-2"}
    assert len(report.labels) == 2
    assert set(table_region_folds(store.table)) == {"seed-1", "seed-2"}  # all scenes are `post`
    alone, _ = synthetic_store(str(tmp_path / "t"), [2], request, size=TINY)
    rows = np.flatnonzero(store.table["region"] == "seed-2")
    np.testing.assert_array_equal(
        store.read(rows).post_NBYX, alone.read(range(len(alone))).post_NBYX
    )
    np.testing.assert_array_equal(
        store.read(rows).hazard_NM, alone.read(range(len(alone))).hazard_NM
    )


def points_file(town: SyntheticEarthquake, path: Path, east_deg: float = 0.0) -> Path:
    """The truth as graded points, as a survey would give it."""
    truth = gpd.read_parquet(town.truth)
    words = {"slight": "No visible damage", "heavy": "Damaged", "destroyed": "Destroyed"}
    places = truth.geometry.representative_point().translate(east_deg, 0)
    frame = gpd.GeoDataFrame(
        {"damage_gra": truth["grade"].map(words)}, geometry=places, crs=truth.crs
    )
    frame.to_file(path)
    return path


def command(town: SyntheticEarthquake, folder: Path, labels: Path, *more: str) -> int:
    run_of(town, folder)
    base = [str(folder / "run.yaml"), "--labels", str(labels), "-o", str(folder / "store")]
    return main([*base, "--crop-px", str(SIDE), "--quiet", *more])


def test_graded_points_find_their_buildings_by_place(
    town: SyntheticEarthquake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = points_file(town, tmp_path / "grading.gpkg")
    code = command(town, tmp_path, labels, "--allow-empty-class", "--json", "--region", "east")
    assert code == 1
    report = json.loads(capsys.readouterr().out)
    assert report["labels"][0]["how"].startswith("points within 5 m")
    store = ChipStore.open(str(tmp_path / "store"))
    assert store.meta.classes[-1] == "destroyed"
    truth = gpd.read_parquet(town.truth).set_index("building_id")["grade"]
    found = store.table["label"].map({0: "slight", 2: "heavy", 3: "destroyed"})
    same = found.to_numpy() == truth[store.table["building_id"]].to_numpy()
    assert same.mean() > 0.97  # footprints are drawn up to a metre off
    assert set(store.table["region"]) == {"east"}
    assert set(store.table["source"]) == {"synthetic-2"}


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ((), "no example of class possibly_damaged"),
        (
            ("--classes", "intact=No visible damage", "gone=Destroyed"),
            r"unknown classes: .*got 'Dam",
        ),
        (("--label-column", "depth"), "no column 'depth'|none of the scales"),
        (("--classes", "only"), "two classes or more"),
        (("--filter", "cloud=1"), "expected epfl"),
        (("--crop-px", "2"), "expected 8 px or more"),
        (("--match-m", "-1"), "expected 0 or more, got -1"),
        (("--all-are", "Destroyed"), "no classes named"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_code_2(
    town: SyntheticEarthquake,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    says: str,
) -> None:
    labels = points_file(town, tmp_path / "grading.gpkg")
    assert command(town, tmp_path, labels, *more) == 2
    check_one_line(capsys, says)
    with pytest.raises(RequestError):
        ChipStore.open(str(tmp_path / "store"))


def check_one_line(capsys: pytest.CaptureFixture[str], says: str) -> None:
    lines = capsys.readouterr().err.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == len(lines) == 1, lines
    assert re.search(says, errors[0]), errors[0]


def test_label_files_that_say_nothing_of_the_imagery_are_one_line(
    town: SyntheticEarthquake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty.geojson"
    empty.write_text('{"type": "FeatureCollection", "features": []}')
    far = points_file(town, tmp_path / "far.gpkg", east_deg=1.0)
    for labels, says in (
        (empty, "labels: .*empty"),
        (far, "none of .* lies on a footprint"),
        (tmp_path / "missing.gpkg", "missing.gpkg"),
    ):
        assert command(town, tmp_path, labels) == 2
        check_one_line(capsys, says)


def test_labels_that_no_scene_shows_are_one_line(town: SyntheticEarthquake, tmp_path: Path) -> None:
    """Footprints with labels far from the scenes, one footprint without under them."""
    outlines = gpd.read_file(town.footprints).iloc[:40]
    moved = outlines.assign(geometry=outlines.translate(0.3, 0.0))
    moved.loc[0, "geometry"] = outlines.geometry[0]
    moved.to_file(tmp_path / "footprints.geojson")
    truth = gpd.read_parquet(town.truth)
    keep = truth["building_id"].isin(moved["id"].iloc[1:])
    truth[keep].to_parquet(tmp_path / "truth.parquet")
    run = run_of(town, tmp_path)
    run = run.model_copy(
        update={
            "aoi": "38.0,36.5,39.5,37.5",
            "footprints": run.footprints.model_copy(
                update={"path": str(tmp_path / "footprints.geojson")}
            ),
        }
    )
    source = source_of(run, town, uri=str(tmp_path / "truth.parquet"))
    with pytest.raises(RequestError, match=r"shows none of the \d+ .*no_imagery") as caught:
        write_run_store(str(tmp_path / "store"), [source], replace(SMALL, empty_classes=True))
    assert "\n" not in str(caught.value)


def test_a_finished_store_is_kept_unless_replaced(
    town: SyntheticEarthquake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = points_file(town, tmp_path / "grading.gpkg")
    classes = ("--classes", "intact=No visible damage", "hit=Damaged,Destroyed")
    assert command(town, tmp_path, labels, *classes) == 1
    capsys.readouterr()
    assert command(town, tmp_path, labels, *classes) == 2
    check_one_line(capsys, "--fresh")
    assert command(town, tmp_path, labels, *classes, "--fresh") == 1


def test_unknown_buildings_are_stored_where_asked_for(
    town: SyntheticEarthquake, tmp_path: Path
) -> None:
    labels = points_file(town, tmp_path / "grading.gpkg")
    more = ("--classes", "intact=No visible damage", "gone=Destroyed", "--ignore", "Damaged")
    assert command(town, tmp_path, labels, *more, "--unlabelled") == 1
    table = ChipStore.open(str(tmp_path / "store")).table
    truth = gpd.read_parquet(town.truth).set_index("building_id")["grade"]
    known = table["building_id"].isin(truth.index)
    unknown = table["label"] < 0
    assert unknown[known].sum() >= 0.9 * (truth == "heavy").sum()
    assert (~unknown).sum() > 40


def test_xbd_folders_are_taken_by_the_same_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tile(tmp_path / "xbd", "quake_00000001")
    assert main(["--xbd", str(tmp_path / "xbd"), "-o", str(tmp_path / "s"), "--crop-px", "16"]) == 0
    assert "5 chips of 5 footprints: no-damage 1, minor-damage 1" in capsys.readouterr().out
    assert main(["run.yaml", "--xbd", str(tmp_path), "-o", str(tmp_path / "s")]) == 2
    assert main(["-o", str(tmp_path / "s")]) == 2


@pytest.mark.data
@pytest.mark.slow
def test_outlines_of_destroyed_buildings_over_a_real_pair(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Adıyaman: detector boxes as footprints, OpenStreetMap says which are destroyed."""
    folder = data_dir / "turkiye-2023-scenes"
    boxes = gpd.read_file(folder / "labels/adiyaman4_detection_boxes.geojson")
    boxes = boxes[boxes["status"] != "only_in_post"].reset_index(drop=True)
    boxes["id"] = [f"box-{n}" for n in range(len(boxes))]
    boxes.to_file(tmp_path / "boxes.gpkg")
    images = sorted(str(p) for p in (folder / "imagery").glob("adiyaman4_*.tif"))
    assert len(images) == 2
    bounds = boxes.to_crs(4326).total_bounds
    content = {
        "event": {"id": "adiyaman", "time": "2023-02-06T01:17:34Z"},
        "aoi": ",".join(f"{v:.6f}" for v in bounds + np.array([-1, -1, 1, 1]) * 0.001),
        "imagery": {
            "catalog": images,
            "post": {"datetime": "2023-02-06/2023-03-01"},
            "pre": {"datetime": "2018-01-01/2023-02-05"},
        },
        "footprints": {"path": str(tmp_path / "boxes.gpkg"), "id": "id"},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(content))
    osm = folder / "labels/osm_destroyed_buildings_turkiye.geojson"
    arguments = [str(tmp_path / "run.yaml"), "--labels", str(osm), "-o", str(tmp_path / "store")]
    arguments += ["--classes", "intact", "destroyed", "--all-are", "destroyed", "--quiet"]
    assert main(arguments) == 2
    check_one_line(capsys, "no example of class intact")
    assert main([*arguments, "--allow-empty-class", "--unlabelled", "--json"]) in (0, 1)
    report = json.loads(capsys.readouterr().out)
    store = ChipStore.open(str(tmp_path / "store"))
    assert report["classes"]["destroyed"] >= 50
    assert report["chips"] + sum(report["dropped"].values()) == report["candidates"]
    assert report["candidates"] >= 500
    assert store.meta.hazard == ()
    # Destroyed buildings changed more than the others, most of which stand.
    chips = store.read(range(len(store)))
    assert chips.pre_NBYX is not None
    gone = np.abs(chips.post_NBYX.astype(int) - chips.pre_NBYX).mean(axis=1)
    change_N = (gone * chips.inside_NYX).sum(axis=(1, 2)) / chips.inside_NYX.sum(axis=(1, 2))
    destroyed_N = chips.label_N == 1
    assert change_N[destroyed_N].mean() > change_N[~destroyed_N].mean() + 1
