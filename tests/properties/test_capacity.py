"""Laws of the capacity model: more machines are never slower, more work never faster."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quakestream.domain import Grid
from quakestream.pipeline.planning.capacity import (
    Fleet,
    Load,
    Rates,
    load_of_area,
    nodes_for,
    predict,
    readers_wanted,
)
from quakestream.tiling import Lattice

positive = st.floats(1e-4, 1e3)


@st.composite
def loads(draw: st.DrawFn) -> Load:
    groups = draw(st.integers(1, 3000))
    cells = groups * draw(st.integers(1, 16))
    return Load(
        cells=cells,
        groups=groups,
        windows=cells * draw(st.integers(1, 16)),
        mpx=draw(st.floats(0.1, 1e6)),
        km2=draw(st.floats(0.1, 1e5)),
        footprints=draw(st.integers(0, 10**6)),
    )


rates = st.builds(
    Rates,
    read_mpx_per_s=st.floats(1, 1000),
    score_s=st.floats(1e-4, 1),
    score_cores=st.sampled_from([0.0, 0.5, 1.0, 2.0, 8.0]),
    footprint_s=st.sampled_from([0.00007, 0.0007]),
    startup_s=st.floats(0, 20),
)
fleets = st.builds(
    Fleet,
    nodes=st.integers(1, 64),
    cores=st.sampled_from([1.0, 2.0, 16.0]),
    engines=st.integers(1, 8),
    price_per_hour=st.just(1.0),
)


@given(load=loads(), rate=rates, fleet=fleets, times=st.integers(2, 5))
def test_more_work_takes_longer_and_more_cores_no_longer(
    load: Load, rate: Rates, fleet: Fleet, times: int
) -> None:
    one = predict(load, rate, fleet)
    more = replace(
        load,
        cells=load.cells * times,
        groups=load.groups * times,
        windows=load.windows * times,
        mpx=load.mpx * times,
    )
    assert predict(more, rate, fleet).stream_s >= one.stream_s * (1 - 1e-9)
    wider = predict(load, rate, replace(fleet, cores=fleet.cores * times))
    assert wider.seconds <= one.seconds * (1 + 1e-9)
    faster = predict(load, replace(rate, score_s=rate.score_s / times), fleet)
    assert faster.seconds <= one.seconds * (1 + 1e-9)


@given(load=loads(), rate=rates, fleet=fleets)
def test_the_named_limit_sets_the_pace(load: Load, rate: Rates, fleet: Fleet) -> None:
    made = predict(load, rate, fleet)
    limits = {"reading": made.read_s, "scoring": max(made.score_s, made.engine_s)}
    limits["driver"] = made.driver_s
    assert made.stream_s >= max(limits.values()) * (1 - 1e-9)
    assert made.stream_s <= made.read_s + made.score_s + made.engine_s + made.driver_s + 1e-9
    if not made.shared:
        assert limits[made.limited_by] == pytest.approx(max(limits.values()))
    assert made.cost == pytest.approx(fleet.nodes * made.seconds / 3600)


@given(load=loads(), rate=rates, hours=st.floats(0.001, 100))
def test_nodes_in_time_are_enough_and_one_less_is_not(
    load: Load, rate: Rates, hours: float
) -> None:
    node = Fleet(cores=2.0, engines=1)
    nodes = nodes_for(load, rate, node, hours)
    if nodes is None:
        most = predict(load, rate, replace(node, nodes=load.groups))
        assert most.seconds > hours * 3600
        return
    assert predict(load, rate, replace(node, nodes=nodes)).seconds <= hours * 3600
    if nodes > 1:
        assert predict(load, rate, replace(node, nodes=nodes - 1)).seconds > hours * 3600


@given(load=loads(), rate=rates)
def test_the_stated_number_of_readers_keeps_an_engine_busy(load: Load, rate: Rates) -> None:
    wanted = readers_wanted(load, rate)
    on_gpu = replace(rate, score_cores=0.0)
    fed = predict(load, on_gpu, Fleet(cores=float(wanted)))
    assert fed.read_s <= fed.score_s * (1 + 1e-9)
    if wanted > 1:
        assert predict(load, on_gpu, Fleet(cores=float(wanted - 1))).read_s > fed.score_s


def test_a_country_by_hand() -> None:
    """1,000 km² at 0.5 m in windows of 512 with 16 px of halo, two epochs; one core that reads
    50 Mpx/s beside a GPU that scores 100 windows a second."""
    grid = Grid(epsg=32637, gsd_m=0.5)
    lattice = Lattice(grid=grid, window_px=512, halo_px=16, cell_windows=4)
    load = load_of_area(1000.0, lattice=lattice, epochs=2, group_cells=4)
    assert load.windows == 17362  # 0.24 km on a side each
    assert load.mpx == pytest.approx(17362 * 2 * 0.262144)
    rate = Rates(
        read_mpx_per_s=50.0,
        score_s=0.01,
        score_cores=0.0,
        footprint_s=0.0,
        cell_s=0.0,
        driver_s=0.0,
    )
    made = predict(load, rate, Fleet(cores=1.0, engines=1, price_per_hour=2.0))
    assert made.read_s == pytest.approx(182.0, rel=0.01)
    assert made.score_s == pytest.approx(173.6, rel=0.01)
    assert made.limited_by == "reading"
    assert made.seconds == pytest.approx(182.0, rel=0.01)
    assert made.cost == pytest.approx(0.101, rel=0.01)
    shared = predict(load, replace(rate, score_cores=1.0), Fleet(cores=1.0, engines=1))
    assert shared.seconds == pytest.approx(182.0 + 173.6, rel=0.01)
