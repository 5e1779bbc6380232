"""Format of a training store: its files, its columns and its metadata.

    STORE/chips.zarr/post/c/K/0/0/0   shard K: raw chips, one object, one writer
                     pre/ inside/     the same for the other epoch and the footprint's pixels
          table.parquet               one row per chip
          store.json                  the manifest, written last; a store without it is unfinished

Any Zarr v3 reader reads the arrays. Chips are not compressed, because imagery hardly shrinks. The
place of a chip in its shard is therefore plain arithmetic.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any, Self

from quakestream.errors import RequestError, ShapeError
from quakestream.storage import Store
from training.foreign_errors import first_line

MANIFEST = "store.json"
TABLE = "table.parquet"
ARRAYS = "chips.zarr"
STORE_VERSION = 1
BANDS = 3
SHARD_BYTES = 16_000_000
"""Approximate size of a shard of one array: large enough for a PUT, small enough for a writer."""
COLUMNS: dict[str, str] = {
    "chip": "int64",  # place in the arrays
    "building_id": "object",
    "label": "int8",  # index into the classes, -1 unknown
    "region": "object",
    "scene": "object",  # post scene
    "source": "object",
    "epsg": "int32",
    "x_m": "float64",  # middle of the chip
    "y_m": "float64",
    "weight": "float32",
}
STATISTICS = tuple(f"{e}_{s}_{b}" for e in ("pre", "post") for s in ("mean", "std") for b in "012")
"""Columns of the statistics of the scenes, in the order of `statistics_N4B`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HazardColumn:
    """A hazard value of every chip; it may be missing."""

    name: str
    """Name as in buildings.parquet: `mmi`, `vs30_m_s`, or the name of a layer."""
    unit: str
    group: str
    """Values of one group become one token of a network: `layers`, `shaking` or `site`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreMeta:
    """Metadata of a store.

    Raises:
        ShapeError: if the sizes or names are not those of a store.
    """

    classes: tuple[str, ...]
    """Labels, mildest first."""
    hazard: tuple[HazardColumn, ...]
    """Columns of one group stand together."""
    gsd_m: float
    crop_px: int
    """Side of a stored chip, including the margin for augmentation."""
    epochs: tuple[str, ...]
    """(`post`,) or (`pre`, `post`)."""
    chips: int
    """Length of the arrays. A chip that could not be read has a place but no row."""
    shard_chips: int
    provenance: dict[str, Any] = field(default_factory=dict)
    """Sources of the store, and what was left out of it."""

    def __post_init__(self) -> None:
        if self.epochs not in (("post",), ("pre", "post")):
            raise ShapeError(
                "unknown epochs",
                "store",
                expected="post, or pre and post",
                got=", ".join(self.epochs),
            )
        if min(self.crop_px, self.shard_chips) < 1 or self.chips < 0 or self.gsd_m <= 0:
            raise ShapeError(
                "sizes must be positive",
                "store",
                got=f"{self.crop_px} px of {self.gsd_m:g} m, {self.chips} chips, "
                f"{self.shard_chips} per shard",
            )
        groups = [h.group for h in self.hazard]
        if len(list(groupby(groups))) > len(set(groups)):
            raise ShapeError(
                "hazard columns of one group must stand together", "store", got=", ".join(groups)
            )

    @property
    def hazard_names(self) -> tuple[str, ...]:
        return tuple(h.name for h in self.hazard)

    @property
    def hazard_groups(self) -> tuple[int, ...]:
        """Number of columns of each group, in order."""
        groups = [h.group for h in self.hazard]
        return tuple(groups.count(name) for name in dict.fromkeys(groups))

    @property
    def shards(self) -> int:
        return -(-self.chips // self.shard_chips)

    @property
    def arrays(self) -> dict[str, tuple[int, ...]]:
        """Shape of one chip in each array."""
        side = self.crop_px
        return dict.fromkeys(self.epochs, (BANDS, side, side)) | {"inside": (side, side)}

    def to_json(self, **more: Any) -> bytes:
        """The content of `store.json`."""
        return to_json({"version": STORE_VERSION} | asdict(self) | more)

    @classmethod
    def from_json(cls, content: Any, uri: str) -> Self:
        """The inverse of `to_json`.

        Raises:
            RequestError: if the content is not a store's manifest, or has another version.
        """
        try:
            if content["version"] != STORE_VERSION:
                raise RequestError(
                    "training store has another version",
                    uri,
                    expected=str(STORE_VERSION),
                    got=str(content["version"]),
                    remedy="make it again",
                )
            return cls(
                classes=tuple(content["classes"]),
                hazard=tuple(HazardColumn(**h) for h in content["hazard"]),
                gsd_m=float(content["gsd_m"]),
                crop_px=int(content["crop_px"]),
                epochs=tuple(content["epochs"]),
                chips=int(content["chips"]),
                shard_chips=int(content["shard_chips"]),
                provenance=dict(content["provenance"]),
            )
        except RequestError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise RequestError(
                f"not the manifest of a training store ({first_line(error)})", f"{uri}/{MANIFEST}"
            ) from error


def shard_chips_of(crop_px: int) -> int:
    """Number of chips of a side that make a shard of about `SHARD_BYTES`."""
    return max(1, min(1024, SHARD_BYTES // (BANDS * crop_px**2)))


def check_shards(store: Store, meta: StoreMeta) -> None:
    """Refuses a store that lacks a shard, because Zarr reads a missing chunk as black.

    Raises:
        ShapeError: if a shard is missing.
    """
    objects = set(store.list())
    for name, shape in meta.arrays.items():
        shards = [shard_key(name, shard, len(shape)) for shard in range(meta.shards)]
        if lost := [key for key in shards if key not in objects]:
            verb = "is" if len(lost) == 1 else "are"
            raise ShapeError(f"{len(lost)} of {len(shards)} shards of {name} {verb} missing")


def shard_key(name: str, shard: int, axes: int) -> str:
    """Zarr's name of a chunk that spans all but the first axis."""
    return f"{ARRAYS}/{name}/c/{shard}" + "/0" * axes


def array_metadata(name: str, shape: tuple[int, ...], meta: StoreMeta) -> dict[str, Any]:
    """Metadata of an uncompressed array whose chunks are shards (Zarr v3 core specification)."""
    axes = ["chip", "band", "y", "x"] if len(shape) == 3 else ["chip", "y", "x"]
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [meta.chips, *shape],
        "data_type": "bool" if name == "inside" else "uint8",
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": [meta.shard_chips, *shape]},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": False if name == "inside" else 0,
        "codecs": [{"name": "bytes"}],
        "dimension_names": axes,
        "attributes": {},
    }


def to_json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=1).encode()
