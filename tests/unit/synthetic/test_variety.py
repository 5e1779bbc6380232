"""Towns that differ more: what each range changes, and that the demo's world is not among them."""

from dataclasses import replace

import numpy as np
import pytest
import shapely

from quakestream.synthetic import TINY, TRAINING, TRAINING_WIDE, Variety
from quakestream.synthetic.collapse import Collapse
from quakestream.synthetic.earthquake import Epochs, make_epochs
from quakestream.synthetic.sensor import Acquisition
from quakestream.synthetic.settings import Traits
from quakestream.synthetic.town import Town
from quakestream.synthetic.world import SyntheticWorld, burn_polygons

WIDE = TRAINING_WIDE.variety


def epochs(**ranges: tuple[float, float]) -> Epochs:
    variety = replace(Variety(), **ranges)
    return make_epochs(3, replace(TINY, variety=variety, destroyed=0.5))


def test_the_demo_and_earlier_towns_stay_as_they_are() -> None:
    same = Traits(partial=0.2, rubble_contrast=1.0, dust=0.7, crowding=0.0, concrete=0.0)
    assert [Variety().traits(seed) for seed in (1, 2)] == [same, same]
    assert TRAINING.variety == TINY.variety == Variety()


def test_scenes_lean_to_35_degrees_and_are_blurred_like_those_of_coarser_sensors() -> None:
    views = [Acquisition.random(seed, layout, WIDE) for seed in range(60) for layout in TINY.scenes]
    lean = np.array([view.off_nadir_deg for view in views])
    blur = np.array([view.blur_px for view in views])
    haze = np.array([view.haze for view in views])
    assert 33 < lean.max() <= 35
    assert 1.2 < blur.max() <= 1.3
    assert blur.min() < 0.35
    assert 0.17 < haze.max() <= 0.2


def test_crowded_houses_stand_closer_and_never_overlap() -> None:
    gaps = []
    for crowding in (0.0, 0.9):
        size = replace(TINY, variety=Variety(crowding=(crowding, crowding)))
        outlines = Town.random(3, size, SyntheticWorld.of(size)).buildings.polygons
        tree = shapely.STRtree(outlines)
        assert not len(tree.query(outlines, predicate="overlaps")[0])
        _, gap_m = tree.query_nearest(outlines, exclusive=True, return_distance=True)
        gaps.append(float(np.median(gap_m)))
    assert gaps[1] < 0.4 * gaps[0]


@pytest.mark.parametrize(("partial", "low", "high"), [(0.0, 0.0, 0.0), (0.6, 0.4, 0.8)])
def test_a_part_of_some_destroyed_buildings_stands(partial: float, low: float, high: float) -> None:
    here = epochs()
    traits = replace(Variety().traits(3), partial=partial)
    collapse = Collapse.random(3, here.town.buildings, here.damage, traits)
    until = collapse.roofs.stands_until[here.damage.destroyed]
    assert low <= np.mean((until > -1) & (until < 1)) <= high


def test_dull_rubble_is_smoother_than_bright_rubble() -> None:
    spreads = []
    for contrast in (1.0, 0.2):
        here = epochs(rubble_contrast=(contrast, contrast), partial=(0.0, 0.0))
        fallen = list(here.town.buildings.polygons[here.damage.destroyed])
        inside = burn_polygons(here.world, fallen) > 0
        spreads.append(float(here.post.albedo_BYX[1][inside].std()))
    assert spreads[1] < 0.6 * spreads[0]


def test_roofs_of_concrete_are_grey() -> None:
    colours = []
    for share in (0.0, 1.0):
        size = replace(TINY, variety=Variety(concrete=(share, share)))
        colour_N3 = Town.random(3, size, SyntheticWorld.of(size)).buildings.colour_N3
        colours.append(float(np.mean(colour_N3[:, 0] - colour_N3[:, 2])))
    assert colours[1] < 0.5 * colours[0]
