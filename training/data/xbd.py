"""xBD / xView2 folders: image pairs with buildings graded from no damage to destroyed.

A tile is `NAME_pre_disaster` and `NAME_post_disaster`, images (PNG or TIFF) and label JSON in
one folder or in `images/` and `labels/` beside each other. PNG has no georeference; the labels
give every corner in pixels and in degrees, which is one. Format: Gupta et al. 2019, arXiv
1911.09296.
"""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from PIL import Image as Picture
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from quakestream.domain import Issue, utm_epsg
from quakestream.errors import InputError, RequestError, SceneError
from quakestream.tiling import project
from training.data.labels import XBD, Scale
from training.data.pair_store import Cutting, ImagePair, write_pair_store
from training.data.pairs import Building, LabelledPair
from training.data.scenes import read_pair
from training.data.store import ChipStore

GSD_M = 0.5
"""Tiles differ by a few percent in pixel size; all are brought to one."""
POST = "_post_disaster"
SUFFIXES = (".png", ".tif", ".tiff")
OFF_PX = 0.5
"""How far a corner may lie from where the tile's georeference puts it."""
DESTROYED, INTACT = ("destroyed", "major-damage"), ("no-damage",)


@dataclass(frozen=True, slots=True, kw_only=True)
class XbdTile:
    """Files of one tile."""

    name: str
    disaster: str
    """What stands before the number: `mexico-earthquake`."""
    pre: Path
    post: Path
    label: Path


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class XbdLabel:
    """A post-event label file: N buildings."""

    id_N: tuple[str, ...]
    lonlat_N: NDArray[np.object_]
    """Outlines, EPSG:4326."""
    pixel_N: NDArray[np.object_]
    """The same in (column, row) of the image."""
    subtype_N: tuple[str, ...]
    """As given; empty where a building has none."""


@dataclass(slots=True)
class Found:
    """Tiles of a folder, and what cannot be used of it."""

    tiles: list[XbdTile] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)


def find_tiles(folder: Path) -> Found:
    """Tiles of a folder and its subfolders, by name.

    Raises:
        RequestError: if it holds no post-event label file.
    """
    labels = sorted(folder.rglob(f"*{POST}.json"))
    if not labels:
        raise RequestError(f"{folder} holds no *{POST}.json; expected an xBD folder")
    found = Found()
    for label in labels:
        name = label.stem.removesuffix(POST)
        images = [_image(label, f"{name}_{epoch}_disaster") for epoch in ("pre", "post")]
        if None in images:
            missing = [e for e, i in zip(("pre", "post"), images, strict=True) if i is None]
            found.issues.append(_issue(name, f"no {' and no '.join(missing)} image near {label}"))
            continue
        pre, post = images
        assert pre is not None
        assert post is not None
        disaster = name.rsplit("_", 1)[0]
        found.tiles.append(XbdTile(name=name, disaster=disaster, pre=pre, post=post, label=label))
    return found


def read_label(path: Path) -> XbdLabel:
    """The buildings of a label file.

    Raises:
        SceneError: if it is no xBD label file.
    """
    try:
        features = json.loads(path.read_bytes())["features"]
        pairs = [
            (low, high)
            for low, high in zip(features["lng_lat"], features["xy"], strict=True)
            if low["properties"].get("feature_type", "building") == "building"
        ]
        lonlat = shapely.from_wkt([low["wkt"] for low, _ in pairs])
        pixel = shapely.from_wkt([high["wkt"] for _, high in pairs])
        return XbdLabel(
            id_N=tuple(str(low["properties"]["uid"]) for low, _ in pairs),
            lonlat_N=np.asarray(lonlat, object).reshape(-1),
            pixel_N=np.asarray(pixel, object).reshape(-1),
            subtype_N=tuple(str(low["properties"].get("subtype") or "") for low, _ in pairs),
        )
    except (ValueError, KeyError, TypeError, OSError, shapely.errors.GEOSException) as error:
        raise SceneError(f"{path} is no xBD label file: {error!r}") from error


def georeference(label: XbdLabel, name: str) -> tuple[int, Affine]:
    """EPSG code and transform (column, row to metres) that the labels' corners agree on.

    Raises:
        SceneError: if there are too few corners, they disagree, or the image is not north-up.
    """
    if len(label.id_N) == 0:
        raise SceneError(f"tile {name} has no building, so nothing says where it lies")
    lon, lat = shapely.get_coordinates(label.lonlat_N).mean(axis=0)
    epsg = utm_epsg(float(lon), float(lat))
    metres_P2 = shapely.get_coordinates(project(label.lonlat_N, epsg))
    pixels_P2 = shapely.get_coordinates(label.pixel_N)
    spread = np.ptp(pixels_P2, axis=0) if len(pixels_P2) == len(metres_P2) else (0.0, 0.0)
    if min(spread) < 1:
        raise SceneError(f"tile {name}: outlines in pixels and in degrees do not match")
    design_P3 = np.column_stack([pixels_P2, np.ones(len(pixels_P2))])
    fit_32, *_ = np.linalg.lstsq(design_P3, metres_P2, rcond=None)
    (a, d), (b, e), (c, f) = fit_32.tolist()
    off_px = np.abs(design_P3 @ fit_32 - metres_P2).max() / max(abs(a), 1e-9)
    # over the tile a turned image's columns would drift this many pixels
    turn_px = max(abs(b / a), abs(d / e)) * 1024 if a > 0 > e else np.inf
    if off_px > OFF_PX or turn_px > 1:
        raise SceneError(
            f"tile {name}: corners lie up to {off_px:.1f} px off a north-up georeference, "
            f"expected at most {OFF_PX:g}"
        )
    return epsg, Affine(a, 0.0, c, 0.0, e, f)


def xbd_pair(tile: XbdTile, scale: Scale = XBD, gsd_m: float = GSD_M) -> ImagePair:
    """A tile on the UTM grid of its place.

    Raises:
        RequestError: if a building's subtype is not one of the scale's.
        SceneError: if its images or labels cannot be used.
        StorageError: if an image is not there.
    """
    label = read_label(tile.label)
    label_N = scale.index_of(pd.Series(label.subtype_N, dtype=object), f"{tile.label}")
    with _georeferenced(tile, label) as (pre_href, post_href):
        pre, post = read_pair(pre_href, post_href, gsd_m)
    polygon_N = project(label.lonlat_N, post.grid.epsg)
    usable_N = shapely.is_valid(polygon_N) & (shapely.area(polygon_N) > 0)
    return ImagePair(
        name=tile.name,
        region=tile.disaster,
        source="xbd",
        pre=pre,
        post=post,
        id_N=tuple(i for i, usable in zip(label.id_N, usable_N, strict=True) if usable),
        polygon_N=polygon_N[usable_N],
        label_N=label_N[usable_N],
    )


def xbd_labelled(
    pair: ImagePair,
    scale: Scale = XBD,
    destroyed: tuple[str, ...] = DESTROYED,
    intact: tuple[str, ...] = INTACT,
) -> LabelledPair:
    """A tile for models of two states; buildings of other grades count as unknown."""
    assert pair.pre is not None
    grade = [scale.labels[label] if label >= 0 else "" for label in pair.label_N]
    buildings = tuple(
        Building(id=id_, geometry=outline, destroyed=g in destroyed)
        for id_, outline, g in zip(pair.id_N, pair.polygon_N, grade, strict=True)
        if g in (*destroyed, *intact)
    )
    return LabelledPair(
        name=pair.name, region=pair.region, pre=pair.pre, post=pair.post, buildings=buildings
    )


def xbd_store(
    uri: str, folder: Path, cutting: Cutting, scale: Scale = XBD, **more: Any
) -> tuple[ChipStore, list[Issue]]:
    """A store of every tile of a folder that can be used, and what could not be.

    Args:
        more: `options` and `replace` of `write_pair_store`.

    Raises:
        RequestError: if no tile can be used, or a subtype is not one of the scale's.
        StorageError: if the store cannot be written.
    """
    found = find_tiles(folder)
    issues = list(found.issues)

    def pairs() -> Iterator[ImagePair]:
        usable = 0
        for tile in found.tiles:
            try:
                pair = xbd_pair(tile, scale, cutting.gsd_m)
            except (InputError, OSError) as error:
                issues.append(_issue(tile.name, str(error)))
                continue
            usable += 1
            yield pair
        if not usable:
            first = f"{issues[0].subject}: {issues[0].cause}"
            raise RequestError(f"none of {len(issues)} tiles of {folder} can be used, e.g. {first}")

    return write_pair_store(uri, pairs(), cutting, **more), issues


@contextmanager
def _georeferenced(tile: XbdTile, label: XbdLabel) -> Iterator[tuple[str, str]]:
    """Names of the tile's images with a georeference: their own, or copies with the labels'."""
    with TemporaryDirectory(prefix="quakestream-") as folder:
        hrefs = []
        for path in (tile.pre, tile.post):
            counts_BYX = _without_place(path)
            if counts_BYX is not None:
                epsg, transform = georeference(label, tile.name)
                path = Path(folder) / f"{path.stem}.tif"
                _write(path, counts_BYX, epsg, transform)
            hrefs.append(str(path))
        yield hrefs[0], hrefs[1]


def _without_place(path: Path) -> NDArray[np.uint8] | None:
    """Counts (band, y, x) of an image that does not say where it lies; None for one that does.

    Raises:
        SceneError: if it cannot be read.
    """
    try:
        if path.suffix.lower() == ".png":  # GDAL gives noise for what is cut off, and no error
            with Picture.open(path) as picture:
                return np.moveaxis(np.asarray(picture.convert("RGB")), 2, 0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as source:
                return None if source.crs else np.asarray(source.read((1, 2, 3)))
    except (RasterioError, OSError, SyntaxError, ValueError, IndexError) as error:
        raise SceneError(f"cannot read {path}: {error}") from error


def _write(path: Path, counts_BYX: NDArray[np.uint8], epsg: int, transform: Affine) -> None:
    bands, height, width = counts_BYX.shape
    profile = {
        "driver": "GTiff",
        "width": width,
        "height": height,
        "count": bands,
        "dtype": counts_BYX.dtype,
        "crs": f"EPSG:{epsg}",
        "transform": transform,
    }
    with rasterio.open(path, "w", **profile) as copy:
        copy.write(counts_BYX)


def _image(label: Path, stem: str) -> Path | None:
    for folder in (label.parent, label.parent.parent / "images"):
        for suffix in SUFFIXES:
            if (path := folder / f"{stem}{suffix}").is_file():
                return path
    return None


def _issue(subject: str, cause: str) -> Issue:
    return Issue(subject=subject, kind="tile", cause=cause)
