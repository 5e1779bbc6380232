"""Chips with landslide masks, in the file layout of Landslide4Sense.

    ROOT/images/{train,validation,test}/image_N.h5        dataset `img`, (y, x, band), floats
    ROOT/annotations/{train,validation,test}/mask_N.h5    dataset `mask`, (y, x), 1 on landslides

A set that is not Landslide4Sense has a file `ROOT/about.json` that names its bands, its GSD, and
how stored values become physical ones. Without that file the fourteen bands of Landslide4Sense
are assumed; how those files were scaled is not published.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from quakestream.errors import MissingExtraError, RequestError

F32 = NDArray[np.float32]
Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
ABOUT = "about.json"
L4S_BANDS = (
    *("coastal", "blue", "green", "red", "rededge071", "rededge075", "rededge078"),
    *("nir", "nir09", "cirrus", "swir16", "swir22", "slope", "elevation"),
)
"""Bands of Landslide4Sense in its order: Sentinel-2 B1 to B12 without B8A, slope, elevation."""
_NUMBER = re.compile(r"image_(\w+)\.h5$")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipSetInfo:
    """What the files of a set hold."""

    bands: tuple[str, ...] = L4S_BANDS
    gsd_m: float = 10.0
    physical_per_stored: tuple[float, ...] = ()
    """Factor per band from stored to physical values (reflectance, degrees, metres, counts);
    empty if unknown."""
    dtype: Literal["uint8", "float32"] = "float32"
    """Type of the physical values that a model gets: counts, or reflectance and its like."""
    description: str = "Landslide4Sense"
    licence: str = "see the data set"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SlideChips:
    """The chips of one part of a set. Nothing is read before `read`."""

    root: Path
    part: Part
    info: ChipSetInfo
    names: tuple[str, ...]
    """Numbers of the chips, as in their file names, in order."""
    bands: tuple[str, ...]
    """Bands that are read, in this order."""

    def __len__(self) -> int:
        return len(self.names)

    def read(self, row_N: Sequence[int] | NDArray[np.int64]) -> tuple[F32, NDArray[np.uint8]]:
        """Stored values (N, band, y, x) and masks (N, y, x) of some chips.

        Raises:
            RequestError: if a file is missing, damaged, or of another shape.
        """
        pairs = [self._read_one(self.names[int(n)]) for n in row_N]
        return np.stack([image for image, _ in pairs]), np.stack([mask for _, mask in pairs])

    def batches(self, size: int = 32) -> Iterator[tuple[F32, NDArray[np.uint8]]]:
        """All chips in order."""
        for first in range(0, len(self), size):
            yield self.read(range(first, min(first + size, len(self))))

    def only(self, row_N: Sequence[int] | NDArray[np.int64]) -> "SlideChips":
        """The same part with some of its chips."""
        return SlideChips(
            root=self.root,
            part=self.part,
            info=self.info,
            names=tuple(self.names[int(n)] for n in row_N),
            bands=self.bands,
        )

    def _read_one(self, name: str) -> tuple[F32, NDArray[np.uint8]]:
        image_path = image_file(self.root, self.part, name)
        mask_path = mask_file(self.root, self.part, name)
        image_YXB = _dataset(image_path, "img")
        mask_YX = _dataset(mask_path, "mask")
        wanted = len(self.info.bands)
        if image_YXB.ndim != 3 or image_YXB.shape[2] != wanted:
            raise RequestError(
                "wrong shape of img",
                str(image_path),
                expected=f"(y, x, {wanted}) for {', '.join(self.info.bands)}",
                got=str(image_YXB.shape),
            )
        if mask_YX.shape != image_YXB.shape[:2]:
            raise RequestError(
                "mask and image differ in shape",
                str(mask_path),
                expected=str(image_YXB.shape[:2]),
                got=str(mask_YX.shape),
            )
        place = [self.info.bands.index(band) for band in self.bands]
        image_BYX = np.moveaxis(image_YXB[..., place], -1, 0).astype(np.float32)
        return np.ascontiguousarray(image_BYX), (mask_YX > 0).astype(np.uint8)


def open_chips_of(root: Path, part: Part, bands: Sequence[str] = ()) -> SlideChips:
    """The chips of a part of a set.

    Args:
        root: folder with `images` and `annotations`.
        part: `train`, `validation` or `test`.
        bands: bands to read, by common name; all if empty.

    Raises:
        RequestError: if there are no chips, or the set lacks a band.
    """
    info = info_of(root)
    folder = root / "images" / part
    found = [m.group(1) for path in folder.glob("image_*.h5") if (m := _NUMBER.search(path.name))]
    if not found:
        raise RequestError(
            "no chips",
            str(folder),
            expected="files image_N.h5 in the layout of Landslide4Sense",
            remedy="name the folder that holds images/ and annotations/, or generate a set with "
            "python -m training.data.slide_scenery",
        )
    lacking = [band for band in bands if band not in info.bands]
    if lacking:
        raise RequestError(
            f"the set has no band {', '.join(lacking)}",
            str(root),
            expected=f"some of {', '.join(info.bands)}",
        )
    names = tuple(sorted(found, key=lambda n: (len(n), n)))
    return SlideChips(
        root=root, part=part, info=info, names=names, bands=tuple(bands) or info.bands
    )


def info_of(root: Path) -> ChipSetInfo:
    """What a set holds, by its `about.json`; Landslide4Sense where there is none.

    Raises:
        RequestError: if the file cannot be read.
    """
    path = root / ABOUT
    if not path.exists():
        return ChipSetInfo()
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        tuples = {k: tuple(raw[k]) for k in ("bands", "physical_per_stored") if k in raw}
        return ChipSetInfo(**{**raw, **tuples})
    except (ValueError, TypeError) as error:
        raise RequestError("cannot be read", str(path), got=str(error)) from error


def write_info(root: Path, info: ChipSetInfo) -> None:
    """Writes `about.json`."""
    root.mkdir(parents=True, exist_ok=True)
    (root / ABOUT).write_text(json.dumps(asdict(info), indent=1) + "\n", encoding="utf-8")


def write_chip(root: Path, part: Part, name: str, image_BYX: F32, mask_YX: NDArray[Any]) -> None:
    """Writes one chip: an image of stored values and its mask."""
    h5py = _h5py()
    for path, key, values in (
        (image_file(root, part, name), "img", np.moveaxis(image_BYX, 0, -1)),
        (mask_file(root, part, name), "mask", mask_YX.astype(np.uint8)),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            file.create_dataset(key, data=np.ascontiguousarray(values))


def image_file(root: Path, part: Part, name: str) -> Path:
    return root / "images" / part / f"image_{name}.h5"


def mask_file(root: Path, part: Part, name: str) -> Path:
    return root / "annotations" / part / f"mask_{name}.h5"


def _dataset(path: Path, key: str) -> NDArray[Any]:
    h5py = _h5py()
    try:
        with h5py.File(path, "r") as file:
            if key not in file:
                raise RequestError(
                    f"no dataset {key}", str(path), expected=key, got=", ".join(file) or "nothing"
                )
            values: NDArray[Any] = np.asarray(file[key][()])
            return values
    except FileNotFoundError as error:
        remedy = "a part without masks cannot be trained on or judged"
        raise RequestError("is missing", str(path), remedy=remedy) from error
    except OSError as error:
        raise RequestError("not a readable HDF5 file", str(path), got=str(error)) from error


def _h5py() -> Any:
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "reading HDF5 chips needs h5py", remedy="pip install 'quakestream[train]'"
        ) from error
    return h5py
