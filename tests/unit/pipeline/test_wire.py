"""Tasks cross the cluster without their scenes, and meet the right ones again."""

import datetime as dt
from dataclasses import replace

import numpy as np
import pytest
from affine import Affine
from shapely.geometry import box

from quakestream.domain import Bands, Scene, acquisition_of
from quakestream.pipeline.backends.wire import Scenes, dump_task, load_task
from quakestream.pipeline.work.tasks import GroupTask, WorkerScene
from quakestream.raster.masks import CoarseQuality
from quakestream.raster.statistics import SceneStatistics

SCENE = Scene(
    id="one",
    href="one.tif",
    etag="v1",
    datetime=dt.datetime(2023, 2, 7, tzinfo=dt.UTC),
    outline=box(0, 0, 1, 1),
    bands=Bands(),
)
TURNED = replace(SCENE, id="turned", bands=Bands(rgb=(3, 2, 1)))


def known(scene: Scene, mean: float) -> WorkerScene:
    quality = CoarseQuality(block_YX=np.zeros((1, 1), np.uint8), transform=Affine.identity())
    statistics = SceneStatistics(mean_B=(mean,) * 3, std_B=(1.0,) * 3)
    return WorkerScene(scene=scene, statistics=statistics, qualities=(("", quality),))


@pytest.mark.parametrize(
    "pair",
    [(SCENE, TURNED), (acquisition_of([SCENE]), acquisition_of([TURNED]))],
    ids=["file", "tile"],
)
def test_one_file_with_two_orders_of_bands_is_two_scenes(pair: tuple[Scene, Scene]) -> None:
    first, second = (known(scene, mean) for scene, mean in zip(pair, (1.0, 2.0), strict=True))
    scenes: Scenes = {}
    raw = dump_task(GroupTask(name="group", cells=(first, second)), scenes)  # type: ignore[arg-type]
    assert load_task(raw, scenes).cells == (first, second)
    assert len(scenes) == 2
