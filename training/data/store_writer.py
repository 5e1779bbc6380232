"""Writes a training store: shards in any order and on any worker, the manifest last."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from quakestream.errors import RequestError, ShapeError
from quakestream.storage import StorageOptions, open_store
from training.data.store_format import (
    ARRAYS,
    COLUMNS,
    MANIFEST,
    STATISTICS,
    TABLE,
    StoreMeta,
    array_metadata,
    check_shards,
    shard_key,
    to_json,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreWriter:
    """Writes a store. It is a value that can be sent to workers; one worker writes a shard.

    Call `begin` once, `write` for each shard in any order and anywhere, and `finish` once.
    """

    uri: str
    meta: StoreMeta
    options: StorageOptions = field(default_factory=StorageOptions)

    def begin(self, *, replace: bool = False) -> None:
        """Deletes what an unfinished attempt left.

        Raises:
            RequestError: if there is a finished store and `replace` is not set.
            StorageError: if nothing can be written there.
        """
        store = open_store(self.uri, self.options)
        if not replace and store.exists(MANIFEST):
            raise RequestError(
                "there is a finished training store already",
                self.uri,
                remedy="name another place, or replace it with --fresh",
            )
        ours = (MANIFEST, TABLE, f"{ARRAYS}/")
        for key in sorted(store.list(), key=lambda k: k != MANIFEST):  # The manifest goes first.
            if key.startswith(ours):
                store.delete(key)
        self._describe()  # Fails at once if nothing can be written there.

    def write(self, shard: int, pixels: Mapping[str, NDArray[Any]]) -> None:
        """Writes one shard: arrays `post`, `inside` and, if stored, `pre`, of its chips in order.

        The last shard may hold fewer chips than the others.

        Raises:
            ShapeError: if the arrays are not those of the shard's chips.
            StorageError: if the shard cannot be written.
        """
        meta = self.meta
        count = min(meta.shard_chips, meta.chips - shard * meta.shard_chips)
        store = open_store(self.uri, self.options)
        for name, shape in meta.arrays.items():
            array = np.ascontiguousarray(pixels[name])
            if array.shape != (count, *shape) or array.dtype not in (np.uint8, np.bool_):
                raise ShapeError(
                    "wrong array",
                    f"shard {shard} of {name}",
                    expected=f"{(count, *shape)} bytes",
                    got=f"{array.shape} {array.dtype}",
                )
            rest = (meta.shard_chips - count) * array[:1].nbytes  # Zarr pads the last chunk.
            store.put(shard_key(name, shard, len(shape)), array.tobytes() + bytes(rest))

    def finish(self, table: pd.DataFrame, provenance: Mapping[str, Any] | None = None) -> None:
        """Writes the table, then the manifest, which finishes the store.

        Args:
            table: `COLUMNS`, `STATISTICS` and the hazard columns; other columns are written too.
            provenance: added to that of the meta.

        Raises:
            RequestError: if there is no row.
            ShapeError: if columns are missing, or rows do not match the chips.
            StorageError: if a shard is missing or nothing can be written.
        """
        meta = self.meta
        self._check(table)
        store = open_store(self.uri, self.options)
        check_shards(store, meta)
        self._describe()
        floats = dict.fromkeys((*STATISTICS, *meta.hazard_names), "float32")
        sink = BytesIO()
        table.astype(COLUMNS | floats).reset_index(drop=True).to_parquet(sink, index=False)
        store.put(TABLE, sink.getvalue())
        final = replace(meta, provenance=meta.provenance | dict(provenance or {}))
        digest = hashlib.sha256(sink.getvalue()).hexdigest()
        store.put(MANIFEST, final.to_json(rows=len(table), table_sha256=digest))

    def _check(self, table: pd.DataFrame) -> None:
        meta = self.meta
        if table.empty:
            raise RequestError("no chip to store: nothing could be read", self.uri)
        missing = {*COLUMNS, *STATISTICS, *meta.hazard_names} - {*table.columns}
        if missing:
            raise ShapeError(f"columns are missing: {', '.join(sorted(missing))}", "store table")
        if not table["chip"].between(0, meta.chips - 1).all() or table["chip"].duplicated().any():
            raise ShapeError(f"rows must name different chips of {meta.chips}", "store table")
        if not table["label"].between(-1, len(meta.classes) - 1).all():
            raise ShapeError(
                f"labels must be -1 or one of {len(meta.classes)} classes", "store table"
            )

    def _describe(self) -> None:
        """Writes the metadata of the arrays."""
        store = open_store(self.uri, self.options)
        group = {"zarr_format": 3, "node_type": "group", "attributes": {}}
        store.put(f"{ARRAYS}/zarr.json", to_json(group))
        for name, shape in self.meta.arrays.items():
            described = array_metadata(name, shape, self.meta)
            store.put(f"{ARRAYS}/{name}/zarr.json", to_json(described))


class ShardStream:
    """Writes chips as they arrive, without knowing their number beforehand. For one process.

    Args:
        writer: a writer after `begin`; the `chips` of its meta do not matter.
    """

    def __init__(self, writer: StoreWriter) -> None:
        self._writer, self._written, self._waiting = writer, 0, 0
        self._parts: list[Mapping[str, NDArray[Any]]] = []

    @property
    def chips(self) -> int:
        """Number of chips that were added."""
        return self._written + self._waiting

    def add(self, pixels: Mapping[str, NDArray[Any]]) -> None:
        """Adds chips and writes every shard that is full.

        Raises:
            ShapeError: if the arrays are not chips of the store.
            StorageError: if a shard cannot be written.
        """
        self._parts.append(pixels)
        self._waiting += len(pixels["inside"])
        size = self._writer.meta.shard_chips
        while self._waiting >= size:
            self._flush(size)

    def finish(self, table: pd.DataFrame, provenance: Mapping[str, Any] | None = None) -> None:
        """Writes the remaining chips and finishes the store, see `StoreWriter.finish`."""
        if self._waiting:
            if not self._written:  # One shard holds all chips, and may be as small as they are.
                small = replace(self._writer.meta, shard_chips=self._waiting)
                self._writer = replace(self._writer, meta=small)
            self._flush(self._waiting)
        final = replace(self._writer, meta=replace(self._writer.meta, chips=self._written))
        final.finish(table, provenance)

    def _flush(self, count: int) -> None:
        names = self._writer.meta.arrays
        arrays = {name: np.concatenate([part[name] for part in self._parts]) for name in names}
        shard, end = self._written // self._writer.meta.shard_chips, self._written + count
        sized = replace(self._writer, meta=replace(self._writer.meta, chips=end))
        sized.write(shard, {name: array[:count] for name, array in arrays.items()})
        self._parts = [{name: array[count:] for name, array in arrays.items()}]
        self._written, self._waiting = end, self._waiting - count
