"""Training stores from image pairs that are read whole: labelled scenes, xBD tiles.

Chips are cut as inference cuts them: the same square around the footprint, with unseen pixels in
the mean colour of the scene. `training.dataset` cuts chips from runs with a run file.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from quakestream.domain import Grid, Window
from quakestream.domain.damage_words import INTACT_OR_DESTROYED
from quakestream.errors import RequestError, ShapeError
from quakestream.storage import StorageOptions
from quakestream.tiling import crop_corners
from training.data.filters import TileFilter
from training.data.pairs import Image, LabelledPair, outlined_by_bounds, pixels_inside
from training.data.store import ChipStore, StoreMeta, StoreWriter
from training.data.store_format import shard_chips_of
from training.data.store_writer import ShardStream

LEAST_SEEN = 0.5
"""Smallest share of a footprint's pixels that must be seen in every epoch, as for a verdict."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImagePair:
    """A pre-event and a post-event image of the same ground, and N footprints on it.

    Raises:
        ShapeError: if ids, outlines and labels differ in number.
    """

    name: str
    region: str
    source: str
    pre: Image | None
    post: Image
    id_N: tuple[str, ...]
    polygon_N: NDArray[np.object_]
    """In the CRS of the post image's grid."""
    label_N: NDArray[np.int8]
    """Index into the store's classes, -1 unknown."""

    def __post_init__(self) -> None:
        if not len(self.id_N) == len(self.polygon_N) == len(self.label_N):
            raise ShapeError("ids, outlines and labels differ in number", f"pair {self.name}")

    def image(self, epoch: str) -> Image:
        """The image of an epoch.

        Raises:
            ShapeError: if the pair has none.
        """
        image = self.pre if epoch == "pre" else self.post
        if image is None:
            raise ShapeError(f"no {epoch} image", f"pair {self.name}")
        return image

    @property
    def grid(self) -> Grid:
        return self.post.grid


@dataclass(frozen=True, slots=True, kw_only=True)
class PairStoreOptions:
    """How chips are cut out of image pairs."""

    classes: tuple[str, ...]
    gsd_m: float
    crop_px: int
    """Side of a stored chip, including the margin for augmentation."""
    epochs: tuple[str, ...] = ("pre", "post")
    tile_filter: TileFilter | None = None
    provenance: dict[str, Any] = field(default_factory=dict)


def of_labelled(pair: LabelledPair, source: str) -> ImagePair:
    """The pair with every building's outline replaced by its bounds.

    Where destroyed buildings have outlines and intact ones boxes, the shape alone would tell them
    apart.
    """
    boxed = outlined_by_bounds(pair).buildings
    return ImagePair(
        name=pair.name,
        region=pair.region,
        source=source,
        pre=pair.pre,
        post=pair.post,
        id_N=tuple(b.id for b in boxed),
        polygon_N=np.array([b.geometry for b in boxed], object),
        label_N=np.array([b.destroyed for b in boxed], np.int8),
    )


def write_pair_store(
    uri: str,
    pairs: Iterable[ImagePair],
    cutting: PairStoreOptions,
    *,
    options: StorageOptions | None = None,
    replace: bool = False,
) -> ChipStore:
    """Writes and opens a store. Only one pair is in memory at a time.

    Raises:
        RequestError: if there is a store already, a pair has another GSD or lacks an epoch, or no
            chip is left.
        StorageError: if the store cannot be written.
    """
    meta = StoreMeta(
        classes=cutting.classes,
        hazard=(),
        gsd_m=cutting.gsd_m,
        crop_px=cutting.crop_px,
        epochs=cutting.epochs,
        chips=0,
        shard_chips=shard_chips_of(cutting.crop_px),
        provenance=cutting.provenance,
    )
    writer = StoreWriter(uri=uri, meta=meta, options=options or StorageOptions())
    writer.begin(replace=replace)
    stream = ShardStream(writer)
    tables: list[pd.DataFrame] = []
    dropped: dict[str, int] = {}
    for pair in pairs:
        pixels, rows, reason_N = cut_pair(pair, cutting)
        kept_N = np.array([reason is None for reason in reason_N], np.bool_)
        for reason in reason_N[~kept_N]:
            dropped[str(reason)] = dropped.get(str(reason), 0) + 1
        first = stream.chips
        stream.add({name: array[kept_N] for name, array in pixels.items()})
        tables.append(rows[kept_N].assign(chip=np.arange(first, stream.chips)))
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    stream.finish(table, {"dropped": dropped})
    return ChipStore.open(uri, options=options)


def cut_pair(
    pair: ImagePair, cutting: PairStoreOptions
) -> tuple[dict[str, NDArray[Any]], pd.DataFrame, NDArray[np.object_]]:
    """Cuts a chip for every footprint.

    Returns:
        Pixels by array, a row per chip, and the reason why a chip is not used (None if it is).

    Raises:
        RequestError: if the pair has another GSD or lacks an epoch.
    """
    epochs = ("post",) if pair.pre is None else ("pre", "post")
    if pair.grid.gsd_m != cutting.gsd_m or not set(cutting.epochs) <= set(epochs):
        raise RequestError(
            "pair does not fit the store",
            f"pair {pair.name}",
            expected=f"{cutting.gsd_m:g} m pixels and epochs {', '.join(cutting.epochs)}",
            got=f"{pair.grid.gsd_m:g} m pixels and epochs {', '.join(epochs)}",
        )
    side, count = cutting.crop_px, len(pair.id_N)
    corner_N2 = crop_corners(shapely.bounds(pair.polygon_N), pair.grid, side)
    windows = [Window(row=r, col=c, height=side, width=side) for r, c in corner_N2.tolist()]
    pixels: dict[str, NDArray[Any]] = {"inside": np.zeros((count, side, side), np.bool_)}
    for n, window in enumerate(windows):
        pixels["inside"][n] = pixels_inside(pair.polygon_N[n], pair.grid, window)
    unseen_NYX = np.zeros((count, side, side), np.bool_)
    for epoch in cutting.epochs:
        pixels[epoch], seen_NYX = _cut(pair.image(epoch), windows)
        unseen_NYX |= ~seen_NYX
    rows = _rows(pair, corner_N2 + side / 2, cutting.epochs)
    return pixels, rows, _reasons(pixels, ~unseen_NYX, cutting)


def turkiye_store(uri: str, pairs: Sequence[LabelledPair], crop_px: int, **more: Any) -> ChipStore:
    """Writes a store of labelled pairs: intact and destroyed, pre and post, no hazard values.

    Args:
        uri: where the store is written.
        pairs: pairs as `turkiye_pairs` gives them.
        crop_px: side of a stored chip.
        more: `options` and `replace` of `write_pair_store`.
    """
    cutting = PairStoreOptions(
        classes=INTACT_OR_DESTROYED.labels,
        gsd_m=pairs[0].grid.gsd_m if pairs else 0.5,
        crop_px=crop_px,
        provenance={"made_from": "turkiye-2023-scenes", "outlines": "bounds"},
    )
    labelled = (of_labelled(pair, "turkiye-2023") for pair in pairs)
    return write_pair_store(uri, labelled, cutting, **more)


def _cut(image: Image, windows: Sequence[Window]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Counts of each window, and a mask of seen pixels; unseen ones have the scene's mean."""
    mean_B = np.rint(np.array(image.statistics.mean_B)).astype(np.uint8)
    shape = (len(windows), len(mean_B), *(windows[0].shape if windows else (0, 0)))
    counts_NBYX = np.broadcast_to(mean_B[:, None, None], shape).copy()
    seen_NYX = np.zeros((shape[0], *shape[2:]), np.bool_)
    for n, window in enumerate(windows):
        part = _shared(window, image.window)
        if part is None:
            continue
        to, of = part.slices_in(window), part.slices_in(image.window)
        pixels_BYX = image.pixels_BYX[:, *of]
        seen_YX = pixels_BYX.any(axis=0)
        seen_NYX[n][to] = seen_YX
        counts_NBYX[n][:, *to][:, seen_YX] = pixels_BYX[:, seen_YX]
    return counts_NBYX, seen_NYX


def _shared(a: Window, b: Window) -> Window | None:
    row, col = max(a.row, b.row), max(a.col, b.col)
    height, width = min(a.row_end, b.row_end) - row, min(a.col_end, b.col_end) - col
    if height <= 0 or width <= 0:
        return None
    return Window(row=row, col=col, height=height, width=width)


def _rows(
    pair: ImagePair, middle_N2: NDArray[np.floating[Any]], epochs: tuple[str, ...]
) -> pd.DataFrame:
    transform, count = pair.grid.transform, len(pair.id_N)
    columns: dict[str, Any] = {
        "chip": np.arange(count),
        "building_id": list(pair.id_N),
        "label": pair.label_N,
        "region": pair.region,
        "scene": pair.name,
        "source": pair.source,
        "epsg": pair.grid.epsg,
        "x_m": transform.c + middle_N2[:, 1] * transform.a,
        "y_m": transform.f + middle_N2[:, 0] * transform.e,
        "weight": 1.0,
    }
    images = {"pre": pair.pre if "pre" in epochs else None, "post": pair.post}
    for epoch, image in images.items():
        none = ((0.0,) * 3, (1.0,) * 3)
        figures = (image.statistics.mean_B, image.statistics.std_B) if image else none
        for figure, values in zip(("mean", "std"), figures, strict=True):
            columns |= {f"{epoch}_{figure}_{b}": value for b, value in enumerate(values)}
    return pd.DataFrame(columns, index=range(count))


def _reasons(
    pixels: dict[str, NDArray[Any]], seen_NYX: NDArray[np.bool_], cutting: PairStoreOptions
) -> NDArray[np.object_]:
    inside_N = pixels["inside"].sum(axis=(1, 2))
    shown_N = (pixels["inside"] & seen_NYX).sum(axis=(1, 2))
    reason_N = np.full(len(inside_N), None, object)
    if cutting.tile_filter is not None:
        for epoch in cutting.epochs:
            filtered_N = cutting.tile_filter.reasons(pixels[epoch], seen_NYX)
            reason_N = np.where(reason_N == None, filtered_N, reason_N)  # noqa: E711
    reason_N[shown_N < LEAST_SEEN * inside_N] = "not seen"
    reason_N[inside_N == 0] = "too small"
    return reason_N
