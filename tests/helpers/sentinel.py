"""Small items like those of Sentinel-2: a COG per band at 10, 20 and 60 m, and its SCL."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
import yaml
from affine import Affine
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from rasterio.warp import transform_geom

from quakestream.bundles import write_manifest
from quakestream.domain import BundleSpec, ScaleClass
from quakestream.domain.bundle import Task
from quakestream.testing.bundles import CLASSES
from quakestream.tiling import unproject

EPSG = 32637
WEST_M, NORTH_M = 399_960.0, 4_200_000.0
"""Corner of a tile: a multiple of 60 m, so that the pixels of 10, 20 and 60 m share corners."""
BANDS: dict[str, tuple[str, int, float]] = {
    "B01": ("coastal", 60, 0.443),
    "B02": ("blue", 10, 0.490),
    "B03": ("green", 10, 0.560),
    "B04": ("red", 10, 0.665),
    "B05": ("rededge071", 20, 0.704),
    "B06": ("rededge075", 20, 0.740),
    "B07": ("rededge078", 20, 0.783),
    "B08": ("nir", 10, 0.842),
    "B8A": ("nir08", 20, 0.865),
    "B09": ("nir09", 60, 0.945),
    "B10": ("cirrus", 60, 1.375),
    "B11": ("swir16", 20, 1.610),
    "B12": ("swir22", 20, 2.190),
}
"""Common name, pixel size in metres and centre wavelength in micrometres of each band."""


def counts_of(number: int, side_m: int, gsd_m: int) -> NDArray[np.uint16]:
    """Counts of a band: noise on a slope, none of them 0."""
    side = side_m // gsd_m
    rng = np.random.default_rng(number)
    slope_X = np.linspace(0, 900, side)
    noise_YX = rng.integers(1200 + 100 * number, 2600 + 100 * number, (side, side))
    return np.asarray(noise_YX + slope_X, np.uint16)


def write_raster(
    path: Path, counts_BYX: NDArray[Any], gsd_m: float, *, epsg: int = EPSG, **options: Any
) -> Path:
    """A tiled GeoTIFF with its upper left corner at the tile's."""
    bands, height, width = counts_BYX.shape
    scales, offsets = options.pop("scales", None), options.pop("offsets", None)
    descriptions = options.pop("descriptions", None)
    corner = options.pop("corner", (WEST_M, NORTH_M))
    profile = {
        "driver": "GTiff",
        "count": bands,
        "height": height,
        "width": width,
        "dtype": counts_BYX.dtype,
        "crs": epsg,
        "transform": Affine(gsd_m, 0, corner[0], 0, -gsd_m, corner[1]),
        "tiled": True,
        "blockxsize": 64,
        "blockysize": 64,
        "compress": "deflate",
        **options,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(counts_BYX)
        if scales is not None:
            dataset.scales, dataset.offsets = scales, offsets
        if descriptions is not None:
            dataset.descriptions = descriptions
    return path


def outline_of(side_m: int, epsg: int = EPSG) -> dict[str, Any]:
    """The tile's square, EPSG:4326."""
    square = shapely.box(WEST_M, NORTH_M - side_m, WEST_M + side_m, NORTH_M)
    shown = transform_geom(f"EPSG:{epsg}", "EPSG:4326", shapely.geometry.mapping(square))
    assert isinstance(shown, dict)
    return shown


@dataclass(frozen=True, kw_only=True)
class SentinelItem:
    """An item and the counts of its files."""

    folder: Path
    name: str = "S2B_37SDB_20230209_0_L2A"
    side_m: int = 2400
    counts: dict[str, NDArray[np.uint16]] = field(default_factory=dict)
    document: dict[str, Any] = field(default_factory=dict)

    def write(self, path: Path | None = None) -> Path:
        """The item as a file."""
        path = path or self.folder / f"{self.name}.json"
        path.write_text(json.dumps(self.document))
        return path


def make_item(
    folder: Path,
    *,
    bands: tuple[str, ...] = tuple(BANDS),
    side_m: int = 2400,
    baseline: str = "04.00",
    applied: bool | None = None,
    scl: NDArray[np.uint8] | None = None,
    name: str = "S2B_37SDB_20230209_0_L2A",
    time: str = "2023-02-09T08:20:00Z",
    **properties: Any,
) -> SentinelItem:
    """Writes the files of an item, and describes it as Planetary Computer does.

    Args:
        scl: classes at 20 m; None: the item has no SCL.
        applied: `earthsearch:boa_offset_applied`; None: not stated.
    """
    assets: dict[str, Any] = {}
    counts: dict[str, NDArray[np.uint16]] = {}
    for number, band in enumerate(bands, start=1):
        common, gsd_m, um = BANDS[band]
        counts[band] = counts_of(number, side_m, gsd_m)
        write_raster(folder / f"{name}_{band}.tif", counts[band][None], gsd_m, nodata=0)
        listed = {"name": band, "common_name": common, "center_wavelength": um}
        assets[band] = {
            "href": f"{name}_{band}.tif",
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "roles": ["data"],
            "gsd": gsd_m,
            "eo:bands": [listed],
        }
    if scl is not None:
        write_raster(folder / f"{name}_SCL.tif", scl[None], 20)
        assets["SCL"] = {
            "href": f"{name}_SCL.tif",
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "roles": ["data"],
        }
    said = {} if applied is None else {"earthsearch:boa_offset_applied": applied}
    document = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "geometry": outline_of(side_m),
        "properties": {
            "datetime": time,
            "platform": "sentinel-2b",
            "constellation": "sentinel-2",
            "s2:processing_baseline": baseline,
            "eo:cloud_cover": 3.0,
            **said,
            **properties,
        },
        "links": [],
        "assets": assets,
    }
    return SentinelItem(folder=folder, name=name, side_m=side_m, counts=counts, document=document)


def write_reflectance_bundle(
    folder: Path,
    bands: tuple[str, ...],
    weight: dict[str, float],
    *,
    bias: float = 0.0,
    gsd_m: float = 10.0,
    task: Task = "segmentation",
    substitutes: dict[str, tuple[str, ...]] | None = None,
) -> Path:
    """A bundle whose logit is a weighted sum of bands in each pixel, on windows of 32 pixels."""
    window_px = 32
    weight_B = np.array([weight.get(band, 0.0) for band in bands], np.float32)
    labels = ("background", "landslide")
    slides = tuple(ScaleClass(index=n, label=label) for n, label in enumerate(labels))
    spec = BundleSpec(
        name="weighted-bands",
        version="1",
        task=task,
        epochs=("post",),
        bands=bands,
        band_substitutes=substitutes or {},
        gsd_m=gsd_m,
        window_px=window_px,
        halo_px=4,
        dtype="float32",
        normalisation="fixed",
        classes=slides if task == "landslide" else CLASSES,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(_weighted_sum(weight_B, bias, window_px))
    shape = (1, len(bands), window_px, window_px)
    post = np.random.default_rng(0).random(shape, np.float32)
    logits = np.tensordot(weight_B, post[0], axes=1)[None, None] + np.float32(bias)
    np.savez(folder / "golden.npz", allow_pickle=False, post=post, logits=logits)
    write_manifest(folder, spec)
    return folder


def _weighted_sum(weight_B: NDArray[np.float32], bias: float, window_px: int) -> bytes:
    kernel = numpy_helper.from_array(weight_B.reshape(1, -1, 1, 1), "kernel")
    shift = numpy_helper.from_array(np.array([bias], np.float32), "shift")
    shape = ["N", len(weight_B), window_px, window_px]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["post", "kernel", "shift"], ["logits"])],
        "weighted-bands",
        [helper.make_tensor_value_info("post", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 1, *shape[2:]])],
        [kernel, shift],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def run_file(folder: Path, catalogue: Path | list[Path], bundle: Path, **more: Any) -> Path:
    """A run over squares of 120 m, one in each 240 m of the tile."""
    side_m = more.pop("side_m", 2400)
    ground = shapely.box(WEST_M, NORTH_M - side_m, WEST_M + side_m, NORTH_M)
    squares = [
        shapely.box(WEST_M + x, NORTH_M - y - 120, WEST_M + x + 120, NORTH_M - y)
        for y in range(60, side_m, 240)
        for x in range(60, side_m, 240)
    ]
    shown = unproject(np.array(squares, object), EPSG)
    features = [
        {
            "type": "Feature",
            "properties": {"id": f"b{n:03}"},
            "geometry": shapely.geometry.mapping(s),
        }
        for n, s in enumerate(shown)
    ]
    footprints = folder / "footprints.geojson"
    footprints.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    places = [catalogue] if isinstance(catalogue, Path) else catalogue
    imagery = {"catalog": [str(p) for p in places], "post": {"datetime": "2023-02-06/2023-03-01"}}
    content: dict[str, Any] = {
        "event": {"id": "tile", "time": "2023-02-06T01:17:34Z"},
        "aoi": unproject(np.array([ground.buffer(-20)], object), EPSG)[0].wkt,
        "imagery": imagery | more.pop("imagery", {}),
        "footprints": {"path": str(footprints), "id": "id"},
        "models": {"damage": str(bundle)},
        "execution": {"runtime": "onnxruntime", "cell_windows": 2},
        "out": str(folder / "out"),
        **more,
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(content))
    return path
