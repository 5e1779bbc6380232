"""Labelled pairs of synthetic earthquakes, in which the state of every building is known."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import geopandas as gpd

from quakestream.domain import damage_words
from quakestream.synthetic import TRAINING, make_earthquake
from training.data.pairs import Building, LabelledPair, pair_up, read_image

DESTROYED = damage_words.SYNTHETIC.labels[-1]
TRAINING_SEEDS = tuple(range(101, 113))
HELD_SEEDS = (201, 202, 203)
"""Seeds of held-out towns. The demonstration's seed, 7, must never be in either list."""


def region_of(seed: int) -> str:
    """Name of a town's region. Splits need it because towns of all seeds lie at one place."""
    return f"seed-{seed}"


def synthetic_pairs(seeds: Sequence[int]) -> list[LabelledPair]:
    """One pair per seed, generated anew so that it is never older than the generator."""
    with TemporaryDirectory() as folder:
        return [synthetic_pair(seed, Path(folder) / str(seed)) for seed in seeds]


def synthetic_pair(
    seed: int, folder: Path, *, destroyed: float | None = None, side_m: float | None = None
) -> LabelledPair:
    """The pair of one seed, with an expected share of destroyed buildings if one is given."""
    size = replace(TRAINING, destroyed=destroyed)
    if side_m is not None:
        size = replace(size, extent_m=(side_m, side_m))
    town = make_earthquake(folder, seed=seed, size=size)
    pre, post = pair_up(read_image(town.pre[0]), read_image(town.post[0]))
    state = gpd.read_parquet(town.truth).set_index("building_id")["damage_label"]
    outlines = gpd.read_file(town.footprints).to_crs(f"EPSG:{post.grid.epsg}")
    pair = LabelledPair(
        name=f"synthetic-{seed}", region=region_of(seed), pre=pre, post=post, buildings=()
    )
    buildings = tuple(
        Building(id=str(id_), geometry=geometry, destroyed=state[id_] == DESTROYED)
        for id_, geometry in zip(outlines["id"], outlines.geometry, strict=True)
        if pair.outline.contains(geometry)
    )
    return LabelledPair(name=pair.name, region=pair.region, pre=pre, post=post, buildings=buildings)
