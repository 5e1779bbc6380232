"""A small world whose damage depends on shaking and soil and hardly shows in the image.

    logit P(destroyed) = -0.4 + 1.6 (MMI - 7.5) - 1.3 ln(VS30 / 340)

The post-event image of a destroyed building differs by N(44, 9) counts from the one before,
that of a standing one by N(36, 9): `threshold`, whose logit is (difference - 40) / 10, is then
what a calibrated model would be, and a weak one.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import rasterio
import yaml
from affine import Affine
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from pyproj import Transformer
from shapely.geometry import box, mapping

from quakestream.bundles import write_manifest
from quakestream.domain import BundleSpec, HazardInput, ScaleClass
from quakestream.testing import write_bundle
from quakestream.testing.worlds import EPSG, GSD_M, NORTH_M, WEST_M, write_scene
from quakestream.tiling import unproject

SIDE_PX = 420
SIDE_M = SIDE_PX * GSD_M
PITCH_M, BUILDING_M = 12.0, 8.0
SHAKEN_TO_M = 170.0
"""Hazard files end this far south of the image's north edge."""
EVENT_TIME = "2023-02-06T01:17:34Z"
UNITS = {"mmi": "mmi", "vs30_m_s": "m/s", "pga_g": "g", "ndbi": ""}
FLOAT = TensorProto.FLOAT


@dataclass(frozen=True, slots=True, kw_only=True)
class ShakenWorld:
    """Files of the world, and its true damage."""

    folder: Path
    run_file: Path
    truth: pd.DataFrame
    """Table by building id: `destroyed`, `imaged`, `shaken`, and `p_destroyed` of MMI and VS30."""

    @property
    def prior(self) -> tuple[float, float]:
        """Class shares in this world, by the fragility function."""
        share = float(self.truth["p_destroyed"].mean())
        return 1.0 - share, share

    def run(self, name: str, **changed: Any) -> Path:
        """Writes a copy of the run file. Sections are replaced; `models` is extended."""
        content = yaml.safe_load(self.run_file.read_text())
        models = content["models"] | changed.pop("models", {})
        path = self.folder / f"{name}.yaml"
        content |= {"out": str(self.folder / f"out-{name}"), **changed, "models": models}
        path.write_text(yaml.safe_dump(content))
        return path


def mmi_at(x_m: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intensity by metres east of the image's west edge."""
    return 5.5 + 4.0 * x_m / SIDE_M


def vs30_at(y_m: NDArray[np.float64]) -> NDArray[np.float64]:
    """VS30, m/s, by metres south of the image's north edge."""
    return 700.0 * np.exp(-1.2 * y_m / SIDE_M)


def fragility(mmi: NDArray[np.float64], vs30: NDArray[np.float64]) -> NDArray[np.float64]:
    logit = -0.4 + 1.6 * (mmi - 7.5) - 1.3 * np.log(vs30 / 340.0)
    return np.asarray(1.0 / (1.0 + np.exp(-logit)))


def make_shaken_world(folder: Path, seed: int = 0) -> ShakenWorld:
    """Scenes, footprints, ShakeMap, VS30, truth and a run file without `models.hazard`.

    The last column of buildings lies beyond the image; the last rows beyond the hazard files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    across = np.arange(3.0, SIDE_M + 2 * PITCH_M, PITCH_M)
    down = np.arange(3.0, SIDE_M - PITCH_M, PITCH_M)
    x_N, y_N = (a.ravel() for a in np.meshgrid(across, down))
    centre = BUILDING_M / 2
    p_N = fragility(mmi_at(x_N + centre), vs30_at(y_N + centre))
    destroyed_N = rng.random(len(x_N)) < p_N
    truth = pd.DataFrame(
        {
            "destroyed": destroyed_N,
            "p_destroyed": p_N,
            "imaged": x_N + BUILDING_M <= SIDE_M,
            "shaken": y_N + BUILDING_M <= SHAKEN_TO_M,
        },
        index=pd.Index([f"b{n:03}" for n in range(len(x_N))], name="building_id"),
    )
    _write_scenes(folder, rng, x_N, y_N, destroyed_N)
    _write_footprints(folder / "footprints.geojson", x_N, y_N)
    _write_shakemap(folder / "grid.xml")
    _write_vs30(folder / "vs30.tif")
    write_bundle(folder / "difference")
    area = box(WEST_M, NORTH_M - SIDE_M, WEST_M + SIDE_M, NORTH_M).buffer(60)
    run_file = folder / "run.yaml"
    content = {
        "event": {"id": "shaken", "time": EVENT_TIME},
        "aoi": unproject(np.array([area], object), EPSG)[0].wkt,
        "imagery": {
            "catalog": [str(folder / "pre_20220801.tif"), str(folder / "post_20230210.tif")],
            "post": {"datetime": "2023-02-06/2023-03-01"},
            "pre": {"datetime": "2018-01-01/2023-02-05"},
        },
        "footprints": {"path": str(folder / "footprints.geojson"), "id": "id"},
        "hazard": {"shakemaps": [str(folder / "grid.xml")], "vs30": str(folder / "vs30.tif")},
        "models": {"damage": str(folder / "difference")},
        "execution": {"runtime": "threshold", "cell_windows": 2, "group_cells": 4},
        "out": str(folder / "out"),
    }
    run_file.write_text(yaml.safe_dump(content))
    return ShakenWorld(folder=folder, run_file=run_file, truth=truth)


def _write_scenes(
    folder: Path,
    rng: np.random.Generator,
    x_N: NDArray[np.float64],
    y_N: NDArray[np.float64],
    destroyed_N: NDArray[np.bool_],
) -> None:
    base_BYX = rng.integers(30, 140, (3, SIDE_PX, SIDE_PX))
    change_N = rng.normal(np.where(destroyed_N, 44.0, 36.0), 9.0).clip(0, 100).round().astype(int)
    post_BYX = base_BYX.copy()
    side = round(BUILDING_M / GSD_M)
    for x, y, change in zip(x_N / GSD_M, y_N / GSD_M, change_N, strict=True):
        post_BYX[:, int(y) : int(y) + side, int(x) : int(x) + side] += change
    write_scene(folder / "pre_20220801.tif", base_BYX.astype(np.uint8))
    write_scene(folder / "post_20230210.tif", post_BYX.astype(np.uint8))


def _write_footprints(path: Path, x_N: NDArray[np.float64], y_N: NDArray[np.float64]) -> None:
    north_N = NORTH_M - y_N
    outlines = np.array(
        [
            box(WEST_M + x, north - BUILDING_M, WEST_M + x + BUILDING_M, north)
            for x, north in zip(x_N, north_N, strict=True)
        ],
        object,
    )
    features = [
        {"type": "Feature", "properties": {"id": f"b{n:03}"}, "geometry": mapping(outline)}
        for n, outline in enumerate(unproject(outlines, EPSG))
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def _write_shakemap(path: Path, lift: float = 0.0) -> None:
    """Writes two columns of nodes, enough for an intensity that is linear eastward.

    Args:
        lift: added to the intensity, as a later version of the map might.
    """
    to_degrees = Transformer.from_crs(EPSG, 4326, always_xy=True)
    west, east = WEST_M - 100.0, WEST_M + SIDE_M + 100.0
    # Meridians differ from the grid's north by a fraction of a metre over this world.
    lon_w, lat_n = to_degrees.transform(west, NORTH_M + 40.0)
    lon_e, _ = to_degrees.transform(east, NORTH_M)
    _, lat_s = to_degrees.transform(WEST_M + SIDE_M / 2, NORTH_M - SHAKEN_TO_M)
    mmi_w, mmi_e = mmi_at(np.array([-100.0, SIDE_M + 100.0])) + lift
    rows = "\n".join(
        f"{lon:.8f} {lat:.8f} {mmi:.4f}"
        for lat in (lat_n, lat_s)
        for lon, mmi in ((lon_w, mmi_w), (lon_e, mmi_e))
    )
    fields = "".join(
        f'<grid_field index="{i}" name="{name}" units=""/>'
        for i, name in enumerate(("LON", "LAT", "MMI"), start=1)
    )
    path.write_text(
        '<shakemap_grid event_id="shaken" shakemap_version="1" process_timestamp='
        f'"{EVENT_TIME}" map_status="RELEASED"><grid_specification lon_min="{lon_w:.8f}" '
        f'lat_min="{lat_s:.8f}" lon_max="{lon_e:.8f}" lat_max="{lat_n:.8f}" nlon="2" nlat="2"/>'
        f"{fields}<grid_data>\n{rows}\n</grid_data></shakemap_grid>"
    )


def shake_harder(world: ShakenWorld, lift: float) -> None:
    """Writes a later version of the ShakeMap under the same name."""
    _write_shakemap(world.folder / "grid.xml", lift)


def _write_vs30(path: Path) -> None:
    pixel_m = 5.0
    height = int(SHAKEN_TO_M / pixel_m)
    values_Y = vs30_at((np.arange(height) + 0.5) * pixel_m)
    values_YX = np.repeat(values_Y[:, None], int((SIDE_M + 100.0) / pixel_m), axis=1)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=1,
        height=height,
        width=values_YX.shape[1],
        dtype="float32",
        crs=EPSG,
        transform=Affine(pixel_m, 0, WEST_M, 0, -pixel_m, NORTH_M),
    ) as target:
        target.write(values_YX.astype(np.float32), 1)


INTACT_DESTROYED = (
    ScaleClass(
        index=0, label="standing", xbd="no", ems98=(0, 1, 2, 3), copernicus="No visible damage"
    ),
    ScaleClass(index=1, label="fallen", xbd="destroyed", ems98=(4, 5), copernicus="Destroyed"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Logistic:
    """Logit of a class: an intercept and, for each hazard value, its zero point and slope."""

    intercept: float
    slopes: dict[str, tuple[float, float]]


FRAGILITY = Logistic(intercept=-0.4, slopes={"mmi": (7.5, 1.6), "vs30_m_s": (340.0, -1.3 / 340.0)})
"""The fragility function with its soil term linear around 340 m/s: a model, not the truth."""


def write_hazard_bundle(
    folder: Path,
    model: Logistic = FRAGILITY,
    *,
    prior: tuple[float, ...] = (),
    classes: tuple[ScaleClass, ...] = INTACT_DESTROYED,
    units: dict[str, str] | None = None,
    broken_above: float = np.inf,
) -> Path:
    """A bundle of task hazard: a logistic link for the last class, 0 for the others.

    Args:
        units: units of values that the graph takes in another unit than the column has.
        broken_above: values of the first input beyond which the logits are NaN.
    """
    folder.mkdir(parents=True, exist_ok=True)
    graph = _graph(model, len(classes), broken_above)
    (folder / "model.onnx").write_bytes(graph.SerializeToString())
    hazard_NM = np.array([[zero for zero, _ in model.slopes.values()]], np.float32)
    logits = np.zeros((1, len(classes)), np.float32)
    logits[:, -1] = model.intercept
    np.savez(folder / "golden.npz", allow_pickle=False, hazard=hazard_NM, logits=logits)
    wanted = UNITS | (units or {})
    spec = BundleSpec(
        name=folder.name,
        version="1",
        task="hazard",
        dtype="float32",
        normalisation="fixed",
        hazard=tuple(
            HazardInput(name=name, unit=wanted.get(name, ""), mean=zero, std=1.0)
            for name, (zero, _) in model.slopes.items()
        ),
        classes=classes,
        prior=prior,
        metrics={"made_for": "tests"},
    )
    write_manifest(folder, spec)
    return folder


def _graph(model: Logistic, classes: int, broken_above: float) -> onnx.ModelProto:
    """A graph in which a missing value (NaN) counts as its zero point and changes nothing."""
    zeros = np.array([[zero for zero, _ in model.slopes.values()]], np.float32)
    weights = np.zeros((len(model.slopes), classes), np.float32)
    weights[:, -1] = [slope for _, slope in model.slopes.values()]
    bias = np.zeros(classes, np.float32)
    bias[-1] = model.intercept
    constants = {
        "zeros": zeros,
        "weights": weights,
        "bias": bias,
        "limit": np.array([broken_above], np.float32),
        "nan": np.array([np.nan], np.float32),
        "first": np.array([0], np.int64),
    }
    nodes = [
        helper.make_node("IsNaN", ["hazard"], ["absent"]),
        helper.make_node("Where", ["absent", "zeros", "hazard"], ["whole"]),
        helper.make_node("Sub", ["whole", "zeros"], ["away"]),
        helper.make_node("MatMul", ["away", "weights"], ["sloped"]),
        helper.make_node("Add", ["sloped", "bias"], ["linked"]),
        helper.make_node("Gather", ["whole", "first"], ["one"], axis=1),
        helper.make_node("Greater", ["one", "limit"], ["beyond"]),
        helper.make_node("Where", ["beyond", "nan", "linked"], ["logits"]),
    ]
    values = len(model.slopes)
    made = helper.make_graph(
        nodes,
        "link",
        [helper.make_tensor_value_info("hazard", FLOAT, ["batch", values])],
        [helper.make_tensor_value_info("logits", FLOAT, ["batch", classes])],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    opsets = [helper.make_opsetid("", 18)]
    found = helper.make_model(made, opset_imports=opsets, ir_version=10)
    onnx.checker.check_model(found)
    return found
