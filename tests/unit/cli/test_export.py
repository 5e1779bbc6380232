"""`quakestream export` as it is called."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from quakestream.cli.common import warn_of_removed
from quakestream.cli.export import export
from quakestream.errors import RequestError
from quakestream.outputs.publish import publish
from quakestream.storage import open_store
from tests.helpers.outputs_case import buildings, products

APP = typer.Typer()
APP.command()(export)


def test_files_go_beside_the_map_or_into_a_folder(tmp_path: Path) -> None:
    out, hand = tmp_path / "out", tmp_path / "hand"
    publish(open_store(str(out)), products())
    done = CliRunner().invoke(APP, [str(out), "gpkg", "kml", "gpkg", "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["files"] == [str(out / "map.gpkg"), str(out / "map.kmz")]
    done = CliRunner().invoke(APP, [str(out), "fgb", "gpkg", "-o", str(hand)])
    assert done.stdout.split() == [str(hand / "buildings.fgb"), str(hand / "map.gpkg")]
    assert (hand / "map.gpkg").read_bytes() == (out / "map.gpkg").read_bytes()


def test_a_later_map_names_the_exports_that_it_removes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, gone = open_store(str(tmp_path)), list[str]()
    publish(store, products(), removed=gone.extend)
    CliRunner().invoke(APP, [str(tmp_path), "hxl", "stac"])
    assert store.exists("summary.hxl.csv")
    publish(store, products(buildings=buildings(20, seed=1)), removed=gone.extend)
    assert gone == ["hxl", "stac"]
    assert not store.exists("summary.hxl.csv")
    warn_of_removed(gone, "out/")
    assert capsys.readouterr().err == (
        "removed, as of an earlier map: summary.hxl.csv, stac/: "
        "`quakestream export out hxl stac` writes them again\n"
    )


def test_an_unknown_format_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    done = CliRunner().invoke(APP, [str(tmp_path), "gpkg", "shapefile"])
    assert isinstance(done.exception, RequestError)
    assert "expected gpkg, fgb, kml, pmtiles, hxl, ems, pdf, stac, got shapefile" in str(
        done.exception
    )
