"""Events that episodes are drawn from: surveyed points by block, and buildings by features."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer, StandardScaler

from quakestream.synthetic import TRAINING, make_earthquake
from quakestream.synthetic.shaking import GRADES
from training.anyway.episodes import GradedEvent, in_blocks
from training.data.pairs import Building, LabelledPair, pair_up, read_image
from training.data.post_tiles import tiles_of_pair
from training.data.turkiye import default_data_dir
from training.data.vectors import FIELD_CLASSES, read_field_points
from training.lessons.transfer import FeatureTiles, domain_features, features_of
from training.probe import building_features

TRAIN_SEEDS, TEST_SEEDS = (101, 102), (201,)
FIELD_BLOCK_M, FIELD_GAP_M = 1500.0, 500.0
"""Side of a block, and distance that training points keep from test blocks, metres."""
WIDTH = 64
"""Features that are kept of an image, by principal components of the training events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """Events to learn from, and groups of events that are graded."""

    train: tuple[GradedEvent, ...]
    test: dict[str, tuple[GradedEvent, ...]]
    ways: tuple[int, ...]


def field_sides() -> Sides:
    """Surveyed points: a third of the blocks of ground is the test.

    Raises:
        RequestError: if the points are missing.
    """
    points = read_field_points(default_data_dir())
    cell_N2 = np.floor(np.stack([points.x_m_N, points.y_m_N], axis=1) / FIELD_BLOCK_M)
    cells, block_N = np.unique(cell_N2, axis=0, return_inverse=True)
    block_N = block_N.reshape(-1)
    tested_B = np.random.default_rng(0).permutation(len(cells)) % 3 == 0
    train_N = ~tested_B[block_N] & ~_near(points.x_m_N, points.y_m_N, cells[tested_B])
    scaled = make_pipeline(QuantileTransformer(output_distribution="normal"), StandardScaler())
    scaled.fit(points.features_NM[train_N])
    known_NM = np.nan_to_num(scaled.transform(points.features_NM))

    def event(where_N: NDArray[np.bool_], name: str) -> GradedEvent:
        return GradedEvent(
            name=name,
            feature_ND=known_NM[where_N].astype(np.float32),
            grade_N=points.label_N[where_N].astype(np.int64),
            grades=len(FIELD_CLASSES),
        )

    learnt, tested_N = event(train_N, "surveyed"), tested_B[block_N]
    return Sides(
        train=(learnt, *in_blocks(learnt, block_N[train_N], "block")),
        test={"held-out blocks": (event(tested_N, "held-out"),)},
        ways=(2, 3, 4, 5),
    )


def image_sides() -> Sides:
    """Buildings after the event: generated towns of three grades, and two real cities of two.

    Raises:
        RequestError: if the real cities are missing.
    """
    towns = [_town(seed) for seed in (*TRAIN_SEEDS, *TEST_SEEDS)]
    cities = {name: _city(name) for name in ("adiyaman", "islahiye")}
    scaled = make_pipeline(StandardScaler(), PCA(WIDTH, whiten=True, random_state=0))
    scaled.fit(np.concatenate([town[0] for town in towns[: len(TRAIN_SEEDS)]]))

    def event(name: str, made: tuple[NDArray[np.float32], NDArray[np.int64]]) -> GradedEvent:
        feature_ND = scaled.transform(made[0]).astype(np.float32)
        return GradedEvent(
            name=name, feature_ND=feature_ND, grade_N=made[1], grades=int(made[1].max()) + 1
        )

    named = [event(f"town-{n}", town) for n, town in enumerate(towns)]
    return Sides(
        train=tuple(named[: len(TRAIN_SEEDS)]),
        test={
            "other towns": tuple(named[len(TRAIN_SEEDS) :]),
            **{name: (event(name, city),) for name, city in cities.items()},
        },
        ways=(2, 3),
    )


def _city(name: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    held = domain_features(name, "lite0", "")
    row_N, feature_ND = building_features(held)
    return feature_ND, held.tiles.buildings["destroyed"].to_numpy(np.int64)[row_N]


def _town(seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features and grades of the buildings of a generated town."""
    with TemporaryDirectory() as folder:
        made = make_earthquake(Path(folder), seed=seed, size=TRAINING)
        pre, post = pair_up(read_image(made.pre[0]), read_image(made.post[0]))
        grade_of = gpd.read_parquet(made.truth).set_index("building_id")["grade"]
        outlines = gpd.read_file(made.footprints).to_crs(f"EPSG:{post.grid.epsg}")
    buildings = tuple(
        Building(id=str(i), geometry=g, destroyed=grade_of[i] == GRADES[-1])
        for i, g in zip(outlines["id"], outlines.geometry, strict=True)
        if grade_of.get(i) in GRADES
    )
    pair = LabelledPair(name=f"town-{seed}", region="", pre=pre, post=post, buildings=())
    inside = tuple(b for b in buildings if pair.outline.contains(b.geometry))
    shown = LabelledPair(name=pair.name, region="", pre=pre, post=post, buildings=inside)
    tiles = tiles_of_pair(shown, pair.name)
    held = FeatureTiles(tiles=tiles, map_NDYX=features_of(tiles.pixels_NBYX, "lite0", ""))
    row_N, feature_ND = building_features(held)
    grades = [GRADES.index(grade_of[b.id]) for b in inside]
    return feature_ND, np.array(grades, np.int64)[row_N]


def _near(
    x_m_N: NDArray[np.float64], y_m_N: NDArray[np.float64], cell_B2: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """True where a point lies within the gap of a cell."""
    near_N = np.zeros(len(x_m_N), bool)
    for column, row in cell_B2:
        apart_x = np.abs(x_m_N - (column + 0.5) * FIELD_BLOCK_M) - FIELD_BLOCK_M / 2
        apart_y = np.abs(y_m_N - (row + 0.5) * FIELD_BLOCK_M) - FIELD_BLOCK_M / 2
        near_N |= np.maximum(apart_x, apart_y) < FIELD_GAP_M
    return near_N
