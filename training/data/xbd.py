"""xBD / xView2 folders: image pairs with buildings graded from no damage to destroyed.

A tile is `NAME_pre_disaster` and `NAME_post_disaster`: images (PNG or TIFF) and label JSON, in one
folder or in neighbouring folders `images/` and `labels/`. PNG has no georeference. The labels give
every corner in pixels and in degrees, from which the georeference is computed. Format: Gupta et
al. 2019, arXiv 1911.09296.
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

from quakestream.domain import Issue, damage_words, utm_epsg
from quakestream.errors import InputError, RequestError, SceneError
from quakestream.tiling import project
from training.data.labels import XBD, Scale
from training.data.pair_store import ImagePair, PairStoreOptions, write_pair_store
from training.data.pairs import Building, LabelledPair
from training.data.scenes import read_pair
from training.data.store import ChipStore
from training.foreign_errors import first_line

GSD_M = 0.5
"""Pixel size of the store, metres; tiles differ from it by a few percent."""
POST = "_post_disaster"
SUFFIXES = (".png", ".tif", ".tiff")
OFF_PX = 0.5
"""Largest distance of a corner from its place by the tile's georeference, pixels."""
SEVERITY_OF = {c.label: damage_words.SEVERITY[c.xbd] for c in damage_words.XBD.classes}
DESTROYED = tuple(label for label, severity in SEVERITY_OF.items() if severity == 1)
INTACT = tuple(label for label, severity in SEVERITY_OF.items() if severity == 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class XbdTile:
    """Files of one tile."""

    name: str
    disaster: str
    """The name without its number, such as `mexico-earthquake`."""
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
    """Outlines in (column, row) of the image."""
    subtype_N: tuple[str, ...]
    """Damage as the file names it; empty where a building has none."""


@dataclass(slots=True)
class XbdFolder:
    """Tiles of a folder, and problems of the tiles that cannot be used."""

    tiles: list[XbdTile] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)


def find_tiles(folder: Path) -> XbdFolder:
    """Finds the tiles of a folder and its subfolders, ordered by name.

    Raises:
        RequestError: if the folder holds no post-event label file.
    """
    labels = sorted(folder.rglob(f"*{POST}.json"))
    if not labels:
        raise RequestError(f"no *{POST}.json in the folder", str(folder), expected="an xBD folder")
    contents = XbdFolder()
    for label in labels:
        name = label.stem.removesuffix(POST)
        pre, post = (_image(label, f"{name}_{epoch}_disaster") for epoch in ("pre", "post"))
        if pre is None or post is None:
            missing = [e for e, image in (("pre", pre), ("post", post)) if image is None]
            cause = f"no {' and no '.join(missing)} image near {label}"
            contents.issues.append(_issue(name, cause))
            continue
        disaster = name.rsplit("_", 1)[0]
        tile = XbdTile(name=name, disaster=disaster, pre=pre, post=post, label=label)
        contents.tiles.append(tile)
    return contents


def read_label(path: Path) -> XbdLabel:
    """Reads the buildings of a label file.

    Raises:
        SceneError: if it is not an xBD label file.
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
        raise SceneError(f"not an xBD label file ({first_line(error)})", str(path)) from error


def georeference(label: XbdLabel, name: str) -> tuple[int, Affine]:
    """Computes the EPSG code and the transform (column, row to metres) from the labels' corners.

    Raises:
        SceneError: if there are too few corners, they disagree, or the image is not north-up.
    """
    where = f"tile {name}"
    if len(label.id_N) == 0:
        raise SceneError("tile has no building to locate it by", where)
    lon, lat = shapely.get_coordinates(label.lonlat_N).mean(axis=0)
    epsg = utm_epsg(float(lon), float(lat))
    metres_P2 = shapely.get_coordinates(project(label.lonlat_N, epsg))
    pixels_P2 = shapely.get_coordinates(label.pixel_N)
    spread = np.ptp(pixels_P2, axis=0) if len(pixels_P2) == len(metres_P2) else (0.0, 0.0)
    if min(spread) < 1:
        raise SceneError("outlines in pixels and in degrees do not match", where)
    design_P3 = np.column_stack([pixels_P2, np.ones(len(pixels_P2))])
    fit_32, *_ = np.linalg.lstsq(design_P3, metres_P2, rcond=None)
    (a, d), (b, e), (c, f) = fit_32.tolist()
    off_px = np.abs(design_P3 @ fit_32 - metres_P2).max() / max(abs(a), 1e-9)
    # Drift of a turned image's columns over the whole tile, pixels.
    turn_px = max(abs(b / a), abs(d / e)) * 1024 if a > 0 > e else np.inf
    if off_px > OFF_PX or turn_px > 1:
        raise SceneError(
            "corners do not fit a north-up georeference",
            where,
            expected=f"at most {OFF_PX:g} px off",
            got=f"{off_px:.1f} px",
        )
    return epsg, Affine(a, 0.0, c, 0.0, e, f)


def xbd_pair(tile: XbdTile, scale: Scale = XBD, gsd_m: float = GSD_M) -> ImagePair:
    """Reads a tile onto the UTM grid of its place.

    Raises:
        RequestError: if the scale does not have a building's subtype.
        SceneError: if the images or labels cannot be used.
        StorageError: if an image is missing.
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
    """The tile for models of two states; buildings of other grades count as unknown.

    Raises:
        ShapeError: if the tile has no pre-event image.
    """
    pre = pair.image("pre")
    grade = [scale.labels[label] if label >= 0 else "" for label in pair.label_N]
    buildings = tuple(
        Building(id=id_, geometry=outline, destroyed=g in destroyed)
        for id_, outline, g in zip(pair.id_N, pair.polygon_N, grade, strict=True)
        if g in (*destroyed, *intact)
    )
    return LabelledPair(
        name=pair.name, region=pair.region, pre=pre, post=pair.post, buildings=buildings
    )


def xbd_store(
    uri: str, folder: Path, cutting: PairStoreOptions, scale: Scale = XBD, **more: Any
) -> tuple[ChipStore, list[Issue]]:
    """Writes a store of all usable tiles of a folder, and lists the problems of the others.

    Args:
        uri: where the store is written.
        folder: an xBD folder.
        cutting: how chips are cut.
        scale: the damage scale.
        more: `options` and `replace` of `write_pair_store`.

    Raises:
        RequestError: if no tile can be used, or the scale does not have a subtype.
        StorageError: if the store cannot be written.
    """
    contents = find_tiles(folder)
    issues = list(contents.issues)

    def pairs() -> Iterator[ImagePair]:
        usable = 0
        for tile in contents.tiles:
            try:
                pair = xbd_pair(tile, scale, cutting.gsd_m)
            except (InputError, OSError) as error:
                issues.append(_issue(tile.name, str(error)))
                continue
            usable += 1
            yield pair
        if not usable:
            first = f"{issues[0].subject}: {issues[0].cause}"
            raise RequestError(f"no tile can be used, e.g. {first}", str(folder))

    return write_pair_store(uri, pairs(), cutting, **more), issues


@contextmanager
def _georeferenced(tile: XbdTile, label: XbdLabel) -> Iterator[tuple[str, str]]:
    """Paths of georeferenced images of a tile: its own, or copies located by the labels."""
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
    """Counts (band, y, x) of an image without a georeference; None if it has one.

    Raises:
        SceneError: if the image cannot be read.
    """
    try:
        if path.suffix.lower() == ".png":  # GDAL reads a truncated PNG as noise, without an error.
            with Picture.open(path) as picture:
                return np.moveaxis(np.asarray(picture.convert("RGB")), 2, 0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as source:
                return None if source.crs else np.asarray(source.read((1, 2, 3)))
    except (RasterioError, OSError, SyntaxError, ValueError, IndexError) as error:
        raise SceneError(f"cannot be read: {first_line(error)}", str(path)) from error


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
