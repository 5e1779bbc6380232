"""Fitting and judging the calibration of a building's score on drawn towns."""

from pathlib import Path
from shutil import copytree

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from shapely.geometry import box

import quakestream
from quakestream.bundles import load_bundle
from quakestream.domain import Calibration, Grid, Window
from quakestream.domain.calibration import ScoreShape
from quakestream.errors import RequestError
from training.data.pairs import Building, Image, LabelledPair
from training.shares.fit import fit, shape_of, town_figures
from training.shares.judge import (
    COUNTS,
    LeftOutTown,
    calibration_error,
    districts,
    least_silent,
    verdict_of,
)
from training.shares.restate import restate
from training.shares.tables import with_verified

SHIPPED = Path(quakestream.__file__).parent / "bundles" / "shipped"


def town(name: str, share: float, *, moved: float, count: int = 300, seed: int = 0) -> pd.DataFrame:
    """Scores whose logits are normal: intact around -2, destroyed around 2, all moved."""
    rng = np.random.default_rng(seed)
    destroyed_N = rng.permutation(count) < round(share * count)
    logit_N = rng.normal(-2.0, 0.8, count) + 4.0 * destroyed_N + moved
    return pd.DataFrame(
        {
            "town": name,
            "pair": f"{name}-{share:g}",
            "family": name,
            "destroyed": destroyed_N,
            "score": expit(logit_N),
            "area_m2": 100.0,
            "pre_post_difference": 20.0,
            "x_m": rng.uniform(0, 1000, count),
            "y_m": rng.uniform(0, 1000, count),
        }
    )


@pytest.fixture(scope="module")
def towns() -> pd.DataFrame:
    parts = [town(f"t{n}", 0.3, moved=moved, seed=n) for n, moved in enumerate((-1.0, 0.0, 1.0))]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def calibration(towns: pd.DataFrame) -> Calibration:
    return fit(towns)


def test_peaks_of_towns_are_found(towns: pd.DataFrame) -> None:
    figures = town_figures(towns, logit(towns["score"].to_numpy()))
    assert [f.intact_at for f in figures] == pytest.approx([-3.0, -2.0, -1.0], abs=0.15)
    assert [f.destroyed_at for f in figures] == pytest.approx([1.0, 2.0, 3.0], abs=0.4)
    shape = shape_of(figures)
    assert shape.intact_at == pytest.approx(-2.0, abs=0.15)
    # The towns deviate by 1.0; a new one lies a little farther off: sqrt(1 + 1/3).
    assert shape.intact_at_sd == pytest.approx(1.155, abs=0.15)
    assert shape.intact_width == pytest.approx(0.8, abs=0.1)


def test_a_fitted_calibration_judges_a_town_that_lies_elsewhere(calibration: Calibration) -> None:
    assert calibration.weights[0] > 1.0
    for share, moved in ((0.0, 1.2), (0.3, -1.2)):
        told = verdict_of(calibration, town("new", share, moved=moved, seed=9), "new")
        assert told.covered
        assert abs(told.declared - told.destroyed) <= 3
        assert told.calibration_error < 0.03


def test_destroyed_buildings_that_look_intact_are_allowed_for_where_towns_show_them() -> None:
    """Half of what fell in one town scores like what stands; in the other all of it is seen."""
    calibration = Calibration(
        share=0.5,
        features=("score_logit",),
        weights=(1.0,),
        intercept=1.0,  # intact scores lie around -1: of 100 destroyed, 37 may lie there
        covariance=((0.01, 0.0), (0.0, 0.01)),
        region_sd=1.0,
        fitted_on="nothing",
        shape=ScoreShape(intact_at=-1.0, intact_width=0.8, destroyed_at=3.0, destroyed_width=0.8),
    )
    seen, hidden = (_half_hidden(calibration, hides) for hides in (False, True))
    assert least_silent([seen], silents=(0.0, 2.0)) == least_silent([]) == 0.0
    assert least_silent([hidden], silents=(0.0, 2.0)) == 2.0
    missed, held = hidden.verdict(0.0), hidden.verdict(2.0)
    assert missed.high < missed.destroyed == 90 <= held.high
    assert held.declared == missed.declared == pytest.approx(45, abs=2)


def _half_hidden(calibration: Calibration, hides: bool) -> LeftOutTown:
    table = town("t", 0.3, moved=0.0, seed=5)
    fallen_n = np.flatnonzero(table["destroyed"])[::2]
    logit_N = logit(table["score"].to_numpy())
    if hides:
        logit_N[fallen_n] -= 4.0
    return LeftOutTown(calibration=calibration, table=table.assign(score=expit(logit_N)), name="t")


def test_districts_count_what_their_intervals_hold(calibration: Calibration) -> None:
    judged = pd.concat([town("a", 0.0, moved=0.0, seed=5), town("b", 0.3, moved=0.0, seed=6)])
    told = districts(calibration, judged, count=4)
    assert set(told.by_share) == {"0", "0.3"}
    assert told.covered >= 3
    assert told.declared_where_none <= 0.01


def test_a_town_without_destroyed_buildings_alone_cannot_be_fitted() -> None:
    with pytest.raises(RequestError, match="no town has destroyed"):
        fit(town("a", 0.0, moved=0.0))


def test_the_calibration_error_is_the_mean_gap_of_bins() -> None:
    p_N = np.repeat([0.1, 0.9], 50)
    destroyed_N = np.concatenate([np.arange(50) < 10, np.arange(50) < 45])
    # Ten bins of ten: one of the first five holds all ten destroyed ones, four hold none.
    gaps = [0.9, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.4]
    assert calibration_error(p_N, destroyed_N) == pytest.approx(np.mean(gaps))


def test_a_verified_outline_stands_for_the_building_that_it_touches() -> None:
    grid = Grid(epsg=32637, gsd_m=0.5)
    window = Window(row=0, col=0, height=100, width=100)
    left, bottom, *_ = grid.bounds(window)
    image = Image(
        grid=grid,
        window=window,
        pixels_BYX=np.zeros((3, 100, 100), np.uint8),
        statistics=None,  # type: ignore[arg-type]
    )
    place = [box(left + x, bottom + 5, left + x + 8, bottom + 15) for x in (2, 20, 36)]
    known = tuple(Building(id=f"b{n}", geometry=place[n], destroyed=False) for n in (0, 1))
    pair = LabelledPair(name="p", region="r", pre=image, post=image, buildings=known)
    verified = gpd.GeoDataFrame(
        {"osm_id": [7, 8], "destroyed": [1, 0]}, geometry=[place[1], place[2]], crs=32637
    )
    told = {b.id: b.destroyed for b in with_verified(pair, verified).buildings}
    assert told == {"b0": False, "verified-7": True, "verified-8": False}


def test_a_restated_bundle_keeps_its_weights_and_verifies(
    tmp_path: Path, calibration: Calibration
) -> None:
    folder = tmp_path / "damage-synthetic"
    copytree(SHIPPED / "damage-synthetic", folder)
    before = load_bundle(str(folder))
    told = verdict_of(calibration, town("new", 0.3, moved=0.0, seed=9), "new")
    spec = restate(folder, calibration, [told])
    after = load_bundle(str(folder))
    assert spec.calibration == calibration == after.spec.calibration
    assert after.digest != before.digest
    assert after.graph == before.graph
    assert calibration.fitted_on in (folder / "card.md").read_text()
    (counts,) = after.spec.metrics[COUNTS]
    assert (counts["destroyed"], counts["declared"]) == (90, told.declared)
