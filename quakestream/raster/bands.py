"""Decides which bands of a file are read, and reads them with their validity through GDAL.

The order of red, green and blue comes from the first of these that names any colour: the run
file (`imagery.bands`), the STAC item, the band descriptions of the file, its colour
interpretation. Three bands without a name are red, green and blue. Later sources that say
something else are noted. A band beside the colours that nothing names is transparency only if its
values say so: 0 and one other count. (GDAL calls the fourth of four bands alpha by default, also
where it holds near infrared.)
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.windows import Window as DatasetWindow

from quakestream.domain import NOTHING_STATED, Bands, StatedBands
from quakestream.domain.bands import COLOURS, band_names, rgb_of
from quakestream.errors import BandOrderError, SceneError
from quakestream.raster.lost_blocks import LostBlocks
from quakestream.raster.messages import counted

RGB = (1, 2, 3)
REMEDY = "say which bands are red, green and blue with imagery.bands, such as [3, 2, 1]"
SAMPLES, SAMPLE_PX = 4, 64
"""Samples of a band along each side of the image, and their side."""
MASK_SHARE = 0.95
"""Least share of pixels with one of two counts in a band of transparency. Warped masks have soft
edges, and lossy compression blurs them."""
_NAMED = {c: c.name for c in ColorInterp if c.value > ColorInterp.palette.value}


def resolve_bands(dataset: Any, stated: StatedBands = NOTHING_STATED) -> Bands:
    """The bands of an open file that are read.

    Raises:
        SceneError: if nothing says which bands are red, green and blue, or what another is.
        RasterioError: if a band that may be transparency cannot be read.
    """
    if dataset.count < len(RGB):
        raise SceneError(
            "image has too few bands",
            dataset.name,
            expected="red, green and blue",
            got=counted(dataset.count, "band"),
            remedy="name another asset under imagery.asset",
        )
    notes: list[str] = []
    sources = dict(_sources(dataset, stated, notes))
    by, rgb = _order(dataset, stated, sources)
    notes += [
        f"red, green and blue are bands {_list(rgb)} by {by}; {other} says {_list(theirs)}"
        for other, names in sources.items()
        if other != by and (theirs := rgb_of(names)) is not None and theirs != rgb
    ]
    alpha = _alpha(dataset, rgb, by, sources, notes)
    fills = _fills(dataset, rgb, stated, notes)
    return Bands(rgb=rgb, alpha=alpha, fills=fills, notes=tuple(notes))


def bands_in(dataset: Any, known: Bands | None, stated: StatedBands = NOTHING_STATED) -> Bands:
    """The bands of a probed scene in its open file; without them, those that the file tells.

    Raises:
        SceneError: if the file has fewer bands than in its plan, or does not tell which are red,
            green and blue.
    """
    if known is None:
        return resolve_bands(dataset, stated)
    if max(*known.rgb, known.alpha) > dataset.count:
        got = counted(dataset.count, "band")
        what = "image has fewer bands than in its plan: it was changed"
        raise SceneError(what, dataset.name, got=got, remedy="plan again")
    return known


def named_bands(dataset: Any) -> tuple[str, ...]:
    """What each band of a file shows by the file itself; empty where it says nothing.

    Raises:
        SceneError: if the file does not tell red, green and blue.
    """
    bands = resolve_bands(dataset)
    sources = dict(_sources(dataset, NOTHING_STATED, []))
    names = list(next(iter(sources.values()), [""] * dataset.count))
    if bands.alpha:
        names[bands.alpha - 1] = "alpha"
    return tuple(names)


RUN_FILE, ITEM, DESCRIPTIONS, INTERPRETATION = (
    "imagery.bands",
    "the STAC item",
    "the file's band descriptions",
    "the file's colour interpretation",
)


def _sources(
    dataset: Any, stated: StatedBands, notes: list[str]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Who names bands, and the names; those that name none are left out."""
    count = dataset.count
    if len(stated.names) > count:
        bands = counted(len(stated.names), "band")
        notes.append(f"the item lists {bands}, the file has {count}: its own order is used")
    elif any(stated.names):
        yield ITEM, (*stated.names, *[""] * (count - len(stated.names)))
    described = band_names(
        [([text or ""], band_wave(dataset, n)) for n, text in _numbered(dataset)]
    )
    if any(described):
        yield DESCRIPTIONS, described
    shown = tuple(_NAMED.get(c, "") for c in dataset.colorinterp)
    if any(name not in ("", "alpha") for name in shown):
        yield INTERPRETATION, shown


def _numbered(dataset: Any) -> list[tuple[int, str | None]]:
    return list(enumerate(dataset.descriptions, start=1))


def band_wave(dataset: Any, band: int) -> float | None:
    """Centre wavelength of a band by GDAL's IMAGERY metadata, micrometres."""
    try:
        return float(dataset.tags(band, ns="IMAGERY")["CENTRAL_WAVELENGTH_UM"])
    except (KeyError, ValueError):
        return None


def _order(
    dataset: Any, stated: StatedBands, sources: dict[str, tuple[str, ...]]
) -> tuple[str, tuple[int, int, int]]:
    """Who decides the order, and the order."""
    if stated.order:
        red, green, blue = stated.order
        if max(stated.order) > dataset.count:
            raise BandOrderError(
                f"imagery.bands names band {max(stated.order)}",
                dataset.name,
                expected=f"bands of 1 to {dataset.count}",
                got=str(list(stated.order)),
            )
        return RUN_FILE, (red, green, blue)
    for by, names in sources.items():
        rgb = rgb_of(names)
        if rgb is not None:
            return by, rgb
        if any(name != "alpha" for name in names if name):
            said = ", ".join(name or "not named" for name in names)
            raise BandOrderError(
                "image has not one band each of red, green and blue",
                dataset.name,
                expected=", ".join(COLOURS),
                got=f"{said} by {by}",
                remedy=REMEDY,
            )
    if dataset.count == len(RGB):
        return "", RGB
    raise BandOrderError(
        "nothing says which bands are red, green and blue",
        dataset.name,
        expected="their names in the STAC item or the file",
        got=f"{counted(dataset.count, 'band')} without names",
        remedy=REMEDY,
    )


def _alpha(
    dataset: Any,
    rgb: tuple[int, int, int],
    by: str,
    sources: dict[str, tuple[str, ...]],
    notes: list[str],
) -> int:
    """The band of transparency; 0 where none is.

    Raises:
        BandOrderError: if a band is neither named nor transparency.
    """
    for band in range(1, dataset.count + 1):
        if band in rgb:
            continue
        named = [names[band - 1] for who, names in sources.items() if who != INTERPRETATION]
        name = next(filter(None, named), "")
        shown = dataset.colorinterp[band - 1]
        if name == "alpha":
            return band
        if name or (shown in _NAMED and shown != ColorInterp.alpha):
            continue
        if _says_mask(dataset, band):
            return band
        if by in (INTERPRETATION, ""):
            calls = "called transparency" if shown == ColorInterp.alpha else "not named"
            raise BandOrderError(
                f"band {band} is {calls} and holds other values, perhaps near infrared",
                dataset.name,
                expected="0 and one other count, or a name",
                remedy=REMEDY,
            )
        if shown == ColorInterp.alpha:
            notes.append(f"band {band} is called transparency, holds other values and is not read")
    return 0


def _says_mask(dataset: Any, band: int) -> bool:
    """True if the values of a band are those of a mask: 0 and one other count."""
    windows = lattice_windows(dataset.height, dataset.width, SAMPLE_PX, (SAMPLES, SAMPLES))
    value_N = np.concatenate([dataset.read(band, window=w).ravel() for w in windows])
    masks = np.count_nonzero((value_N == 0) | (value_N == value_N.max()))
    return bool(masks >= MASK_SHARE * len(value_N))


def lattice_windows(
    height: int, width: int, side_px: int, counts: tuple[int, int]
) -> list[DatasetWindow]:
    """Squares spread evenly over an image, row by row; they overlap in a small one.

    Args:
        counts: squares along rows and columns.
    """

    def starts(length: int, count: int) -> list[int]:
        step = (length - side_px) / max(count - 1, 1)
        return sorted({max(int(n * step), 0) for n in range(count)})

    high, wide = min(side_px, height), min(side_px, width)
    return [
        DatasetWindow(left, top, wide, high)
        for top in starts(height, counts[0])
        for left in starts(width, counts[1])
    ]


def _fills(
    dataset: Any, rgb: tuple[int, int, int], stated: StatedBands, notes: list[str]
) -> tuple[tuple[int, int, int], ...]:
    """The item's counts of missing ground that the file does not declare itself."""
    of_band = stated.nodata
    if len(of_band) == 1:
        of_band = of_band * dataset.count
    values = [of_band[band - 1] if band <= len(of_band) else None for band in rgb]
    known = [value for value in values if value is not None]
    if not known:
        return ()
    dtype = np.dtype(dataset.dtypes[rgb[0] - 1])
    limits = np.iinfo(dtype) if dtype.kind in "ui" else None
    counts = []
    for value in values:
        count = known[0] if value is None else value
        if limits is None or not (limits.min <= count <= limits.max and count == int(count)):
            notes.append(f"the item's nodata {count:g} is no count of {dtype} and is not used")
            return ()
        counts.append(int(count))
    declared = [dataset.nodatavals[band - 1] for band in rgb]
    if declared == counts:
        return ()
    if any(value is not None for value in declared):
        own, theirs = (
            _list([f"{v:g}" for v in dict.fromkeys(vs) if v is not None])
            for vs in (declared, counts)
        )
        notes.append(f"nodata is {own} in the file and {theirs} in the item: both are masked")
    red, green, blue = counts
    return ((red, green, blue),)


def _list(values: Any) -> str:
    return ", ".join(map(str, values))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BandReader:
    """Reads red, green, blue and validity of an open file."""

    dataset: Any
    bands: Bands
    lost: LostBlocks | None = None
    """Which errors are lost blocks, whose ground is then missing; None: every error is raised."""

    @property
    def flags(self) -> set[MaskFlags]:
        """How the file itself marks missing ground."""
        return set(self.dataset.mask_flag_enums[self.bands.rgb[0] - 1])

    @property
    def masked(self) -> bool:
        """True if GDAL's mask of the file counts."""
        flags = self.flags
        return flags != {MaskFlags.all_valid} and not (
            MaskFlags.alpha in flags and self.bands.alpha == 0
        )

    @property
    def black_is_missing(self) -> bool:
        """True where nothing is declared: vendors then fill with black."""
        return not (self.masked or self.bands.alpha or self.bands.fills)

    def read(
        self, window: DatasetWindow, shape: tuple[int, int], resampling: Resampling
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Stored counts, shape (band, y, x), and validity, shape (y, x), of a window."""
        bands = list(self.bands.rgb)
        stored_BYX = self.dataset.read(
            bands, window=window, out_shape=(len(bands), *shape), resampling=resampling
        )
        valid_YX: NDArray[np.bool_] = np.ones(shape, np.bool_)
        if self.masked:
            valid_YX = self.dataset.dataset_mask(window=window, out_shape=shape) > 0
        elif self.bands.alpha:
            valid_YX = self.dataset.read(self.bands.alpha, window=window, out_shape=shape) > 0
        return stored_BYX, valid_YX & self.shows_ground(stored_BYX)

    def warped(self, vrt: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Stored counts and validity of the whole of a warped view of the file."""
        stored_BYX = vrt.read(list(self.bands.rgb))
        if self.masked or MaskFlags.alpha not in self.flags:
            valid_YX = vrt.dataset_mask() > 0
        else:  # what the file calls alpha is none, so nothing else tells what lies outside
            valid_YX = np.asarray(stored_BYX.any(axis=0), np.bool_)
        if self.bands.alpha and not self.masked:
            valid_YX &= vrt.read(self.bands.alpha) > 0
        return stored_BYX, valid_YX & self.shows_ground(stored_BYX)

    def shows_ground(self, stored_BYX: NDArray[Any]) -> NDArray[np.bool_]:
        """False where counts mark missing ground, by the item or because nothing is declared."""
        if self.black_is_missing:
            return np.asarray(stored_BYX.any(axis=0), np.bool_)
        ground_YX: NDArray[np.bool_] = np.ones(stored_BYX.shape[1:], np.bool_)
        for fill in self.bands.fills:
            fill_B = np.array(fill, stored_BYX.dtype)[:, None, None]
            ground_YX &= np.asarray((stored_BYX != fill_B).any(axis=0), np.bool_)
        return ground_YX
