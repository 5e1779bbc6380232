"""Law 3 for footprints, and pairing that does not depend on order."""

import datetime as dt

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import box

from quakestream.catalog import Footprints, assign_views, scene_extent
from quakestream.catalog.footprints import footprints_in
from quakestream.domain import Scene
from quakestream.errors import FootprintError

AOI = box(0.0, 0.0, 10.0, 10.0)
BOWTIE = shapely.Polygon([(1, 1), (2, 2), (2, 1), (1, 2)])
ODD_SHAPES = [
    None,
    shapely.Polygon(),
    BOWTIE,
    shapely.Point(3, 3),
    shapely.LineString([(1, 1), (2, 2)]),
    shapely.Polygon([(1, 1), (np.nan, 2), (2, 1)]),
    shapely.Polygon([(1, 1), (np.inf, 2), (2, 1)]),
]

corners = st.integers(-3, 14)
squares = st.builds(lambda x, y: box(x, y, x + 0.5, y + 0.5), corners, corners)
shapes = st.one_of(squares, st.sampled_from(ODD_SHAPES))
names = st.one_of(
    st.none(), st.integers(0, 5), st.sampled_from(["a", "a#2", "row-1", "", "5"]), st.just(5.0)
)
features = st.lists(st.tuples(names, shapes), min_size=1, max_size=25)


def _read(rows: list[tuple[object, object]]) -> Footprints | None:
    given_N = np.empty(len(rows), object)
    geometry_N = np.empty(len(rows), object)
    for i, (name, shape) in enumerate(rows):
        given_N[i], geometry_N[i] = name, shape
    try:
        return footprints_in(given_N, geometry_N, AOI, "a test")
    except FootprintError:
        return None


@given(features)
@settings(deadline=None)
def test_every_feature_is_accounted_for_once(rows: list[tuple[object, object]]) -> None:
    found = _read(rows)
    distinct = {
        (
            f"row-{i}" if name in (None, "") else str(name).removesuffix(".0"),
            b"" if shape is None else shapely.to_wkb(shapely.normalize(shape)),
        )
        for i, (name, shape) in enumerate(rows)
    }
    in_aoi = [shape for _, shape in distinct if _point_in_aoi(shape)]
    if found is None:
        assert not in_aoi
        return
    assert len(found.table) == len(in_aoi)
    assert found.duplicates_collapsed == len(rows) - len(distinct)
    lost = found.outside_aoi + found.without_position + found.duplicates_collapsed
    assert len(found.table) + lost == found.rows_read == len(rows)


def _point_in_aoi(wkb: bytes) -> bool:
    """The oracle: the definition of law 3, one geometry at a time."""
    shape = shapely.from_wkb(wkb) if wkb else None
    if shape is None or shape.is_empty:
        return False
    xy = shapely.get_coordinates(shape)
    xy = xy[np.isfinite(xy).all(axis=1)]
    usable = shape.is_valid and shape.geom_type == "Polygon"
    point = shape.representative_point() if usable else shapely.Point((xy.min(0) + xy.max(0)) / 2)
    return bool(AOI.intersects(point))


@given(features)
@settings(deadline=None)
def test_ids_are_unique_and_odd_rows_are_named(rows: list[tuple[object, object]]) -> None:
    found = _read(rows)
    if found is None:
        return
    ids = found.table["building_id"].tolist()
    assert len(set(ids)) == len(ids)
    assert all(isinstance(i, str) and i for i in ids)
    assert len(found.representative) == len(found.invalid) == len(ids)
    assert set(np.array(ids)[found.invalid]) <= {issue.subject for issue in found.issues}
    for invalid, shape in zip(found.invalid, found.table.geometry, strict=True):
        assert invalid == (not shape.is_valid or shape.geom_type != "Polygon")


EVENT = dt.datetime(2023, 2, 6, 1, 17, 34, tzinfo=dt.UTC)


@st.composite
def scenes(draw: st.DrawFn, sign: int) -> list[Scene]:
    count = draw(st.integers(0, 6))
    found = []
    for i in range(count):
        x, y = draw(st.integers(0, 6)), draw(st.integers(0, 6))
        width = draw(st.sampled_from([0.7, 2.25, 5.0]))
        found.append(
            Scene(
                id=f"{'post' if sign > 0 else 'pre'}{i}",
                href=f"{i}.tif",
                datetime=EVENT + sign * dt.timedelta(days=draw(st.integers(1, 3))),
                outline=box(x, y, x + width, y + width),
                cloud_cover=draw(st.sampled_from([None, 0.0, 50.0, 80.0])),
                off_nadir_deg=draw(st.sampled_from([None, 10.0])),
                gsd_m=draw(st.sampled_from([None, 0.3])),
            )
        )
    return found


@given(
    st.lists(squares, min_size=1, max_size=12),
    scenes(1),
    scenes(-1),
    st.booleans(),
    st.randoms(use_true_random=False),
)
@settings(deadline=None)
def test_pairing_does_not_depend_on_order(outlines, post, pre, needs_pre, random) -> None:  # type: ignore[no-untyped-def]
    rows = list(enumerate(outlines))
    wide = box(-20, -20, 40, 40)
    shuffled = rows.copy()
    for sequence in (shuffled, post_2 := post.copy(), pre_2 := pre.copy()):
        random.shuffle(sequence)
    one = _assigned(rows, wide, post, pre, needs_pre)
    two = _assigned(shuffled, wide, post_2, pre_2, needs_pre)
    assert one == two
    for (name, outline), (view, reason) in zip(rows, one.values(), strict=True):
        assert (view is None) == (reason is not None), name
        best_post = _best_by_definition(outline, post, newest=False)
        best_pre = _best_by_definition(outline, pre, newest=True)
        if best_post is None:
            assert reason == "no_imagery"
        elif needs_pre and best_pre is None:
            assert reason == "no_pre"
        else:
            assert view == (f"{best_post}__{best_pre}" if needs_pre else best_post)


def _assigned(rows, aoi, post, pre, needs_pre):  # type: ignore[no-untyped-def]
    ids = np.array([i for i, _ in rows], object)
    outlines = np.array([o for _, o in rows], object)
    footprints = footprints_in(ids, outlines, aoi, "a test")
    views = assign_views(footprints, post, pre, needs_pre)
    named = {
        name: (views.views[k].id if k >= 0 else None, reason)
        for name, k, reason in zip(
            footprints.table["building_id"], views.view_of_N, views.reason_of_N, strict=True
        )
    }
    return dict(sorted(named.items(), key=lambda pair: int(pair[0])))


def _best_by_definition(outline, scenes, newest):  # type: ignore[no-untyped-def]
    """The rule of `assign_views`, for one footprint and one scene at a time."""
    candidates = []
    for s in scenes:
        extent = scene_extent(s)
        share = 1.0 if extent.covers(outline) else extent.intersection(outline).area / outline.area
        if share >= 0.5:
            time = s.datetime.timestamp()
            cloud = 50.0 if s.cloud_cover is None else s.cloud_cover
            angle = 90.0 if s.off_nadir_deg is None else s.off_nadir_deg
            gsd = np.inf if s.gsd_m is None else s.gsd_m
            rank = (-round(share, 6), cloud, -time if newest else time, angle, gsd, s.id)
            candidates.append((rank, s.id))
    return min(candidates)[1] if candidates else None


def test_a_scene_is_never_paired_with_itself() -> None:
    scene = Scene(id="s", href="s.tif", datetime=EVENT, outline=AOI)
    footprints = _read([("a", box(1, 1, 2, 2))])
    assert footprints is not None
    views = assign_views(footprints, [scene], [scene], needs_pre=True)
    assert views.reason_of_N.tolist() == ["no_pre"]


def test_an_aoi_without_footprints_is_reported() -> None:
    outside = np.array([box(50, 50, 51, 51)], object)
    with pytest.raises(FootprintError, match=r"no footprint lies in the AOI: .*got 1 in "):
        footprints_in(np.array(["a"], object), outside, AOI, "x.gpkg")
