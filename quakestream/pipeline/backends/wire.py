"""What crosses the cluster: tasks without their scenes, and cells as arrays beside a pickle."""

import pickle
from collections.abc import Mapping
from io import BytesIO
from itertools import accumulate
from typing import Any, cast

import numpy as np
import pyarrow as pa

from quakestream.pipeline.tasks import BatchTask, SceneTask

Scenes = dict[tuple[str, str], SceneTask]
"""By href and version. A scene's coarse masks are megabytes: they travel once, not with each
of its cells."""


def dump_task(task: BatchTask, scenes: Scenes) -> bytes:
    """A task that names its scenes; they are added to `scenes`."""
    sink = BytesIO()
    _Leaving(sink, scenes).dump(task)
    return sink.getvalue()


def load_task(raw: bytes, scenes: Mapping[tuple[str, str], SceneTask]) -> BatchTask:
    return cast("BatchTask", _Finding(BytesIO(raw), scenes).load())


class _Leaving(pickle.Pickler):
    def __init__(self, sink: BytesIO, scenes: Scenes) -> None:
        super().__init__(sink, protocol=5)
        self._scenes = scenes

    def persistent_id(self, obj: Any) -> tuple[str, str] | None:
        if type(obj) is not SceneTask:
            return None
        key = (obj.scene.href, obj.scene.etag)
        self._scenes.setdefault(key, obj)
        return key


class _Finding(pickle.Unpickler):
    def __init__(self, source: BytesIO, scenes: Mapping[tuple[str, str], SceneTask]) -> None:
        super().__init__(source)
        self._scenes = scenes

    def persistent_load(self, pid: Any) -> SceneTask:
        return self._scenes[pid]


ALIGNED = 64
"""Bytes: where an array begins, as numpy would have it."""


def packed(value: Any) -> pa.Table:
    """One row: a pickle without its arrays, and the arrays' bytes end to end. They are copied
    once here, once into the object store, and not at all where they are read."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    raws = [np.frombuffer(buffer.raw(), np.uint8) for buffer in buffers]
    sizes = [len(raw) for raw in raws]
    whole = np.empty(sum(-(-size // ALIGNED) * ALIGNED for size in sizes), np.uint8)
    for start, raw in zip(_starts(sizes), raws, strict=True):
        whole[start : start + len(raw)] = raw
    bounds = pa.py_buffer(np.array([0, len(whole)], np.int64))
    kind = pa.large_binary()
    bulk = pa.LargeBinaryArray.from_buffers(kind, 1, [None, bounds, pa.py_buffer(whole)])
    return pa.table({"head": pa.array([head], kind), "bulk": bulk, "sizes": [sizes]})


def unpacked(table: pa.Table) -> Any:
    """What was packed; its arrays are views of the table, and read-only."""
    bulk = memoryview(table["bulk"][0].as_buffer())
    sizes = table["sizes"][0].as_py()
    views = [bulk[a : a + size] for a, size in zip(_starts(sizes), sizes, strict=True)]
    return pickle.loads(table["head"][0].as_buffer(), buffers=views)


def _starts(sizes: list[int]) -> list[int]:
    return [0, *accumulate(-(-size // ALIGNED) * ALIGNED for size in sizes)][: len(sizes)]
