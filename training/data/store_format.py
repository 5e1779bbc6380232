"""What a training store is: its files, its columns, and the metadata that says so.

    STORE/chips.zarr/post/c/K/0/0/0   shard K: raw chips, one object, one writer
                     pre/ inside/     the same: the other epoch, the footprint's pixels
          table.parquet               a row a chip
          store.json                  what it is; written last: without it there is no store

Any Zarr v3 reader reads the arrays. Chips are stored as they are (imagery hardly shrinks), so
that a chip's place in its shard is plain arithmetic.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any, Self

from quakestream.errors import RequestError, ShapeError
from quakestream.storage import Store

MANIFEST = "store.json"
TABLE = "table.parquet"
ARRAYS = "chips.zarr"
STORE_VERSION = 1
BANDS = 3
SHARD_BYTES = 16_000_000
"""About what a shard of one array holds: enough for a PUT, little enough for a writer."""
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
"""Columns of the scenes' statistics, in the order of `statistics_N4B`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HazardColumn:
    """A hazard value every chip carries, or misses."""

    name: str
    """As in buildings.parquet: `mmi`, `vs30_m_s`, a layer's name."""
    unit: str
    group: str
    """Values of one group become one token of a network: `layers`, `shaking`, `site`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreMeta:
    """What a store holds.

    Raises:
        ShapeError: if the sizes or names make no store.
    """

    classes: tuple[str, ...]
    """Labels, mildest first."""
    hazard: tuple[HazardColumn, ...]
    """Columns of one group stand together."""
    gsd_m: float
    crop_px: int
    """Side of a chip as it is stored, margin for augmentation included."""
    epochs: tuple[str, ...]
    """(`post`,) or (`pre`, `post`)."""
    chips: int
    """Length of the arrays; chips that could not be read have a place and no row."""
    shard_chips: int
    provenance: dict[str, Any] = field(default_factory=dict)
    """What it was made from, and what was left out."""

    def __post_init__(self) -> None:
        if self.epochs not in (("post",), ("pre", "post")):
            raise ShapeError(f"store epochs {self.epochs}; expected post, or pre and post")
        if min(self.crop_px, self.shard_chips) < 1 or self.chips < 0 or self.gsd_m <= 0:
            raise ShapeError(f"{self}: sizes must be positive")
        groups = [h.group for h in self.hazard]
        if len(list(groupby(groups))) > len(set(groups)):
            raise ShapeError(f"hazard columns of one group must stand together, got {groups}")

    @property
    def hazard_names(self) -> tuple[str, ...]:
        return tuple(h.name for h in self.hazard)

    @property
    def hazard_groups(self) -> tuple[int, ...]:
        """How many columns each group has, in order."""
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
        """`store.json`."""
        return to_json({"version": STORE_VERSION} | asdict(self) | more)

    @classmethod
    def from_json(cls, content: Any, uri: str) -> Self:
        """The inverse of `to_json`.

        Raises:
            RequestError: if it is no store's manifest, or one of another version.
        """
        try:
            if content["version"] != STORE_VERSION:
                raise RequestError(
                    f"training store {uri} is of version {content['version']}, expected "
                    f"{STORE_VERSION}; make it again"
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
            raise RequestError(f"{uri}/{MANIFEST} is no training store's: {error!r}") from error


def shard_chips_of(crop_px: int) -> int:
    """How many chips of a side make a shard of about `SHARD_BYTES`."""
    return max(1, min(1024, SHARD_BYTES // (BANDS * crop_px**2)))


def check_shards(store: Store, meta: StoreMeta) -> None:
    """Refuses a store that lacks a shard: a missing chunk would read as black."""
    there = set(store.list())
    for name, shape in meta.arrays.items():
        wanted = [shard_key(name, shard, len(shape)) for shard in range(meta.shards)]
        if lost := [key for key in wanted if key not in there]:
            raise ShapeError(f"{len(lost)} of {len(wanted)} shards of {name} are missing")


def shard_key(name: str, shard: int, axes: int) -> str:
    """Zarr's name of a chunk that spans all but the first axis."""
    return f"{ARRAYS}/{name}/c/{shard}" + "/0" * axes


def array_metadata(name: str, shape: tuple[int, ...], meta: StoreMeta) -> dict[str, Any]:
    """An uncompressed array of whole-shard chunks, Zarr v3 core specification."""
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
