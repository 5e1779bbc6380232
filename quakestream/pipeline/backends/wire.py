"""Tasks as they cross the cluster: pickled without their scenes."""

import pickle
from collections.abc import Mapping
from io import BytesIO
from typing import Any, cast

from quakestream.pipeline.work.tasks import GroupTask, WorkerScene

Scenes = dict[tuple[str, str], WorkerScene]
"""Scenes by href and version. Their coarse masks are megabytes, and travel once instead of with
each cell."""


def dump_task(task: GroupTask, scenes: Scenes) -> bytes:
    """Pickles a task that names its scenes, which are added to `scenes`."""
    sink = BytesIO()
    _ScenePickler(sink, scenes).dump(task)
    return sink.getvalue()


def load_task(raw: bytes, scenes: Mapping[tuple[str, str], WorkerScene]) -> GroupTask:
    return cast("GroupTask", _SceneUnpickler(BytesIO(raw), scenes).load())


class _ScenePickler(pickle.Pickler):
    def __init__(self, sink: BytesIO, scenes: Scenes) -> None:
        super().__init__(sink, protocol=5)
        self._scenes = scenes

    def persistent_id(self, obj: Any) -> tuple[str, str] | None:
        if type(obj) is not WorkerScene:
            return None
        key = (obj.scene.href, obj.scene.etag)
        self._scenes.setdefault(key, obj)
        return key


class _SceneUnpickler(pickle.Unpickler):
    def __init__(self, source: BytesIO, scenes: Mapping[tuple[str, str], WorkerScene]) -> None:
        super().__init__(source)
        self._scenes = scenes

    def persistent_load(self, pid: Any) -> WorkerScene:
        return self._scenes[pid]
