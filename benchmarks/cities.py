"""How many buildings does a map declare destroyed, how many does it expect, and how many are?

One row per city and bundle, from the main job: declared and expected numbers with the 90 % interval
of the run, the truth among labelled buildings, and precision, recall and calibration error before
and after the calibration of buildings. "Before" is the score of a building, which assumes that half
of all buildings are destroyed, and the bundle's balanced threshold.
"""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from benchmarks.common import as_row, data_dir, main, quakestream
from benchmarks.kahramanmaras import write_run
from quakestream.bundles import load_bundle
from quakestream.outputs.matching import match
from quakestream.outputs.truth import TruthRequest, read_truth
from quakestream.synthetic import TRAINING, make_earthquake
from training.shares.judge import calibration_error
from training.shares.tables import SHARES, real_pairs

BUNDLES = ("damage-turkiye-2023", "damage-context-2023", "damage-synthetic")
FIRST_SEED = 701
SIDE_M = 700.0
FEBRUARY_6 = datetime(2023, 2, 6, 1, 17, tzinfo=UTC)
FEBRUARY = {"pre": "2018-01-01/2023-02-05", "post": "2023-02-06/2023-03-01"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledCity:
    """A run and the state of some of its buildings."""

    name: str
    run_file: Path
    destroyed: pd.Series
    """True or False by building id; buildings of unknown state are left out."""
    trained_on: tuple[str, ...] = ()
    """Bundles that have seen this city in training."""


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    folder = Path(tempfile.mkdtemp(prefix="quakestream-cities-"))
    rows = [
        judged(city, bundle, folder / f"{number}-{bundle}")
        for number, city in enumerate(cities(folder, quick))
        for bundle in BUNDLES[: 1 if quick else None]
    ]
    return {"bundles": list(BUNDLES), "synthetic_shares": list(SHARES)}, {"rows": rows}


def cities(folder: Path, quick: bool) -> Iterator[LabelledCity]:
    """Cities with labels. İslahiye has no image before: models of pairs cannot judge it."""
    yield kahramanmaras(folder)
    yield mexico(folder)
    if quick:
        return
    yield joplin(folder)
    yield from turkiye(folder)
    for number, share in enumerate(SHARES):
        yield synthetic(folder, FIRST_SEED + number, share)


def judged(city: LabelledCity, bundle: str, out: Path) -> dict[str, Any]:
    """Runs the main job with one bundle and compares."""
    run_file = with_bundle(city.run_file, bundle)
    done = quakestream("map", str(run_file), "--out", str(out), "--json", "--quiet")
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stderr)
    table = gpd.read_parquet(out / "buildings.parquet").set_index("building_id")
    table = table[table["status"] == "assessed"]
    shares = json.loads((out / "run.json").read_text())["shares"]["run"]
    known = table.join(city.destroyed.rename("truth"), how="inner")
    truth_N = known["truth"].to_numpy(bool)
    before_N = known["score"].to_numpy(np.float64)
    threshold = load_bundle(bundle).spec.thresholds.balanced
    after_N = known["p_destroyed"].to_numpy(np.float64)
    return {
        "city": city.name,
        "bundle": bundle,
        "trained_on_it": bundle in city.trained_on,
        "assessed": len(table),
        "declared_before": int((table["score"] >= threshold).sum()),
        "declared": int(shares["declared"]),
        "expected": [shares[k] for k in ("expected", "expected_low", "expected_high")],
        "share": [shares[k] for k in ("share", "low", "high")],
        "labelled": len(known),
        "destroyed": int(truth_N.sum()),
        "before": _figures(before_N >= threshold, before_N, truth_N),
        "after": _figures(known["damage"].to_numpy(np.int64) == 1, after_N, truth_N),
        **as_row(done),
    }


def _figures(
    declared_N: NDArray[np.bool_], p_N: NDArray[np.float64], truth_N: NDArray[np.bool_]
) -> dict[str, Any]:
    right = int((declared_N & truth_N).sum())
    declared, destroyed = int(declared_N.sum()), int(truth_N.sum())
    return {
        "declared": declared,
        "precision": right / declared if declared else None,
        "recall": right / destroyed if destroyed else None,
        "expected": float(p_N.sum()),
        "ece": calibration_error(p_N, truth_N) if len(p_N) else None,
    }


def with_bundle(run_file: Path, bundle: str) -> Path:
    """The run file with another bundle."""
    content = yaml.safe_load(run_file.read_text())
    content.setdefault("models", {})["damage"] = bundle
    path = run_file.with_name(f"{run_file.stem}-{bundle}.yaml")
    path.write_text(yaml.safe_dump(content))
    return path


def kahramanmaras(folder: Path) -> LabelledCity:
    """Boxes seen before; Copernicus points within 5 m of them, Destroyed and Damaged or none."""
    source = data_dir() / "kahramanmaras-2023-main"
    run_file = write_run(source, folder, BUNDLES[0])
    boxes = gpd.read_file(folder / "boxes.geojson").rename(columns={"id": "building_id"})
    points = source / "labels" / "EMSR648_AOI04_GRA_MONIT01_builtUpP_r1_v1.json"
    rows = match(read_truth(TruthRequest(uri=str(points)), ()), boxes, 5.0).rows
    severe = rows["severe"][rows["severe"] >= 0]
    state = pd.Series(severe.to_numpy() == 1, boxes["building_id"].loc[severe.index])
    return LabelledCity(name="Kahramanmaraş", run_file=run_file, destroyed=state)


def mexico(folder: Path) -> LabelledCity:
    """One chip 34° off nadir where nothing fell: 447 of 449 undamaged, 2 with minor damage."""
    source = data_dir() / "xbd-mexico-2017"
    label = json.loads((source / "mexico-earthquake_00000000_post_disaster.json").read_text())
    items = label["features"]["lng_lat"]
    ids = [item["properties"]["uid"] for item in items]
    outlines = gpd.GeoSeries.from_wkt([item["wkt"] for item in items], crs=4326)
    fallen = [item["properties"]["subtype"] == "destroyed" for item in items]
    scenes = {
        epoch: source / f"mexico-earthquake_00000000_{epoch}_disaster.tif"
        for epoch in ("pre", "post")
    }
    frame = gpd.GeoDataFrame({"id": ids}, geometry=outlines)
    run_file = _write(folder, "mexico", frame, scenes, datetime(2017, 9, 19, 18, 14, tzinfo=UTC))
    return LabelledCity(
        name="Mexico (nothing fell)", run_file=run_file, destroyed=pd.Series(fallen, ids)
    )


def joplin(folder: Path) -> LabelledCity:
    """A tornado. Footprints are of 2020, after rebuilding, so that no truth belongs to them."""
    source = data_dir() / "joplin-2011"
    frame = gpd.read_file(source / "building_footprints.geojson")[["geometry"]]
    frame["id"] = [f"f{n:04}" for n in range(len(frame))]
    scenes = {epoch: source / f"joplin_{epoch}_mosaic.tif" for epoch in ("pre", "post")}
    run_file = _write(folder, "joplin", frame, scenes, datetime(2011, 5, 22, 22, 34, tzinfo=UTC))
    return LabelledCity(
        name="Joplin (no truth)", run_file=run_file, destroyed=pd.Series(dtype=bool)
    )


def turkiye(folder: Path) -> Iterator[LabelledCity]:
    """Cities of the Türkiye pairs, by their labelled buildings' bounds; labels are weak."""
    images = data_dir() / "turkiye-2023-scenes" / "imagery"
    frames: dict[str, list[gpd.GeoDataFrame]] = {}
    scenes: dict[str, list[Path]] = {}
    state: dict[str, dict[str, bool]] = {}
    for pair in real_pairs():
        outlines = [b.geometry for b in pair.buildings]
        frame = gpd.GeoDataFrame(
            {"id": [b.id for b in pair.buildings]}, geometry=outlines, crs=pair.grid.epsg
        )
        frames.setdefault(pair.region, []).append(frame.to_crs(4326))
        scenes.setdefault(pair.region, []).extend(sorted(images.glob(f"{pair.name}_*.tif")))
        state.setdefault(pair.region, {}).update({b.id: b.destroyed for b in pair.buildings})
    for region, parts in frames.items():
        frame = gpd.GeoDataFrame(pd.concat(parts, ignore_index=True), crs=4326)
        content = _content(folder, region, frame, scenes[region], FEBRUARY_6)
        content["imagery"] |= {epoch: {"datetime": when} for epoch, when in FEBRUARY.items()}
        path = folder / f"{region}.yaml"
        path.write_text(yaml.safe_dump(content))
        yield LabelledCity(
            name=region,
            run_file=path,
            destroyed=pd.Series(state[region]),
            trained_on=("damage-turkiye-2023", "damage-context-2023"),
        )


def synthetic(folder: Path, seed: int, share: float) -> LabelledCity:
    """A synthetic town of a seed that no model, no calibration and no choice has seen."""
    size = replace(TRAINING, destroyed=share, extent_m=(SIDE_M, SIDE_M))
    town = make_earthquake(folder / f"seed-{seed}", seed=seed, size=size)
    truth = gpd.read_parquet(town.truth).set_index("building_id")["damage_label"]
    return LabelledCity(
        name=f"synthetic {share:.1%}",
        run_file=town.run_file,
        destroyed=truth == "destroyed",
    )


def _write(
    folder: Path, name: str, frame: gpd.GeoDataFrame, scenes: dict[str, Path], event: datetime
) -> Path:
    """A run file; scenes without a date get the year before the event, and the day after it."""
    days = {"pre": event - timedelta(days=365), "post": event + timedelta(days=1)}
    dated = []
    for epoch, path in scenes.items():
        dated.append(folder / f"{name}_{epoch}_{days[epoch]:%Y%m%d}.tif")
        dated[-1].symlink_to(path)
    content = _content(folder, name, frame, dated, event)
    content["imagery"] |= {
        "pre": {"datetime": f"{days['pre']:%Y-%m-%d}/{event:%Y-%m-%d}"},
        "post": {"datetime": f"{event:%Y-%m-%d}/{days['post']:%Y-%m-%d}"},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def _content(
    folder: Path, name: str, frame: gpd.GeoDataFrame, scenes: list[Path], event: datetime
) -> dict[str, Any]:
    footprints = folder / f"{name}.geojson"
    frame.to_file(footprints)
    west, south, east, north = frame.total_bounds
    return {
        "event": {"id": name, "time": event.isoformat()},
        "aoi": f"{west - 1e-3},{south - 1e-3},{east + 1e-3},{north + 1e-3}",
        "imagery": {"catalog": [str(path) for path in scenes]},
        "footprints": {"path": str(footprints), "id": "id"},
    }


if __name__ == "__main__":
    main("cities", run)
