"""Names made of outlines, and outlines that are mended or left alone."""

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from shapely.geometry import MultiPolygon, Polygon, box, mapping

from quakestream.catalog import FootprintRequest, Footprints, read_footprints
from quakestream.catalog.outlines import outline_digests, repaired
from quakestream.errors import FootprintError

WORLD = box(-180, -90, 180, 90)
L_SHAPE = Polygon([(0, 0), (3, 0), (3, 1), (1, 1), (1, 3), (0, 3)])
HOLED = Polygon([(5, 0), (9, 0), (9, 4), (5, 4)], [[(6, 1), (7, 1), (7, 2), (6, 2)]])


def digests(*shapes: object) -> list[object]:
    return outline_digests(np.array(shapes, object)).tolist()


def turned(shape: Polygon, by: int) -> Polygon:
    """The same outline from another corner and the other way round."""

    def ring(line: shapely.LinearRing) -> list[tuple[float, ...]]:
        corners = list(line.coords)[:-1]
        return (corners[by:] + corners[:by])[::-1]

    return Polygon(ring(shape.exterior), [ring(hole) for hole in shape.interiors])


def test_a_digest_hangs_on_the_outline_alone() -> None:
    first, second = digests(L_SHAPE, HOLED)
    assert first != second
    assert digests(HOLED, L_SHAPE) == [second, first]
    assert digests(turned(L_SHAPE, 2), turned(HOLED, 1)) == [first, second]
    assert digests(MultiPolygon([L_SHAPE])) == [first]
    assert digests(MultiPolygon([L_SHAPE, HOLED])) == digests(MultiPolygon([HOLED, L_SHAPE]))
    noise = shapely.transform(L_SHAPE, lambda xy: xy + 1e-12)
    assert digests(noise) == [first]
    moved = shapely.transform(L_SHAPE, lambda xy: xy + 1e-6)
    assert digests(moved) != [first]
    assert digests(None) == [None]
    # Held, since people keep ids: another release must not name buildings anew.
    assert first == "e692213f82a48155"


@pytest.mark.parametrize(
    ("given", "area"),
    [
        # a spike, and a hole that touches the ring along an edge
        (Polygon([(0, 0), (2, 0), (2, 1), (2, 5), (2, 1), (0, 1)]), 2.0),
        (Polygon([(0, 0), (4, 0), (4, 4), (0, 4)], [[(0, 1), (1, 1), (1, 2), (0, 2)]]), 15.0),
        (shapely.GeometryCollection([box(0, 0, 1, 1), box(2, 0, 3, 1)]), 2.0),
        (MultiPolygon([box(0, 0, 1, 1), box(1, 0, 2, 1)]), 2.0),
    ],
)
def test_what_keeps_its_area_is_mended(given: object, area: float) -> None:
    out, mended = repaired(np.array([L_SHAPE, given], object))
    assert mended.tolist() == [False, True]
    assert out[0] is L_SHAPE
    assert shapely.is_valid(out[1])
    assert shapely.get_type_id(out[1]) in (3, 6)
    assert shapely.area(out[1]) == pytest.approx(area)


@pytest.mark.parametrize(
    "given",
    [
        Polygon([(0, 0), (2, 2), (2, 0), (0, 2)]),  # a bow-tie
        MultiPolygon([box(0, 0, 2, 2), box(1, 1, 3, 3)]),  # ground covered twice
        Polygon([(0, 0), (1, 1), (np.nan, 0)]),
        shapely.GeometryCollection([box(0, 0, 1, 1), shapely.Point(5, 5)]),
        shapely.Point(1, 1),
        None,
    ],
)
def test_what_its_author_meant_is_not_guessed(given: object) -> None:
    out, mended = repaired(np.array([given, L_SHAPE], object))
    assert not mended.any()
    assert out[0] is given


# Ids of footprints ------------------------------------------------------------------------------


def footprint_file(path: Path, shapes: list[object], names: list[object] | None = None) -> str:
    rows = names or [None] * len(shapes)
    found = [
        {
            "type": "Feature",
            "properties": {"height": -1.0} if names is None else {"id": name},
            "geometry": mapping(shape),
        }
        for shape, name in zip(shapes, rows, strict=True)
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": found}))
    return str(path)


def read(uri: str, **request: str | None) -> Footprints:
    return read_footprints(FootprintRequest(uri=uri, **request), WORLD)


def test_footprints_without_ids_are_named_by_outline_and_said_once(tmp_path: Path) -> None:
    uri = footprint_file(tmp_path / "a.geojson", [L_SHAPE, HOLED, turned(L_SHAPE, 3)])
    found = read(uri)
    assert found.table["building_id"].tolist() == digests(L_SHAPE, HOLED)
    assert (found.rows_read, found.duplicates_collapsed) == (3, 1)
    assert found.issues == []
    assert len(found.notes) == 1
    assert "have no ids: each building is named by a digest of its outline" in found.notes[0]
    backwards = footprint_file(tmp_path / "b.geojson", [HOLED, L_SHAPE])
    assert set(read(backwards).table["building_id"]) == set(found.table["building_id"])
    # In another CRS and format the names are the same.
    shapes = [shapely.transform(s, lambda xy: xy / 1000 + (36, 37)) for s in (L_SHAPE, HOLED)]
    plain = read(footprint_file(tmp_path / "c.geojson", shapes))
    gpd.GeoDataFrame(geometry=shapes, crs=4326).to_crs(32637).to_file(tmp_path / "c.gpkg")
    assert read(str(tmp_path / "c.gpkg")).table["building_id"].tolist() == (
        plain.table["building_id"].tolist()
    )


def test_a_column_of_ids_comes_first_and_auto_can_be_asked_for(tmp_path: Path) -> None:
    uri = footprint_file(tmp_path / "a.geojson", [L_SHAPE, HOLED], ["x", " y "])
    assert read(uri).table["building_id"].tolist() == ["x", "y"]
    assert read(uri).notes == ()
    assert read(uri, id_column="auto").table["building_id"].tolist() == digests(L_SHAPE, HOLED)
    assert read(uri, id_column="auto").notes == ()
    assert read(uri, id_column="fid").table["building_id"].tolist() == ["0", "1"]
    empty = footprint_file(tmp_path / "b.geojson", [L_SHAPE, HOLED], [None, None])
    assert read(empty).table["building_id"].tolist() == digests(L_SHAPE, HOLED)
    with pytest.raises(FootprintError, match=r"no column 'osm_id'.*did you mean 'id'.*`id: auto`"):
        read(uri, id_column="osm_id")


def test_mended_footprints_are_valid_and_named_in_one_note(tmp_path: Path) -> None:
    spike = Polygon([(0, 0), (2, 0), (2, 1), (2, 5), (2, 1), (0, 1)])
    bowtie = Polygon([(10, 0), (12, 2), (12, 0), (10, 2)])
    found = read(footprint_file(tmp_path / "a.geojson", [spike, bowtie], ["s", "b"]))
    assert found.invalid.tolist() == [False, True]
    assert [issue.subject for issue in found.issues] == ["b"]
    assert found.notes == ("1 outline was invalid and mended without a change of area: s",)


def test_swapped_coordinates_are_named(tmp_path: Path) -> None:
    swapped = [shapely.transform(s, lambda xy: xy[:, ::-1] / 1000 + (37, 36)) for s in (HOLED,)]
    uri = footprint_file(tmp_path / "a.geojson", swapped)
    with pytest.raises(FootprintError, match="latitude and longitude are swapped in the file"):
        read_footprints(FootprintRequest(uri=uri), box(35, 36.5, 36.9, 38))


def test_a_district_around_a_part_of_the_aoi_is_named(tmp_path: Path) -> None:
    uri = footprint_file(tmp_path / "a.geojson", [box(0, 0, 9, 9)])
    with pytest.raises(FootprintError, match="have their middle outside, as districts do: give"):
        read_footprints(FootprintRequest(uri=uri), box(0, 0, 1, 1))


def test_outlines_beyond_the_aoi_cost_no_digest_and_are_counted(tmp_path: Path) -> None:
    uri = footprint_file(tmp_path / "a.geojson", [HOLED, L_SHAPE, HOLED])
    found = read_footprints(FootprintRequest(uri=uri), box(0, 0, 4, 4))
    assert found.table["building_id"].tolist() == digests(L_SHAPE)
    assert (found.rows_read, found.outside_aoi, found.duplicates_collapsed) == (3, 2, 0)
