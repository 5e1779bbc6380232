"""ShakeMap grid.xml: rows anywhere, units as they come, and files that are not what they say."""

import gzip
import io
import itertools
import tracemalloc
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from quakestream.errors import HazardError, StorageError
from quakestream.hazard import packed, read_shakemap
from quakestream.storage.limits import BodyLimits

Row = tuple[float | str, ...]


def grid_xml(
    rows: Iterable[Row],
    *,
    limits: tuple[float, float, float, float] = (36.0, 37.0, 36.2, 37.1),
    shape: tuple[int, int] = (2, 3),
    units: tuple[tuple[str, str], ...] = (("PGA", "%g"),),
    event: str = "us1",
    version: str = "3",
    stamp: str = "2023-02-06T02:00:00Z",
    prefix: str = "",
) -> bytes:
    west, south, east, north = limits
    fields = "".join(
        f'<grid_field index="{i}" name="{name}" units="{unit}" />'
        for i, (name, unit) in enumerate((("LON", "dd"), ("LAT", "dd"), *units), start=1)
    )
    body = "\n".join(" ".join(str(v) for v in row) for row in rows)
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>{prefix}'
        f'<shakemap_grid xmlns="http://earthquake.usgs.gov/eqcenter/shakemap" event_id="{event}" '
        f'shakemap_version="{version}" process_timestamp="{stamp}" map_status="RELEASED">'
        f'<grid_specification lon_min="{west}" lat_min="{south}" lon_max="{east}" '
        f'lat_max="{north}" nominal_lon_spacing="0.1" nominal_lat_spacing="0.1" '
        f'nlon="{shape[1]}" nlat="{shape[0]}" />{fields}<grid_data>\n{body}\n</grid_data>'
        "</shakemap_grid>"
    ).encode()


def rows(value: Callable[[float, float], float | str]) -> list[Row]:
    """North to south, west to east: the order ShakeMap writes."""
    nodes = itertools.product((37.1, 37.0), (36.0, 36.1, 36.2))
    return [(lon, lat, value(lon, lat)) for lat, lon in nodes]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes], str]:
    def _write(data: bytes) -> str:
        path = tmp_path / "grid.xml"
        path.write_bytes(data)
        return str(path)

    return _write


def at(shakemap_uri: str, field: str, *points: tuple[float, float]) -> list[float]:
    lon, lat = np.array(points, np.float64).T
    return [float(v) for v in read_shakemap(shakemap_uri).at(field, lon, lat)]


def test_header_and_values_are_read_where_the_rows_say(write: Callable[[bytes], str]) -> None:
    ordered = rows(lambda lon, lat: round(1000 * (lon - 36) + 10 * (lat - 37), 6))
    shakemap = read_shakemap(write(grid_xml(ordered)))
    assert (shakemap.event_id, shakemap.version) == ("us1", "3")
    assert shakemap.process_timestamp == "2023-02-06T02:00:00Z"
    np.testing.assert_allclose(shakemap.lon, [36.0, 36.1, 36.2])
    np.testing.assert_allclose(shakemap.lat, [37.0, 37.1])
    np.testing.assert_allclose(shakemap.fields["PGA"], [[0, 1.0, 2.0], [0.01, 1.01, 2.01]])
    shuffled = read_shakemap(write(grid_xml(ordered[::-1])))
    np.testing.assert_array_equal(shuffled.fields["PGA"], shakemap.fields["PGA"])


@pytest.mark.parametrize(
    ("field", "unit", "written", "expected"),
    [
        ("PGA", "%g", 50, 0.5),
        ("PGA", "pctg", 50, 0.5),
        ("PGA", "", 50, 0.5),
        ("PGA", "g", 0.5, 0.5),
        ("PGA", " G ", 0.5, 0.5),
        ("PGA", "ln(g)", np.log(0.5), 0.5),
        ("PGA", "ln(pctg)", np.log(50), 0.5),
        ("PGA", "cm/s^2", 490.3325, 0.5),
        ("PGA", "m/s/s", 4.903325, 0.5),
        ("PSA03", "", 120, 1.2),
        ("PSA10", "pctg", 120, 1.2),
        ("PSA30", "g", 1.2, 1.2),
        ("PGV", "", 80, 80),
        ("PGV", "cms", 80, 80),
        ("PGV", "cm/s", 80, 80),
        ("PGV", "m/s", 0.8, 80),
        ("PGV", "ln(cm/s)", np.log(80), 80),
        ("MMI", "intensity", 8.5, 8.5),
        ("MMI", "", 8.5, 8.5),
        ("SVEL", "ms", 400, 400),
        ("SVEL", "m/s", 400, 400),
        ("SVEL", "", 400, 400),
        ("STDPGA", "ln(pctg)", 0.49, 0.49),
        ("URAT", "", 0.9, 0.9),
    ],
)
def test_units_are_made_the_products(
    write: Callable[[bytes], str], field: str, unit: str, written: float, expected: float
) -> None:
    # MMI stands first so that a file of STDPGA alone is still a ShakeMap.
    table = [(lon, lat, 5, value) for lon, lat, value in rows(lambda *_: written)]
    units = (("MMI" if field != "MMI" else "PGV", ""), (field, unit))
    uri = write(grid_xml(table, units=units))
    assert at(uri, field, (36.1, 37.05)) == pytest.approx([expected], rel=1e-12)


@pytest.mark.parametrize(
    ("field", "unit"), [("PGA", "furlong"), ("PGV", "%g"), ("MMI", "g"), ("PGA", "ln()")]
)
def test_an_unknown_unit_is_named(write: Callable[[bytes], str], field: str, unit: str) -> None:
    data = grid_xml(rows(lambda *_: 1), units=((field, unit),))
    with pytest.raises(HazardError) as caught:
        read_shakemap(write(data))
    assert repr(unit) in str(caught.value)
    assert field in str(caught.value)


def test_nan_and_fill_values_make_their_neighbourhood_missing(
    write: Callable[[bytes], str],
) -> None:
    for hole in ("NaN", "nan", -1, "inf"):
        table = rows(lambda lon, lat, h=hole: h if (lon, lat) == (36.2, 37.1) else 20)  # type: ignore[misc]
        uri = write(grid_xml(table))
        assert at(uri, "PGA", (36.05, 37.05), (36.1, 37.1)) == pytest.approx([0.2, 0.2])
        assert np.isnan(at(uri, "PGA", (36.15, 37.05), (36.2, 37.1), (36.19, 37.0999))).all()


def test_outside_the_map_is_missing(write: Callable[[bytes], str]) -> None:
    uri = write(grid_xml(rows(lambda *_: 20)))
    outside = [(35.99, 37.05), (36.21, 37.05), (36.1, 36.99), (36.1, 37.11), (np.nan, 37.05)]
    assert np.isnan(at(uri, "PGA", *outside)).all()
    assert at(uri, "PGA", (36.0, 37.0), (36.2, 37.1), (396.1, 37.0)) == pytest.approx([0.2] * 3)
    assert np.isnan(at(uri, "PSA30", (36.1, 37.05))).all()


@pytest.mark.parametrize("east", [180.5, -179.5])
def test_a_map_across_the_antimeridian(write: Callable[[bytes], str], east: float) -> None:
    """Header and rows may each count past 180 or start again at -180."""
    for turn in (0, 360):
        table = [
            (lon if lon <= 180 else lon - turn, lat, 100 * (lon - 179))
            for lat in (-16.0, -17.0)
            for lon in (179.5, 180.0, 180.5)
        ]
        uri = write(grid_xml(table, limits=(179.5, -17.0, east, -16.0)))
        found = at(uri, "PGA", (179.75, -16.5), (-179.75, -16.5), (180.25, -16.5), (-179.4, -16.5))
        assert found[:3] == pytest.approx([0.75, 1.25, 1.25])
        assert np.isnan(found[3])


def test_a_cut_off_file_names_both_counts(write: Callable[[bytes], str]) -> None:
    whole = rows(lambda *_: 20)
    with pytest.raises(HazardError, match="truncated: expected 3 × 2 = 6 rows, got 5 rows"):
        read_shakemap(write(grid_xml(whole[:-1])))
    with pytest.raises(HazardError, match="5 rows and 2 more values"):
        read_shakemap(write(grid_xml([*whole[:-1], whole[-1][:2]])))
    with pytest.raises(HazardError, match="not valid XML"):
        read_shakemap(write(grid_xml(whole)[:-60]))


def test_rows_off_the_grid_or_twice_are_refused(write: Callable[[bytes], str]) -> None:
    whole = rows(lambda *_: 20)
    with pytest.raises(HazardError, match="1 of 6 rows lie off the grid"):
        read_shakemap(write(grid_xml([(36.04, 37.1, 20), *whole[1:]])))
    with pytest.raises(HazardError, match="1 of 6 rows lie off the grid"):
        read_shakemap(write(grid_xml([(35.9, 37.1, 20), *whole[1:]])))
    with pytest.raises(HazardError, match="several rows have the same node"):
        read_shakemap(write(grid_xml([whole[1], *whole[1:]])))


BOMB = (
    '<!DOCTYPE b [<!ENTITY a0 "haha">'
    + "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12))
    + "]>"
)


@pytest.mark.parametrize(
    "doctype",
    [
        BOMB,
        '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE x SYSTEM "http://127.0.0.1:1/evil.dtd">',
    ],
    ids=["bomb", "external entity", "external dtd"],
)
def test_entities_are_refused_without_using_memory(
    write: Callable[[bytes], str], doctype: str
) -> None:
    name = "a11" if "a11" in doctype else "e"
    table = [(36.0, 37.1, f"&{name};"), *rows(lambda *_: 20)[1:]]
    uri = write(grid_xml(table, prefix=doctype))
    tracemalloc.start()
    try:
        with pytest.raises(HazardError, match="document type or entities"):
            read_shakemap(uri)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not valid XML"),
        (b"lon,lat,pga\n1,2,3\n", "not valid XML"),
        (b"<html><body>404</body></html>", "got an HTML page"),
        (b"<shakemap_grid/>", "no <grid_specification>"),
        (grid_xml(rows(lambda *_: 1), units=(("STDPGA", ""),)), "uncertainty.xml"),
        (grid_xml(rows(lambda *_: 1)).replace(b'"LAT"', b'"NORTH"'), "LON and LAT"),
        (
            grid_xml(rows(lambda *_: 1)).replace(b'index="3"', b'index="9"'),
            "expected 1 to 3, each once",
        ),
        (grid_xml(rows(lambda *_: 1)).replace(b'nlon="3"', b'nlon="many"'), "nlon"),
        (grid_xml(rows(lambda *_: 1), shape=(90_000, 90_000)), "nodes"),
        (grid_xml(rows(lambda *_: 1), shape=(1, 6)), "nodes"),
        (grid_xml(rows(lambda *_: 1), limits=(36.0, 95.0, 36.2, 96.0)), "not a box on the Earth"),
        (grid_xml(rows(lambda *_: "n/a")), "could not convert"),
    ],
)
def test_what_is_no_shakemap_says_so(
    write: Callable[[bytes], str], data: bytes, words: str
) -> None:
    uri = write(data)
    with pytest.raises(HazardError) as caught:
        read_shakemap(uri)
    assert words in str(caught.value)
    assert uri in str(caught.value)


def test_a_missing_file_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        read_shakemap(str(tmp_path / "none.xml"))


def test_the_axes_come_from_limits_and_counts_not_from_the_rounded_spacing(
    write: Callable[[bytes], str],
) -> None:
    """A nominal spacing of 0.0333 puts the 500th node half a node from where it is."""
    lon = np.round(np.linspace(28.5917, 48.0583, 585), 4)
    table = [(east, lat, i) for lat in (30.0, 29.0) for i, east in enumerate(lon)]
    limits = (28.5917, 29.0, 48.0583, 30.0)
    uri = write(grid_xml(table, limits=limits, shape=(2, 585), units=(("PGV", "cm/s"),)))
    found = at(uri, "PGV", *((28.5917 + i / 30, 29.5) for i in (0, 250, 500, 583)))
    assert found == pytest.approx([0, 250, 500, 583], abs=0.02)


def zipped(members: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return sink.getvalue()


def test_a_packed_grid_is_the_plain_one(write: Callable[[bytes], str]) -> None:
    plain = grid_xml(rows(lambda x, y: x + y))
    expected = read_shakemap(write(plain))
    download = {"us1/uncertainty.xml": b"<x/>", "us1/grid.xml": plain, "__MACOSX/grid.xml": b"x"}
    for data in (
        gzip.compress(plain),
        zipped({"grid.xml": plain}),
        zipped(download),
        zipped({"event/grid.xml.gz": gzip.compress(plain)}),
    ):
        found = read_shakemap(write(data))
        assert found.sha256 == expected.sha256
        for name, values in expected.fields.items():
            np.testing.assert_array_equal(found.fields[name], values)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x89HDF\r\n\x1a\n" + bytes(100), r"got an HDF5 file \(shake_result.hdf\).*grid.xml"),
        (b"<!DOCTYPE html><html>", "got an HTML page; give the event's grid.xml"),
        (zipped({"mi.flt": b"1", "pga.flt": b"2"}), "holds no grid.xml: .* got mi.flt, pga.flt"),
        (zipped({"a/grid.xml": b"1", "b/grid.xml": b"2"}), "holds 2 grid.xml: .*a/grid.xml, b/"),
        (zipped({"grid.xml": b"<a/>" * 999})[:-40], "archive is damaged"),
        (gzip.compress(b"<a/>" * 999)[:-20], "archive is damaged"),
    ],
    ids=["hdf5", "html", "no grid", "two grids", "cut zip", "cut gzip"],
)
def test_what_holds_no_grid_is_named(
    write: Callable[[bytes], str], data: bytes, words: str
) -> None:
    with pytest.raises(HazardError, match=words):
        read_shakemap(write(data))


def test_a_packed_grid_is_held_to_the_limit_of_documents(
    write: Callable[[bytes], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "DOCUMENT", BodyLimits(most_bytes=1 << 20, total_s=60.0))
    for bomb in (gzip.compress(bytes(4 << 20)), zipped({"grid.xml": bytes(4 << 20)})):
        with pytest.raises(HazardError, match="unpacks to too much: expected at most 1,048,576"):
            read_shakemap(write(bomb))
