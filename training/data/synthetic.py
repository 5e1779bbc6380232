"""Labelled pairs of synthetic earthquakes, in which the state of every building is known."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import geopandas as gpd

from quakestream.domain import damage_words
from quakestream.synthetic import TRAINING, TRAINING_WIDE, SizePreset, make_earthquake
from training.data.pairs import Building, LabelledPair, pair_up, read_image

DESTROYED = damage_words.SYNTHETIC.labels[-1]
TRAINING_SEEDS = tuple(range(101, 113))
HELD_SEEDS = (201, 202, 203)
"""Seeds of held-out towns. The demonstration's seed, 7, must never be in either list."""
WIDE_SEEDS = tuple(range(301, 319))
WIDE_HELD_SEEDS = (401, 402, 403)
"""Seeds of towns of `TRAINING_WIDE`, those that are held out apart."""
WIDE_SHARES = (0.0, 0.1, 0.35)
"""Expected shares of destroyed buildings of those towns, by turns: a third is untouched."""
WIDE_SIDE_M = 800.0


def region_of(seed: int) -> str:
    """Name of a town's region. Splits need it because towns of all seeds lie at one place."""
    return f"seed-{seed}"


def synthetic_pairs(seeds: Sequence[int]) -> list[LabelledPair]:
    """One pair per seed, generated anew so that it is never older than the generator."""
    with TemporaryDirectory() as folder:
        return [synthetic_pair(seed, Path(folder) / str(seed)) for seed in seeds]


def wide_pairs(seeds: Sequence[int]) -> list[LabelledPair]:
    """One pair per seed of towns and scenes that differ more; every third town is untouched."""
    pairs = []
    for seed in seeds:
        share = WIDE_SHARES[seed % len(WIDE_SHARES)]
        with TemporaryDirectory() as folder:
            pairs.append(
                synthetic_pair(
                    seed, Path(folder), destroyed=share, side_m=WIDE_SIDE_M, size=TRAINING_WIDE
                )
            )
    return pairs


def synthetic_pair(
    seed: int,
    folder: Path,
    *,
    destroyed: float | None = None,
    side_m: float | None = None,
    size: SizePreset = TRAINING,
) -> LabelledPair:
    """The pair of one seed, with an expected share of destroyed buildings if one is given."""
    size = replace(size, destroyed=destroyed)
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
