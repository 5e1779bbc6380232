"""`quakestream init`: run files that load, and catalogues it can take them from."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from quakestream.cli.init import init
from quakestream.config import aoi_bbox, open_run, run_schema
from quakestream.errors import ConfigError, RequestError, StorageError

APP = typer.Typer()
APP.command()(init)


def invoke(*arguments: str | Path) -> Any:
    return CliRunner().invoke(APP, [str(a) for a in arguments])


def test_the_example_it_writes_loads(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    result = invoke(file)
    assert result.exit_code == 0
    assert result.stdout.strip() == str(file)
    assert open_run(file).out == str(tmp_path / "map")


def test_it_never_overwrites_without_force(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("mine")
    assert isinstance(invoke(file).exception, ConfigError)
    assert file.read_text() == "mine"
    assert invoke(file, "--force").exit_code == 0
    assert open_run(file)


def test_an_unwritable_place_is_a_storage_error(tmp_path: Path) -> None:
    assert isinstance(invoke(tmp_path / "none" / "run.yaml").exception, StorageError)


def test_the_schema_goes_to_stdout() -> None:
    assert json.loads(invoke("--schema").stdout) == run_schema()


def catalogue(folder: Path) -> Path:
    """Two collections with one item each; a third item is no JSON."""
    for name, day, west in (
        ("marmara-1999", "1999-08-17", 29.0),
        ("maras-2023", "2023-02-07", 36.9),
    ):
        box = [west, 37.5, west + 0.1, 37.6]
        item = {
            "type": "Feature",
            "stac_version": "1.0.0",
            "id": f"{name}-a",
            "bbox": box,
            "properties": {"datetime": f"{day}T08:00:00Z"},
            "assets": {
                "rgb": {"href": "a.tif", "type": "image/tiff; profile=cloud-optimized"},
                "thumbnail": {"href": "a.png", "type": "image/png"},
            },
            "links": [],
        }
        collection = {
            "type": "Collection",
            "id": name,
            "extent": {
                "spatial": {"bbox": [box]},
                "temporal": {"interval": [[f"{day}T00:00:00Z", None]]},
            },
            "links": [
                {"rel": "item", "href": "./item.json"},
                {"rel": "item", "href": "./broken.json"},
                {"rel": "root", "href": "../catalog.json"},
            ],
        }
        (folder / name).mkdir()
        (folder / name / "item.json").write_text(json.dumps(item))
        (folder / name / "broken.json").write_text("{")
        (folder / name / "collection.json").write_text(json.dumps(collection))
    root = {
        "type": "Catalog",
        "id": "all",
        "links": [
            {"rel": "child", "href": f"./{name}/collection.json"}
            for name in ("marmara-1999", "maras-2023")
        ],
    }
    (folder / "catalog.json").write_text(json.dumps(root))
    return folder / "catalog.json"


def test_it_takes_area_days_and_asset_from_the_events_collection(tmp_path: Path) -> None:
    root, file = catalogue(tmp_path), tmp_path / "run.yaml"
    time = "2023-02-06T04:17:34+03:00"
    result = invoke(file, "--from-stac", root, "--event", "maras-2023", "--time", time)
    assert result.exit_code == 0, result.output
    run = open_run(file)
    assert run.event.id == "maras-2023"
    assert run.imagery.catalog == str(tmp_path / "maras-2023/collection.json")
    assert 'catalog: "maras-2023/collection.json"' in file.read_text()
    assert run.imagery.asset == "rgb"
    assert aoi_bbox(run.aoi) == pytest.approx((36.9, 37.5, 37.0, 37.6))
    assert run.imagery.post.start == run.event.time
    assert run.imagery.pre is not None
    assert run.imagery.pre.end == run.event.time
    assert "acquisition days: 2023-02-07" in file.read_text()


def test_without_a_time_it_says_what_to_fill_in(tmp_path: Path) -> None:
    root, file = catalogue(tmp_path), tmp_path / "run.yaml"
    result = invoke(file, "--from-stac", root, "--event", "unknown")
    assert result.exit_code == 1
    assert "fill in event.time" in result.stderr
    assert "1999-08-17, 2023-02-07" in file.read_text()
    with pytest.raises(ConfigError, match=r"event\.time"):
        open_run(file)
    filled = file.read_text().replace(" time: null", " time: 2023-02-06T01:17:34Z")
    file.write_text(filled.replace("datetime: null", "datetime: 1999-01-01/2023-12-31"))
    run = open_run(file)
    assert aoi_bbox(run.aoi) == pytest.approx((29.0, 37.5, 37.0, 37.6))


@pytest.mark.parametrize("time", ["2023-02-06", "2023-02-06T01:17:34", "soon"])
def test_a_time_in_doubt_is_refused(tmp_path: Path, time: str) -> None:
    result = invoke(tmp_path / "run.yaml", "--time", time)
    assert isinstance(result.exception, RequestError)
    assert not (tmp_path / "run.yaml").exists()


def test_a_catalogue_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    result = invoke(tmp_path / "run.yaml", "--from-stac", tmp_path / "none.json")
    assert isinstance(result.exception, RequestError)
    assert "none.json" in str(result.exception)
    assert not (tmp_path / "run.yaml").exists()


@pytest.mark.parametrize("end", [".json", ".ndjson"])
def test_item_collections_say_the_same(tmp_path: Path, end: str) -> None:
    catalogue(tmp_path)
    items = [json.loads(p.read_text()) for p in sorted(tmp_path.glob("*/item.json"))]
    whole = json.dumps({"type": "FeatureCollection", "features": items})
    lines = "\n".join(json.dumps(item) for item in items)
    (tmp_path / f"items{end}").write_text(whole if end == ".json" else lines)
    file = tmp_path / "run.yaml"
    source = tmp_path / f"items{end}"
    assert invoke(file, "--from-stac", source, "--time", "2023-02-06T01:17:34Z").exit_code == 0
    run = open_run(file)
    assert run.imagery.catalog == str(source)
    assert run.imagery.asset == "rgb"
    assert aoi_bbox(run.aoi) == pytest.approx((29.0, 37.5, 37.0, 37.6))
