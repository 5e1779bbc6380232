"""Runs of a fixed size, two at a time. The runtimes of a device share this code.

A device is fast when its shapes never change and when it does not wait for the host. Every run
therefore has the same number of items, and copies of its last item pad the last run. While the
device works on one run, the host fills the second of two buffers.

`quakestream.domain.axes` explains the axis letters of array names. Here P counts pixels that have
an owner.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from quakestream.domain import BundleSpec
from quakestream.engines.base import Batch
from quakestream.engines.shapes import ROWS_AT_ONCE, crops_at_once, noise
from quakestream.errors import EngineError, QuakestreamError, ShapeError

SLOTS = 2
"""Buffers that are used in turn."""
DEVICE_PIXELS = 2**23
"""Pixels of one run on a device, such as 32 windows of 512 px or 56 crops of 384 px.

They fill a large GPU, and take a few GB of its memory for the widest supported network.
"""
MOST_ON_DEVICE = 128
"""Largest number of items in one run on a device."""

Item = tuple[tuple[int, ...], type[np.generic]]
"""Shape and type of one item of a graph input."""


class Runner(Protocol):
    """Runs a graph with one fixed batch size.

    Methods queue work in order and return. `take` and `sums` wait for it.
    """

    @property
    def size(self) -> int:
        """Items of every run."""
        ...

    def buffers(self, slot: int) -> Mapping[str, NDArray[Any]]:
        """Host buffers of a slot, by input. Waits until their content has left for the device."""
        ...

    def run(self, slot: int) -> None:
        """Queues the graph on a slot."""
        ...

    def fetch(self, slot: int) -> None:
        """Queues the copy of logits to the host, for the slot that ran last."""
        ...

    def take(self, slot: int) -> NDArray[np.float32]:
        """Logits of a slot after `fetch`. They are valid until the slot runs again."""
        ...

    def open_sums(self, owners: int) -> None:
        """Starts sums over a number of owners."""
        ...

    def add(self, slot: int, owner_nYX: NDArray[np.int32]) -> None:
        """Queues the sums of the slot that ran last. Its first n items have owners."""
        ...

    def sums(self) -> NDArray[np.int64]:
        """Sums since `open_sums`, shape (R, C)."""
        ...


class FixedEngine:
    """Base of engines whose runs have a fixed length. A subclass sets the three attributes."""

    _batches: "FixedBatches"
    _name: str
    _on_gpu: bool

    @property
    def name(self) -> str:
        return self._name

    @property
    def on_gpu(self) -> bool:
        return self._on_gpu

    @property
    def batch(self) -> int:
        """Items of every run."""
        return self._batches.size

    def score(self, batch: Batch) -> NDArray[np.float32]:
        return self._batches.score(batch)

    def sums(self, batch: Batch, owner_NYX: NDArray[np.int32]) -> NDArray[np.int64]:
        return self._batches.sums(batch, owner_NYX)


class FixedBatches:
    """Scores batches of any length with a runner."""

    def __init__(self, runner: Runner, spec: BundleSpec) -> None:
        self._runner, self._spec = runner, spec
        self._items = graph_inputs(spec)

    @property
    def size(self) -> int:
        """Items of every run."""
        return self._runner.size

    def score(self, batch: Batch) -> NDArray[np.float32]:
        """As `Engine.score`.

        Raises:
            ShapeError: the batch is not what the bundle's manifest says.
            EngineError: the runtime fails, or its device has too little memory.
        """
        arrays = self._arrays(batch)
        with self._failures():
            return self._logits(arrays, len(batch))

    def sums(self, batch: Batch, owner_NYX: NDArray[np.int32]) -> NDArray[np.int64]:
        """As `Engine.sums`; raises what `score` raises."""
        batch.check_pixels(self._spec)
        arrays = self._arrays(batch)
        with self._failures():
            return self._sums(arrays, owner_NYX)

    def _arrays(self, batch: Batch) -> Mapping[str, NDArray[Any]]:
        batch.check(self._spec)
        arrays = batch.inputs(0, len(batch))
        if missing := [name for name in self._items if name not in arrays]:
            raise ShapeError(f"batch lacks {', '.join(missing)}", self._spec.name)
        return arrays

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Turns errors of frameworks, drivers and allocators into `EngineError`."""
        try:
            yield
        except QuakestreamError:
            raise
        except RuntimeError as error:
            raise EngineError(
                f"the runtime failed on a run of {_items(self.size)} ({first_line(error)})",
                self._spec.name,
            ) from error

    def _logits(self, arrays: Mapping[str, NDArray[Any]], count: int) -> NDArray[np.float32]:
        chunks = self._chunks(np.arange(count))
        parts: list[NDArray[np.float32]] = []
        for number, rows in enumerate(chunks):
            if number >= SLOTS:
                parts.append(self._take(chunks, number - SLOTS))
            self._start(number % SLOTS, arrays, rows)
            self._runner.fetch(number % SLOTS)
        parts += [self._take(chunks, n) for n in range(len(chunks))[-SLOTS:]]
        return np.concatenate(parts) if parts else self._no_logits()

    def _sums(
        self, arrays: Mapping[str, NDArray[Any]], owner_NYX: NDArray[np.int32]
    ) -> NDArray[np.int64]:
        """Sums per owner. Windows without an owned pixel do not run."""
        self._runner.open_sums(int(owner_NYX.max(initial=-1)) + 1)
        owned = np.flatnonzero((owner_NYX >= 0).any(axis=(1, 2)))
        for number, rows in enumerate(self._chunks(owned)):
            self._start(number % SLOTS, arrays, rows)
            self._runner.add(number % SLOTS, owner_NYX[rows])
        return self._runner.sums()

    def _chunks(self, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        return [rows[n : n + self.size] for n in range(0, len(rows), self.size)]

    def _start(
        self, slot: int, arrays: Mapping[str, NDArray[Any]], rows: NDArray[np.int64]
    ) -> None:
        for name, buffer in self._runner.buffers(slot).items():
            array = np.asarray(arrays[name], buffer.dtype)
            # `take` writes into pinned memory, while indexing would make a copy first.
            np.take(array, rows, axis=0, out=buffer[: len(rows)], mode="clip")
            buffer[len(rows) :] = buffer[len(rows) - 1]
        self._runner.run(slot)

    def _take(self, chunks: Sequence[NDArray[np.int64]], number: int) -> NDArray[np.float32]:
        return self._runner.take(number % SLOTS)[: len(chunks[number])].copy()

    def _no_logits(self) -> NDArray[np.float32]:
        side, classes = self._spec.window_px, len(self._spec.classes)
        shape = (0, classes, side, side) if self._spec.scores_pixels else (0, classes)
        return np.empty(shape, np.float32)


def graph_inputs(spec: BundleSpec) -> dict[str, Item]:
    """Shape and type of one item of every graph input, in the order of the graph."""
    bands, side = len(spec.bands), spec.window_px
    kind = np.dtype(spec.dtype or "uint8").type
    items: dict[str, Item] = dict.fromkeys(spec.epochs, ((bands, side, side), kind))
    if spec.normalisation == "per_scene":
        for epoch in spec.epochs:
            items |= {f"{epoch}_{n}_NB": ((bands,), np.float32) for n in ("mean", "std")}
    if spec.hazard:
        items["hazard"] = ((len(spec.hazard),), np.float32)
    return items


def owned_pixels(
    owner_nYX: NDArray[np.int32], spec: BundleSpec, outputs: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Flat index of each owned pixel's first output in logits (N, K, Y, X), and its owner."""
    window_P, row_P, col_P = np.nonzero(owner_nYX >= 0)
    side, halo = spec.window_px, spec.halo_px
    place_P = (window_P * outputs * side + row_P + halo) * side + col_P + halo
    return place_P.astype(np.int64), owner_nYX[window_P, row_P, col_P].astype(np.int64)


def sizes(spec: BundleSpec, *, device: bool) -> tuple[int, ...]:
    """Batch sizes to try, best first. The last one is always 1, or a full run of rows.

    On a CPU several windows at a time are no faster than one, and several crops a little faster.
    """
    if spec.task == "hazard":
        return (ROWS_AT_ONCE,)
    pixels = spec.window_px**2
    if device:
        most = min(DEVICE_PIXELS // pixels, MOST_ON_DEVICE)
    else:
        most = crops_at_once(spec) if spec.task == "building" else 1
    return (most, 1) if most > 1 else (1,)


def steady(make: Callable[[int], Runner], candidates: Sequence[int], spec: BundleSpec) -> Runner:
    """The first runner that scores an item the same, to the bit, in every place of a batch.

    The score of an item must not depend on its neighbours, since a run that is resumed or cut into
    other cells has to give the same map. Kernels do not guarantee that, so noise tests it.
    """
    for size in candidates[:-1]:
        runner = make(size)
        if is_steady(FixedBatches(runner, spec), spec):
            return runner
    return make(candidates[-1])


def is_steady(batches: FixedBatches, spec: BundleSpec) -> bool:
    """Whether noise scores the same, to the bit, in several places of a batch."""
    batch = noise(spec, batches.size)
    together = batches.score(batch)
    if not np.array_equal(batches.score(batch), together, equal_nan=True):
        return False
    places = sorted({0, len(batch) // 2, len(batch) - 1})
    alone = [batches.score(batch.part(n, n + 1))[0] for n in places]
    fewer = batches.score(batch.part(1, len(batch)))
    return np.array_equal(fewer, together[1:], equal_nan=True) and all(
        np.array_equal(one, together[n], equal_nan=True)
        for one, n in zip(alone, places, strict=True)
    )


def first_line(error: Exception) -> str:
    """The first line of a framework's error. Some frameworks add pages of C++ frames."""
    return next(iter(str(error).strip().splitlines()), repr(error))


def _items(count: int) -> str:
    return "1 item" if count == 1 else f"{count} items"
