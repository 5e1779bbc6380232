"""`quakestream tile`, and maps made from what it left: files, S3, Ray, and stores that went bad."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import zarr

from quakestream.config import open_run
from quakestream.errors import NothingReadError
from quakestream.pipeline.tile import TileSettings, report_json, tile_run
from quakestream.synthetic import TINY, SyntheticEarthquake
from tests.helpers.mapping import map_file
from tests.helpers.running import (
    Map,
    assert_accounted,
    assert_same_map,
    commits,
    earthquake_in,
    quakestream,
    read_map,
    run_content,
    write_run,
)
from tests.helpers.servers import S3Server

RUN_COLUMNS = ("run_id",)
"""The run's digest takes in `imagery.store`; nothing else may differ."""


def run_with_store(
    folder: Path, town: SyntheticEarthquake, bundle: Path, store: str, **changed: Any
) -> Path:
    content = run_content(town, bundle, **changed)
    content["imagery"] = {**content["imagery"], "store": store}
    return write_run(folder / "run.yaml", content)


def tile(run_file: Path, **settings: bool) -> dict[str, Any]:
    """What `tile_run` says, as the command prints it."""
    run = open_run(run_file)
    assert run.imagery.store is not None
    return report_json(tile_run(run, run.imagery.store, TileSettings(**settings)))


def tile_command(run_file: Path, *options: object) -> dict[str, Any]:
    """The same by a process."""
    done = quakestream("tile", run_file, "--json", "--quiet", *options)
    assert done.code == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def mapped(run_file: Path, out: Path) -> Map:
    map_file(run_file, out)
    return read_map(out)


def by_scene(report: dict[str, Any], key: str) -> dict[str, Any]:
    return {s["scene"]: s[key] for s in report["scenes"]}


@pytest.fixture(scope="module")
def stored(
    town: SyntheticEarthquake, bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run file whose store is made; copied by tests that change anything."""
    folder = tmp_path_factory.mktemp("stored")
    run_file = run_with_store(folder, town, bundle, str(folder / "tiles.zarr"))
    report = tile_command(run_file)
    assert by_scene(report, "status") == {"pre": "written", "post": "written"}
    assert by_scene(report, "exact") == {"pre": True, "post": True}
    assert report["issues"] == []
    return run_file


@pytest.fixture
def own_town(town: SyntheticEarthquake, tmp_path: Path) -> SyntheticEarthquake:
    """The town in a folder that a test may spoil."""
    return earthquake_in(shutil.copytree(town.out, tmp_path / "town"), TINY)


def test_stored_tiles_give_the_same_map(
    stored: Path, undisturbed: Map, town: SyntheticEarthquake, bundle: Path, tmp_path: Path
) -> None:
    assert_same_map(mapped(stored, tmp_path / "out"), undisturbed, but=RUN_COLUMNS)


def test_a_map_begun_from_scenes_is_finished_from_stored_tiles(
    stored: Path, town: SyntheticEarthquake, bundle: Path, tmp_path: Path
) -> None:
    """Equal pixels have equal keys: nothing is scored twice."""
    plain = write_run(tmp_path / "run.yaml", run_content(town, bundle))
    mapped(plain, tmp_path / "out")
    before = commits(tmp_path / "out")
    assert before
    mapped(stored, tmp_path / "out")
    assert commits(tmp_path / "out") == before


def test_virtual_tiles_give_nearly_the_same_map(
    undisturbed: Map, town: SyntheticEarthquake, bundle: Path, tmp_path: Path
) -> None:
    """JPEG through another decoder: other pixels, so other keys, and verdicts that agree."""
    run_file = run_with_store(tmp_path, town, bundle, str(tmp_path / "tiles.zarr"))
    report = tile(run_file, virtual=True)
    assert set(by_scene(report, "kind").values()) == {"virtual"}
    assert set(by_scene(report, "exact").values()) == {False}
    size = sum(p.stat().st_size for p in (tmp_path / "tiles.zarr").rglob("*") if p.is_file())
    scenes = sum(p.stat().st_size for p in (*town.pre, *town.post))
    assert size < scenes / 10  # nothing was copied
    plain = write_run(tmp_path / "plain.yaml", run_content(town, bundle))
    mapped(plain, tmp_path / "out")
    before = set(commits(tmp_path / "out"))
    made = mapped(run_file, tmp_path / "out")
    assert len(commits(tmp_path / "out")) == 2 * len(before)
    mine, theirs = made.buildings, undisturbed.buildings
    assert (mine["status"] == theirs["status"]).all()
    scored = theirs["status"] == "assessed"
    apart = (mine["p_destroyed"] - theirs["p_destroyed"])[scored].abs()
    assert scored.any()
    assert apart.max() < 0.05


def test_run_again_it_is_kept_and_only_what_is_new_is_made(
    own_town: SyntheticEarthquake, bundle: Path, tmp_path: Path
) -> None:
    run_file = run_with_store(tmp_path, own_town, bundle, str(tmp_path / "tiles.zarr"))
    tile(run_file)
    assert by_scene(tile(run_file), "status") == {"pre": "kept", "post": "kept"}
    own_town.post[0].touch()
    assert by_scene(tile(run_file), "status") == {"pre": "kept", "post": "written"}
    assert by_scene(tile(run_file, fresh=True), "status") == {"pre": "written", "post": "written"}


def test_a_scene_that_changed_is_read_itself_and_named(
    own_town: SyntheticEarthquake, bundle: Path, undisturbed: Map, tmp_path: Path
) -> None:
    run_file = run_with_store(tmp_path, own_town, bundle, str(tmp_path / "tiles.zarr"))
    tile(run_file)
    own_town.post[0].touch()
    made = mapped(run_file, tmp_path / "out")
    assert "tiles were made from version" in made.causes("post")
    columns = ["building_id", "status", "damage", "p_destroyed", "valid_fraction"]
    assert made.buildings[columns].equals(undisturbed.buildings[columns])


def test_what_cannot_be_virtual_is_refused_or_stored(
    own_town: SyntheticEarthquake, bundle: Path, tmp_path: Path
) -> None:
    _as_webp(own_town.post[0])
    run_file = run_with_store(tmp_path, own_town, bundle, str(tmp_path / "tiles.zarr"))
    refused = tile(run_file, virtual=True)
    assert by_scene(refused, "status") == {"pre": "written", "post": "refused"}
    assert "compression webp" in by_scene(refused, "reason")["post"]
    assert "--or-stored" in by_scene(refused, "reason")["post"]
    assert [i["subject"] for i in refused["issues"]] == ["post"]
    mixed = tile(run_file, virtual=True, or_stored=True)
    assert by_scene(mixed, "kind") == {"pre": "virtual", "post": "stored"}
    assert by_scene(mixed, "status") == {"pre": "kept", "post": "written"}
    assert "compression webp" in by_scene(mixed, "reason")["post"]
    assert_accounted(mapped(run_file, tmp_path / "out"))


def _as_webp(path: Path) -> None:
    plain = path.with_name("plain.tif")
    path.rename(plain)
    with rasterio.open(plain) as source:
        rasterio.shutil.copy(source, path, driver="COG", COMPRESS="WEBP", QUALITY="100")
    plain.unlink()


def test_lost_chunks_are_read_errors_not_damage(
    stored: Path, town: SyntheticEarthquake, bundle: Path, tmp_path: Path
) -> None:
    shutil.copytree(stored.parent / "tiles.zarr", tmp_path / "tiles.zarr")
    shards = sorted((tmp_path / "tiles.zarr" / "post").glob("*/counts/c/0/*/*"))
    assert shards
    for shard in shards:
        shard.unlink()
    run_file = run_with_store(tmp_path, town, bundle, str(tmp_path / "tiles.zarr"))
    with pytest.raises(NothingReadError, match=r"60 of 60 read_error.*chunk is missing"):
        mapped(run_file, tmp_path / "out")


def test_a_store_that_is_none_is_a_wrong_request(
    town: SyntheticEarthquake, bundle: Path, tmp_path: Path
) -> None:
    run_file = run_with_store(tmp_path, town, bundle, str(tmp_path / "nothing"))
    done = quakestream("map", run_file, "--out", tmp_path / "out", "--quiet")
    assert done.code == 2
    assert "no tile store at" in done.error
    plain = write_run(tmp_path / "plain.yaml", run_content(town, bundle))
    done = quakestream("tile", plain)
    assert done.code == 2
    assert "--store" in done.error


def test_a_store_that_cannot_be_written_fails(
    town: SyntheticEarthquake, bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "tiles.zarr").write_text("in the way")
    run_file = write_run(tmp_path / "run.yaml", run_content(town, bundle))
    done = quakestream("tile", run_file, "--store", tmp_path / "tiles.zarr")
    assert done.code == 3
    assert "cannot write" in done.error


@pytest.mark.parametrize("kind", [pytest.param("stored", marks=pytest.mark.slow), "virtual"])
def test_scenes_and_tiles_in_an_object_store(
    kind: str,
    moto: S3Server,
    town: SyntheticEarthquake,
    bundle: Path,
    undisturbed: Map,
    tmp_path: Path,
) -> None:
    root = moto.make_bucket(f"tiles-{kind}")
    moto.upload(town.catalogue.parent, f"{root}/imagery")
    content = run_content(town, bundle, storage=moto.storage)
    content["imagery"] |= {
        "catalog": f"{root}/imagery/catalog.json",
        "store": f"{root}/tiles.zarr",
    }
    run_file = write_run(tmp_path / "run.yaml", content)
    report = tile_command(run_file, *(["--virtual"] if kind == "virtual" else []))
    assert by_scene(report, "kind") == {"pre": kind, "post": kind}
    done = quakestream("map", run_file, "--out", f"{root}/out", "--quiet")
    assert done.code == 0, done.stderr
    made = read_map(f"{root}/out", moto.options)
    theirs = undisturbed.buildings
    if kind == "stored":
        columns = ["building_id", "status", "damage", "p_destroyed", "valid_fraction"]
        assert made.buildings[columns].equals(theirs[columns])
    else:
        assert (made.buildings["status"] == theirs["status"]).all()
        apart = (made.buildings["p_destroyed"] - theirs["p_destroyed"]).abs()
        assert apart.max() < 0.05


@pytest.mark.alone
@pytest.mark.usefixtures("ray_backend")
@pytest.mark.slow
def test_dask_on_ray_writes_the_same_bytes(
    stored: Path, town: SyntheticEarthquake, bundle: Path, tmp_path: Path
) -> None:
    import ray

    ray_head = ray.get_runtime_context().gcs_address
    run_file = write_run(tmp_path / "run.yaml", run_content(town, bundle))
    report = tile_command(run_file, "--store", tmp_path / "tiles.zarr", "--address", ray_head)
    assert by_scene(report, "status") == {"pre": "written", "post": "written"}
    theirs = zarr.open_group(str(stored.parent / "tiles.zarr"), mode="r")
    mine = zarr.open_group(str(tmp_path / "tiles.zarr"), mode="r")
    for scene in ("pre", "post"):
        (grid,) = dict(mine[scene].groups())
        for name in ("counts", "valid"):
            found, expected = (g[f"{scene}/{grid}/{name}"][:] for g in (mine, theirs))
            assert expected.any()
            np.testing.assert_array_equal(found, expected)
