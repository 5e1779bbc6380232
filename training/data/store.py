"""Reads a training store: chips by row, straight from their shards.

Bytes are read by range and not through zarr-python, which is several times slower for random
chips. Nothing is unpickled.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from quakestream.errors import RequestError, ShapeError, StorageError
from quakestream.storage import MissingObjectError, StorageOptions, open_store, protocol_of
from quakestream.storage.filesystems import filesystem, storage_errors
from quakestream.storage.uris import local_path
from training.data.store_format import (
    BANDS,
    MANIFEST,
    STATISTICS,
    TABLE,
    HazardColumn,
    StoreMeta,
    check_shards,
    shard_key,
)
from training.data.store_writer import StoreWriter

__all__ = ["BuildingChips", "ChipStore", "HazardColumn", "StoreMeta", "StoreWriter"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BuildingChips:
    """N chips of a store.

    Raises:
        ShapeError: if the arrays do not describe the same chips.
    """

    post_NBYX: NDArray[np.uint8]
    """Sensor counts, red green blue."""
    pre_NBYX: NDArray[np.uint8] | None
    inside_NYX: NDArray[np.bool_]
    """True for pixels whose centre lies in the footprint."""
    statistics_N4B: NDArray[np.float32]
    """Pre mean, pre deviation, post mean, post deviation of the chip's scenes, in counts; 0 and 1
    for an epoch that is not stored."""
    hazard_NM: NDArray[np.float32]
    """Hazard values in the units of the store's meta; NaN where missing."""
    label_N: NDArray[np.int64]
    """Index into the classes, -1 unknown."""

    def __post_init__(self) -> None:
        n, _, y, x = self.post_NBYX.shape
        pre_ok = self.pre_NBYX is None or self.pre_NBYX.shape == self.post_NBYX.shape
        rows = {len(a) for a in (self.statistics_N4B, self.hazard_NM, self.label_N)}
        if not pre_ok or self.inside_NYX.shape != (n, y, x) or rows != {n}:
            raise ShapeError(
                "chips differ in number or size",
                expected=f"{n} of {y} × {x} px",
                got=f"masks {self.inside_NYX.shape} and rows {sorted(rows)}",
            )

    def pixels(self, epoch: str) -> NDArray[np.uint8]:
        """Chips of an epoch.

        Raises:
            ShapeError: if the store has none.
        """
        pixels_NBYX = self.pre_NBYX if epoch == "pre" else self.post_NBYX
        if pixels_NBYX is None:
            raise ShapeError(f"no {epoch} chips")
        return pixels_NBYX

    def __len__(self) -> int:
        return len(self.label_N)


class ChipStore:
    """Reads chips of one store, or of several similar stores as one.

    Args:
        parts: URI and meta of each store.
        table: rows of all stores; column `part` is the index of the store.
        options: access to the storage.
    """

    def __init__(
        self,
        parts: Sequence[tuple[str, StoreMeta]],
        table: pd.DataFrame,
        options: StorageOptions | None = None,
    ) -> None:
        self.meta = parts[0][1]
        self.table = table
        """One row per chip: `COLUMNS`, hazard columns (NaN if missing), `STATISTICS`, `part`."""
        self._parts = list(parts)
        self._options = options or StorageOptions()
        self._chip_R = table["chip"].to_numpy(np.int64)
        self._part_R = table["part"].to_numpy(np.int64)
        self._label_R = table["label"].to_numpy(np.int64)
        names = list(self.meta.hazard_names)
        self._hazard_RM = table[names].to_numpy(np.float32).reshape(len(table), len(names))
        statistics = table[list(STATISTICS)].to_numpy(np.float32)
        self._statistics_R4B = statistics.reshape(len(table), 4, BANDS)

    @classmethod
    def open(cls, *uris: str, options: StorageOptions | None = None) -> Self:
        """Opens finished stores and checks that no shard is missing.

        Raises:
            RequestError: if a store is missing, half-written, damaged, or unlike the others.
            StorageError: if a store cannot be reached.
        """
        opened = [_open(uri, options or StorageOptions()) for uri in uris]
        if not opened:
            raise RequestError(
                "no training store named", remedy="make one with python -m training.dataset"
            )
        first = opened[0][0]
        for uri, (meta, _) in zip(uris, opened, strict=True):
            for name in ("classes", "hazard", "gsd_m", "crop_px", "epochs"):
                if getattr(meta, name) != getattr(first, name):
                    raise RequestError(
                        f"cannot be read as one store with {uris[0]}: other {name}",
                        uri,
                        expected=str(getattr(first, name)),
                        got=str(getattr(meta, name)),
                    )
        tables = [table.assign(part=n) for n, (_, table) in enumerate(opened)]
        parts = [(uri, meta) for uri, (meta, _) in zip(uris, opened, strict=True)]
        return cls(parts, pd.concat(tables, ignore_index=True), options)

    def __len__(self) -> int:
        return len(self.table)

    def read(self, index_N: NDArray[np.integer[Any]] | Sequence[int]) -> BuildingChips:
        """Reads the chips of some rows of the table, in that order; a row may come twice.

        Raises:
            ShapeError: if the table does not have a row.
            StorageError: if a shard cannot be read or is truncated.
        """
        rows_N = np.asarray(index_N, np.int64).reshape(-1)
        if len(rows_N) and not (rows_N.min() >= 0 and rows_N.max() < len(self)):
            raise ShapeError(
                "no such row in the store",
                expected=f"0 to {len(self) - 1}",
                got=f"{rows_N.min()} to {rows_N.max()}",
            )
        arrays = {
            name: np.empty((len(rows_N), *shape), np.uint8)
            for name, shape in self.meta.arrays.items()
        }
        for part in np.unique(self._part_R[rows_N]):
            uri, meta = self._parts[part]
            here_H = np.flatnonzero(self._part_R[rows_N] == part)
            for name, array in arrays.items():
                self._fill(array, here_H, self._chip_R[rows_N[here_H]], (uri, meta, name))
        return BuildingChips(
            post_NBYX=arrays["post"],
            pre_NBYX=arrays.get("pre"),
            inside_NYX=arrays["inside"].view(np.bool_),
            statistics_N4B=self._statistics_R4B[rows_N],
            hazard_NM=self._hazard_RM[rows_N],
            label_N=self._label_R[rows_N],
        )

    def _fill(
        self,
        array_N: NDArray[np.uint8],
        place_H: NDArray[np.int64],
        chip_H: NDArray[np.int64],
        where: tuple[str, StoreMeta, str],
    ) -> None:
        """Reads chips of one array of one store into their places."""
        uri, meta, name = where
        shape = meta.arrays[name]
        size = int(np.prod(shape))
        order = np.argsort(chip_H, kind="stable")
        shard_H, nth_H = np.divmod(chip_H[order], meta.shard_chips)
        requests = [
            (shard_key(name, int(shard), len(shape)), int(nth) * size, memoryview(array_N[place]))
            for shard, nth, place in zip(shard_H, nth_H, place_H[order], strict=True)
        ]
        with storage_errors("read chips", uri):
            if protocol_of(uri) == "file":
                _read_files(Path(local_path(uri)), requests)
            else:
                _read_objects(uri, self._options, requests)


ByteRange = tuple[str, int, memoryview]
"""Name of an object, first byte, and the memory that the bytes are read into."""


def _read_files(root: Path, requests: Iterable[ByteRange]) -> None:
    """Reads bytes of local files straight into memory; each file is opened once."""
    descriptor, opened = -1, ""
    try:
        for key, start, target in requests:
            if key != opened:
                if descriptor >= 0:
                    os.close(descriptor)
                descriptor, opened = os.open(root / key, os.O_RDONLY), key
            if os.preadv(descriptor, [target.cast("B")], start) != target.nbytes:
                raise StorageError(
                    f"truncated before byte {start + target.nbytes}", str(root / key)
                )
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _read_objects(uri: str, options: StorageOptions, requests: Sequence[ByteRange]) -> None:
    """Reads bytes of objects, all requests at once; adjacent chips share one request."""
    runs: list[list[ByteRange]] = []
    for item in requests:
        last = runs[-1][-1] if runs else None
        if last and (last[0], last[1] + last[2].nbytes) == item[:2]:
            runs[-1].append(item)
        else:
            runs.append([item])
    fs, _ = filesystem(uri, options)
    paths = [fs._strip_protocol(f"{uri.rstrip('/')}/{run[0][0]}") for run in runs]
    starts = [run[0][1] for run in runs]
    ends = [run[-1][1] + run[-1][2].nbytes for run in runs]
    contents = fs.cat_ranges(paths, starts, ends, on_error="raise")
    for run, start, end, data in zip(runs, starts, ends, contents, strict=True):
        if len(data) != end - start:
            raise StorageError(f"truncated before byte {end}", f"{uri}/{run[0][0]}")
        for _, first, target in run:
            target.cast("B")[:] = data[first - start : first - start + target.nbytes]


def _open(uri: str, options: StorageOptions) -> tuple[StoreMeta, pd.DataFrame]:
    store = open_store(uri, options)
    try:
        content = json.loads(store.get(MANIFEST))
    except MissingObjectError as error:
        if store.list():
            raise RequestError(
                f"store is half-written: {MANIFEST}, which is written last, is missing",
                uri,
                remedy="run the command that makes it again",
            ) from error
        raise RequestError(
            "no training store", uri, remedy="make one with python -m training.dataset"
        ) from error
    except ValueError as error:
        raise RequestError(
            f"not JSON: {error}", f"{uri}/{MANIFEST}", remedy="make the store again"
        ) from error
    meta = StoreMeta.from_json(content, uri)
    try:
        check_shards(store, meta)
        data = store.get(TABLE)
    except (MissingObjectError, ShapeError) as error:
        raise RequestError(
            f"training store is damaged: {error.what}", uri, remedy="make it again"
        ) from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != content.get("table_sha256"):
        raise RequestError(
            f"training store is damaged: {TABLE} has another digest",
            uri,
            expected=str(content.get("table_sha256")),
            got=digest,
            remedy="make it again",
        )
    return meta, pd.read_parquet(BytesIO(data))
