"""The hazard table: one row per footprint, missing by name, bad files named and passed over."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from quakestream.config import HazardSection
from quakestream.domain import BundleSpec, HazardInput
from quakestream.errors import BundleError, ShapeError
from quakestream.hazard import inputs_not_given, model_inputs, sample_hazard, takes_events

MEASURES = ["mmi", "pga_g", "pgv_cm_s", "psa03_g", "psa10_g", "psa30_g"]
LON, LAT = np.array([36.05, 36.15, 36.5]), np.array([37.05, 37.05, 37.05])


def shakemap(
    path: Path,
    pga: float,
    *,
    event: str = "a",
    version: int = 1,
    west: float = 36.0,
    stamp: str = "2023-02-06T02:00:00",
    svel: float | None = 400,
) -> str:
    """A uniform map two tenths of a degree wide: MMI 7, PGA and PGV as given."""
    fields = ["LON", "LAT", "MMI", "PGA", "PGV", "PSA03", "PSA10"] + ["SVEL"] * (svel is not None)
    nodes = [(west + i * 0.1, 37.1 - j * 0.1) for j in range(2) for i in range(3)]
    rows = [f"{lon:.4f} {lat:.4f} 7 {pga} {2 * pga} 1 1 {svel or ''}" for lon, lat in nodes]
    declared = "".join(
        f'<grid_field index="{i}" name="{name}" units=""/>' for i, name in enumerate(fields, 1)
    )
    path.write_text(
        f'<shakemap_grid event_id="{event}" shakemap_version="{version}" '
        f'process_timestamp="{stamp}" map_status="RELEASED"><grid_specification lon_min="{west}" '
        f'lat_min="37.0" lon_max="{west + 0.2}" lat_max="37.1" nlon="3" nlat="2"/>{declared}'
        f"<grid_data>{' '.join(rows)}</grid_data></shakemap_grid>"
    )
    return str(path)


def raster(path: Path, value: float, west: float = 36.0, crs: str | None = "EPSG:4326") -> str:
    with rasterio.open(
        path, "w", driver="GTiff", width=10, height=10, count=1, dtype="float32",
        crs=crs, transform=from_origin(west, 37.1, 0.02, 0.02), nodata=-9999,
    ) as target:  # fmt: skip
        target.write(np.full((1, 10, 10), value, np.float32))
    return str(path)


def test_every_column_is_there_and_what_is_missing_is_named(tmp_path: Path) -> None:
    hazard = HazardSection(
        shakemaps=[shakemap(tmp_path / "a.xml", 30)],
        layers={"dpm": raster(tmp_path / "dpm.tif", 0.25, west=36.1)},
    )
    table = sample_hazard(LON, LAT, hazard)
    assert list(table.values.columns) == [*MEASURES, "vs30_m_s", "dpm"]
    assert set(table.values.dtypes.astype(str)) == {"float32"}
    assert table.values["pga_g"].tolist()[:2] == pytest.approx([0.3, 0.3])
    assert table.values["pgv_cm_s"].tolist()[:2] == pytest.approx([60, 60])
    assert table.values["vs30_m_s"].tolist()[:2] == [400, 400]  # the ShakeMap's own
    assert table.missing_N == [
        ["psa30_g", "dpm"],
        ["psa30_g"],
        [*MEASURES, "vs30_m_s", "dpm"],
    ]
    assert table.issues == []
    assert table.versions["shakemaps"][0]["event_id"] == "a"
    assert table.versions["vs30"] == {"from": "ShakeMap SVEL"}
    assert json.loads(json.dumps(table.versions)) == table.versions


def test_a_layer_named_like_a_measure_fills_what_no_shakemap_gives(tmp_path: Path) -> None:
    pga = raster(tmp_path / "pga.tif", 0.27)
    alone = sample_hazard(LON, LAT, HazardSection(layers={"pga_g": pga}))
    assert list(alone.values.columns) == [*MEASURES, "vs30_m_s"]
    assert alone.values["pga_g"].tolist()[:2] == pytest.approx([0.27, 0.27])
    assert "pga_g" not in alone.missing_N[0]
    assert "pga_g" in alone.missing_N[2]
    assert alone.versions["layers"]["pga_g"]["uri"] == pga
    beside = HazardSection(
        shakemaps=[shakemap(tmp_path / "a.xml", 30, west=36.1)], layers={"pga_g": pga}
    )
    both = sample_hazard(LON, LAT, beside).values["pga_g"]
    assert both.tolist()[:2] == pytest.approx([0.27, 0.3])  # the ShakeMap's own counts first


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [("pga_g", 27.0, "percent of g"), ("psa10_g", 180.0, "percent of g")],
)
def test_percent_of_g_is_not_taken_for_g(
    tmp_path: Path, column: str, value: float, words: str
) -> None:
    uri = raster(tmp_path / "a.tif", value)
    table = sample_hazard(LON, LAT, HazardSection(layers={column: uri}))
    assert table.values[column].isna().all()
    assert [(i.subject, i.kind) for i in table.issues] == [(uri, "hazard")]
    assert words in table.issues[0].cause


def test_what_no_instrument_could_mean_is_missing_in_a_layer_too(tmp_path: Path) -> None:
    layers = {
        "mmi": raster(tmp_path / "mmi.tif", 99.0),
        "vs30_m_s": raster(tmp_path / "vs30.tif", -1.0),
        "dpm": raster(tmp_path / "dpm.tif", -1.0),
    }
    table = sample_hazard(LON, LAT, HazardSection(layers=layers))
    assert table.values[["mmi", "vs30_m_s"]].isna().all(axis=None)
    assert table.values["dpm"].tolist()[:2] == [-1.0, -1.0]  # a layer of its own may hold anything


def test_a_models_inputs_are_its_columns_in_its_order_and_units(tmp_path: Path) -> None:
    hazard = HazardSection(
        shakemaps=[shakemap(tmp_path / "a.xml", 30)],
        layers={"dpm": raster(tmp_path / "dpm.tif", 0.25, west=36.1)},
    )
    values = sample_hazard(LON, LAT, hazard).values
    spec = takes(("dpm", "dB"), ("pga_g", "%g"), ("ndbi", ""), ("pgv_cm_s", "m/s"), ("mmi", "1"))
    inputs_NM = model_inputs(values, spec)
    assert inputs_NM.dtype == np.float32
    assert inputs_NM.shape == (3, 5)
    assert inputs_NM[1] == pytest.approx([0.25, 30.0, np.nan, 0.6, 7.0], nan_ok=True)
    assert np.isnan(inputs_NM[2, 1:]).all()
    assert inputs_not_given(spec, hazard) == ("ndbi",)
    assert inputs_not_given(spec, HazardSection(vs30="v.tif")) == tuple(h.name for h in spec.hazard)
    assert model_inputs(values.iloc[:0], spec).shape == (0, 5)


def test_a_unit_nobody_knows_is_refused_in_one_line() -> None:
    with pytest.raises(
        BundleError, match=r"hazard-x: unknown unit of input pga_g: .*'furlong'.*manifest"
    ):
        inputs_not_given(takes(("pga_g", "furlong")), HazardSection())


def takes(*inputs: tuple[str, str]) -> BundleSpec:
    return BundleSpec(
        name="hazard-x",
        version="1",
        task="hazard",
        dtype="float32",
        normalisation="fixed",
        hazard=tuple(HazardInput(name=n, unit=u, mean=0.0, std=1.0) for n, u in inputs),
    )


def test_without_any_hazard_every_measure_is_missing() -> None:
    table = sample_hazard(LON, LAT, HazardSection())
    assert table.missing_N == [[*MEASURES, "vs30_m_s"]] * 3
    assert table.values.isna().all(axis=None)
    assert table.versions == {"shakemaps": [], "vs30": None, "layers": {}}
    empty = sample_hazard(np.empty(0), np.empty(0), HazardSection())
    assert (len(empty.values), empty.missing_N) == (0, [])


def test_of_several_events_the_largest_counts_and_each_is_there_on_request(
    tmp_path: Path,
) -> None:
    hazard = HazardSection(
        shakemaps=[
            shakemap(tmp_path / "a.xml", 30, event="a"),
            shakemap(tmp_path / "b.xml", 50, event="b", west=36.1, svel=None),
        ]
    )
    table = sample_hazard(LON, LAT, hazard, per_event=True)
    assert table.values["pga_g"].tolist()[:2] == pytest.approx([0.3, 0.5])
    assert table.values["pga_g__a"].tolist()[:2] == pytest.approx([0.3, 0.3])
    assert table.values["pga_g__b"].isna().tolist() == [True, False, True]
    assert table.values["vs30_m_s"].tolist()[:2] == [400, 400]
    assert table.missing_N[0] == ["psa30_g"]
    spec = takes(("pga_g__b", "%g"), ("pga_g", "g"))
    assert takes_events(spec)
    assert not takes_events(takes(("pga_g", "g")), None)
    assert inputs_not_given(spec, hazard) == ()
    assert inputs_not_given(spec, HazardSection()) == ("pga_g__b", "pga_g")
    assert model_inputs(table.values, spec)[1].tolist() == pytest.approx([50, 0.5])


@pytest.mark.parametrize("reverse", [False, True])
def test_a_revised_shakemap_replaces_the_older_one(tmp_path: Path, reverse: bool) -> None:
    """A maximum over versions would keep shaking that the revision took back."""
    uris = [
        shakemap(tmp_path / "v9.xml", 80, version=9, stamp="2023-02-06T02:00:00Z"),
        shakemap(tmp_path / "v10.xml", 30, version=10, stamp="2023-02-06T02:00:00"),
    ]
    table = sample_hazard(LON, LAT, HazardSection(shakemaps=uris[:: -1 if reverse else 1]))
    assert table.values["pga_g"].tolist()[:2] == pytest.approx([0.3, 0.3])
    assert [issue.subject for issue in table.issues] == [uris[0]]
    assert "version 10" in table.issues[0].cause
    assert [v["version"] for v in table.versions["shakemaps"]] == ["10"]


def test_bad_files_become_issues_and_the_others_count(tmp_path: Path) -> None:
    (tmp_path / "cut.xml").write_text(Path(shakemap(tmp_path / "b.xml", 90)).read_text()[:400])
    (tmp_path / "dpm.tif").write_text("Not Found")
    hazard = HazardSection(
        shakemaps=[str(tmp_path / "cut.xml"), shakemap(tmp_path / "a.xml", 30)],
        vs30=str(tmp_path / "none.tif"),
        layers={"dpm": str(tmp_path / "dpm.tif"), "sar": raster(tmp_path / "sar.tif", -12.5)},
    )
    table = sample_hazard(LON[:1], LAT[:1], hazard)
    assert table.values["pga_g"].tolist() == pytest.approx([0.3])
    assert table.values["sar"].tolist() == [-12.5]
    assert table.missing_N == [["psa30_g", "vs30_m_s", "dpm"]]
    assert [(Path(i.subject).name, i.kind, i.retryable) for i in table.issues] == [
        ("cut.xml", "hazard", False),
        ("none.tif", "hazard", False),
        ("dpm.tif", "hazard", False),
    ]
    assert table.versions["vs30"] is None
    assert table.versions["layers"]["dpm"] is None
    assert table.versions["layers"]["sar"]["uri"].endswith("sar.tif")


def test_a_given_vs30_is_not_mixed_with_the_shakemaps(tmp_path: Path) -> None:
    hazard = HazardSection(
        shakemaps=[shakemap(tmp_path / "a.xml", 30)],
        vs30=raster(tmp_path / "vs30.tif", 700, west=36.1),
    )
    table = sample_hazard(LON, LAT, hazard)
    np.testing.assert_array_equal(table.values["vs30_m_s"], [np.nan, 700, np.nan])


def test_an_assumed_crs_is_said_and_the_values_are_used(tmp_path: Path) -> None:
    uri = raster(tmp_path / "dpm.tif", 0.25, crs=None)
    table = sample_hazard(LON[:1], LAT[:1], HazardSection(layers={"dpm": uri}))
    assert table.values["dpm"].tolist() == [0.25]
    assert "EPSG:4326" in table.issues[0].cause


def test_a_store_that_does_not_answer_can_be_asked_again() -> None:
    uri = "http://127.0.0.1:9/grid.xml"
    table = sample_hazard(LON, LAT, HazardSection(shakemaps=[uri]))
    assert [(i.subject, i.retryable) for i in table.issues] == [(uri, True)]


@pytest.fixture
def web_root(tmp_path: Path) -> Iterator[str]:
    """URL of a web server over `tmp_path`, in a process of its own: GDAL opens files with
    the interpreter's lock held, so a server in this process could never answer it."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        # Serving HTTP on 127.0.0.1 port 41231 (http://127.0.0.1:41231/) ...
        port = server.stdout.readline().split(" port ")[1].split()[0]
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def test_layers_are_read_from_a_web_server(tmp_path: Path, web_root: str) -> None:
    shakemap(tmp_path / "a.xml", 30)
    raster(tmp_path / "dpm.tif", 0.25)
    (tmp_path / "vs30.csv").write_text("lon,lat,vs30\n36.05,37.05,510\n36.15,37.05,520\n")
    hazard = HazardSection(
        shakemaps=[f"{web_root}/a.xml"],
        vs30=f"{web_root}/vs30.csv",
        layers={"dpm": f"{web_root}/dpm.tif", "gone": f"{web_root}/gone.tif"},
    )
    table = sample_hazard(LON[:2], LAT[:2], hazard)
    assert table.values["pga_g"].tolist() == pytest.approx([0.3, 0.3])
    assert table.values["vs30_m_s"].tolist() == [510, 520]
    assert table.values["dpm"].tolist() == [0.25, 0.25]
    assert [(i.subject, i.retryable) for i in table.issues] == [(f"{web_root}/gone.tif", False)]
    assert table.missing_N == [["psa30_g", "gone"]] * 2


def test_footprints_without_a_place_miss_everything(tmp_path: Path) -> None:
    hazard = HazardSection(
        shakemaps=[shakemap(tmp_path / "a.xml", 30)],
        layers={"dpm": raster(tmp_path / "dpm.tif", 1)},
    )
    table = sample_hazard(np.array([np.nan]), np.array([37.05]), hazard)
    assert table.missing_N == [[*MEASURES, "vs30_m_s", "dpm"]]
    with pytest.raises(ShapeError):
        sample_hazard(LON, LAT[:2], hazard)
