"""Tasks as they cross the cluster: pickled without their scenes."""

import pickle
from collections.abc import Mapping
from io import BytesIO
from typing import Any, cast

from quakestream.pipeline.work.tasks import GroupTask, WorkerScene

Scenes = dict[tuple[str, ...], WorkerScene]
"""Scenes by their `key`. Their coarse masks are megabytes, and travel once instead of with each
cell."""


def dump_task(task: GroupTask, scenes: Scenes) -> bytes:
    """Pickles a task that names its scenes, which are added to `scenes`."""
    sink = BytesIO()
    _ScenePickler(sink, scenes).dump(task)
    return sink.getvalue()


def load_task(raw: bytes, scenes: Mapping[tuple[str, ...], WorkerScene]) -> GroupTask:
    return cast("GroupTask", _SceneUnpickler(BytesIO(raw), scenes).load())


class _ScenePickler(pickle.Pickler):
    def __init__(self, sink: BytesIO, scenes: Scenes) -> None:
        super().__init__(sink, protocol=5)
        self._scenes = scenes

    def persistent_id(self, obj: Any) -> tuple[str, ...] | None:
        if type(obj) is not WorkerScene:
            return None
        self._scenes.setdefault(obj.key, obj)
        return obj.key


class _SceneUnpickler(pickle.Unpickler):
    def __init__(self, source: BytesIO, scenes: Mapping[tuple[str, ...], WorkerScene]) -> None:
        super().__init__(source)
        self._scenes = scenes

    def persistent_load(self, pid: Any) -> WorkerScene:
        return self._scenes[pid]
