"""The main job with everything in a bucket gives what it gives from files (moto, Ceph radosgw)."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import geopandas as gpd
import geopandas.testing
import pyarrow.parquet as pq
import pytest

from quakestream.storage import Store, open_store
from quakestream.storage.filesystems import filesystem
from quakestream.synthetic import SyntheticEarthquake
from tests.helpers.ending import map_process, wait_for_commits
from tests.helpers.running import (
    ROOT,
    Map,
    assert_accounted,
    commits,
    environment,
    quakestream,
    read_map,
    run_content,
    write_run,
    write_threshold_bundle,
)
from tests.helpers.servers import S3Server

UPLOADER = """
import sys
from quakestream.storage import StorageOptions, open_store
endpoint, uri, size = sys.argv[1:]
store = open_store(uri, StorageOptions(protocols={"s3": {"endpoint_url": endpoint}}))
print("ready", flush=True)
while True:
    store.put("big.bin", b"x" * int(size))
    print("put", flush=True)
"""


def in_bucket(content: dict[str, Any], server: S3Server, bucket: str, folder: Path) -> None:
    """Turns every place of a run file below a folder into its place in a bucket."""
    text = json.dumps(content).replace(str(folder), f"s3://{bucket}")
    content.clear()
    content.update(json.loads(text) | {"storage": server.storage})


def assert_same_products(one: Map, other: Map) -> None:
    """Every table is the same, apart from what names the request or its places."""
    left, right = (m.buildings.drop(columns=["run_id"]) for m in (one, other))
    gpd.testing.assert_geodataframe_equal(left, right)
    gpd.testing.assert_geodataframe_equal(one.coverage, other.coverage)
    assert one.summary.equals(other.summary)
    assert one.run["damage_scale"] == other.run["damage_scale"]
    assert one.run["counts"] == other.run["counts"]


def assert_snapshot_is_whole(store: Store, made: Map) -> None:
    """Every object run.json names is there, twice, byte for byte."""
    for entry in made.run["products"]:
        for prefix in ("", f"snapshots/{made.run['snapshot']}/"):
            data = store.get(prefix + entry["name"])
            assert len(data) == entry["bytes"]
            assert hashlib.sha256(data).hexdigest() == entry["sha256"]


class Watcher(threading.Thread):
    """Reads whatever is listed in a run's ledger while the run goes on."""

    def __init__(self, store: Store) -> None:
        super().__init__(daemon=True)
        self.store, self.read, self.halves = store, set[str](), list[str]()
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.is_set():
            for key in set(self.store.list("_ledger/cells/")) - self.read:
                try:
                    pq.read_table(BytesIO(self.store.get(key)))
                except Exception as error:
                    self.halves.append(f"{key}: {error!r}")
                self.read.add(key)


def test_a_bucket_gives_what_files_give(
    town: SyntheticEarthquake, undisturbed: Map, moto: S3Server, tmp_path: Path
) -> None:
    """Catalogue, COGs, footprints, hazard layers, bundle and output: all in one bucket."""
    folder = tmp_path / "folder"
    shutil.copytree(town.out, folder)
    write_threshold_bundle(folder / "difference")
    bucket = moto.make_bucket("town").removeprefix("s3://")
    moto.upload(folder, f"s3://{bucket}")
    content = run_content(town, folder / "difference")
    content = json.loads(json.dumps(content).replace(str(town.out), str(folder)))
    in_bucket(content, moto, bucket, folder)
    content["out"] = f"s3://{bucket}/runs/one"
    shutil.rmtree(folder)
    run_file = write_run(tmp_path / "run.yaml", content)
    store = open_store(content["out"], moto.options)
    watcher = Watcher(store)
    watcher.start()
    done = quakestream("map", run_file, "--quiet", env=moto.env)
    watcher.over.set()
    watcher.join()
    assert done.code == 0, done.stderr
    assert "amazonaws" not in done.stderr, "another server was asked than the endpoint given"
    made = read_map(content["out"], moto.options)
    assert_accounted(made)
    assert_same_products(made, undisturbed)
    assert_snapshot_is_whole(store, made)
    assert len(watcher.read) > 3
    assert watcher.halves == []
    again = quakestream("map", run_file, "--quiet", env=moto.env)
    assert again.code == 0, again.stderr
    counts = read_map(content["out"], moto.options).run["counts"]
    assert (counts["cells_scored"], counts["cells_resumed"]) == (0, counts["cells"])
    assert not list(tmp_path.glob("**/_ledger")), "something was written to this machine"
    endpoint = ["--s3-endpoint", moto.endpoint]
    told = quakestream("status", content["out"], *endpoint, "--json", env=moto.env)
    assert json.loads(told.stdout)["counts"]["footprints"] == counts["footprints"]
    written = quakestream("report", content["out"], *endpoint, env=moto.env)
    assert written.stdout.strip() == f"{content['out']}/report.html"
    scored = quakestream(
        *("score", content["out"], "--truth", town.truth, "--json", *endpoint), env=moto.env
    )
    assert json.loads(scored.stdout)["coverage"]["items"] > 0, scored.stderr
    fs, root = filesystem(content["out"], moto.options)
    page = fs.info(f"{root}/index.html")
    assert page["ContentType"] == "text/html; charset=utf-8"


def test_a_folder_of_a_bucket_becomes_a_catalogue(
    town: SyntheticEarthquake, moto: S3Server, tmp_path: Path
) -> None:
    bucket = moto.make_bucket("bare")
    moto.upload(town.out, f"{bucket}/event")
    arguments = ("-o", tmp_path / "stac", "--s3-endpoint", moto.endpoint, "--json")
    done = quakestream("catalog", f"{bucket}/event/imagery/", *arguments, env=moto.env)
    made = json.loads(done.stdout)
    assert (len(made["items"]), made["issues"]) == (2, []), done.stderr
    empty = quakestream(
        *("catalog", f"{bucket}/none/", "-o", tmp_path / "no", "--s3-endpoint", moto.endpoint),
        env=moto.env,
    )
    assert (empty.code, empty.error) == (
        2,
        f"error: {bucket}/none/: folder holds no image: expected GeoTIFFs",
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("catalog", "s3://nowhere/images/", "-o", "stac"),
        ("status", "s3://nowhere/run"),
        ("report", "s3://nowhere/run"),
        ("score", "s3://nowhere/run", "--truth", "truth.json"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_missing_bucket_is_no_empty_folder(moto: S3Server, arguments: tuple[str, ...]) -> None:
    done = quakestream(*arguments, "--s3-endpoint", moto.endpoint, env=moto.env)
    assert (done.code, done.error) == (
        2,
        "error: s3://nowhere: there is no such bucket; "
        "check its name and the endpoint (--s3-endpoint)",
    )


def test_missing_credentials_are_told_in_one_line(
    town: SyntheticEarthquake, moto: S3Server, bundle: Path, tmp_path: Path
) -> None:
    """None at all: it fails before anything is read or written."""
    content = run_content(town, bundle, storage=moto.storage, out="s3://elsewhere/run")
    run_file = write_run(tmp_path / "run.yaml", content)
    env = dict.fromkeys(moto.env, "") | {"AWS_EC2_METADATA_DISABLED": "true"}
    env |= {"AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_CONFIG_FILE": "/dev/null"}
    done = quakestream("map", run_file, "--quiet", env=env)
    assert done.code == 3, done.stderr
    assert "s3://elsewhere/run" in done.error
    assert "no credentials on the machine that asks; set AWS_ACCESS_KEY_ID" in done.error


def _kahramanmaras(data_dir: Path, folder: Path) -> dict[str, Any]:
    """Run file over the real pair, its boxes and two layers, copied below a folder."""
    source = data_dir / "kahramanmaras-2023-main"
    boxes = gpd.read_file(source / "labels" / "km_merkez4_detection_boxes.geojson")
    boxes["id"] = [f"box{n:04d}" for n in range(len(boxes))]
    boxes = boxes[boxes["status"] != "only_in_post"]
    folder.mkdir()
    boxes[["id", "geometry"]].to_file(folder / "boxes.geojson")
    files = {
        "pre_20210403.tif": "imagery/km_merkez4_pre_20210403_50cm.tif",
        "post_20230207.tif": "imagery/km_merkez4_post_20230207_50cm.tif",
        "pga.tif": "fusion/pga_g.tif",
        "dpm.tif": "fusion/dpm_sentinel1.tif",
    }
    for name, path in files.items():
        shutil.copy(source / path, folder / name)
    write_threshold_bundle(folder / "difference", window_px=256, halo_px=32)
    return {
        "event": {"id": "kahramanmaras-2023", "time": "2023-02-06T01:17:34Z"},
        "aoi": "36.9220,37.5761,36.9329,37.5812",
        "imagery": {
            "catalog": [str(folder / "pre_20210403.tif"), str(folder / "post_20230207.tif")],
            "post": {"datetime": "2023-02-06/2023-03-01"},
            "pre": {"datetime": "2018-01-01/2023-02-05"},
        },
        "footprints": {"path": str(folder / "boxes.geojson"), "id": "id"},
        "hazard": {
            "layers": {"pga_raster": str(folder / "pga.tif"), "dpm": str(folder / "dpm.tif")}
        },
        "models": {"damage": str(folder / "difference")},
        "execution": {"runtime": "threshold", "cell_windows": 1, "group_cells": 1},
    }


@pytest.mark.data
@pytest.mark.s3
@pytest.mark.alone
@pytest.mark.slow
def test_the_real_pair_from_a_real_s3_server_killed_on_its_way(
    data_dir: Path, radosgw: S3Server, tmp_path: Path
) -> None:
    """Kahramanmaraş over radosgw, killed once after three commits, resumed: as from files."""
    folder = tmp_path / "folder"
    content = _kahramanmaras(data_dir, folder)
    from_files = write_run(tmp_path / "files.yaml", content)
    done = quakestream("map", from_files, "--out", tmp_path / "out", "--quiet")
    assert done.code == 0, done.stderr
    bucket = radosgw.make_bucket("kahramanmaras").removeprefix("s3://")
    radosgw.upload(folder, f"s3://{bucket}")
    in_bucket(content, radosgw, bucket, folder)
    content["out"] = f"s3://{bucket}/run"
    shutil.rmtree(folder)
    run_file = write_run(tmp_path / "s3.yaml", content)

    kept = _kill_after_commits(run_file, content["out"], radosgw)
    done = quakestream("map", run_file, "--quiet", env=radosgw.env)
    assert done.code == 0, done.stderr
    made = read_map(content["out"], radosgw.options)
    assert_accounted(made)
    counts = made.run["counts"]
    assert counts["footprints"] == 447 - counts["outside_aoi"]
    assert counts["cells_resumed"] >= len(kept)
    assert counts["cells_resumed"] + counts["cells_scored"] == counts["cells"]
    now = _etags(content["out"], radosgw)
    assert len(now) == counts["cells"]
    assert kept.items() <= now.items(), "a commit was written again"
    made.run["counts"] |= {"cells_resumed": 0, "cells_scored": counts["cells"]}
    made.run["counts"]["commits"] = counts["cells"]
    assert_same_products(made, read_map(tmp_path / "out"))
    assert_snapshot_is_whole(open_store(content["out"], radosgw.options), made)


def _kill_after_commits(run_file: Path, out: str, server: S3Server) -> dict[str, Any]:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = map_process(run_file, "--quiet", env=server.env, start_new_session=True, **quiet)
    try:
        wait_for_commits(process, lambda: len(commits(out, server.options)), 3)
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(random.Random(5).uniform(0.0, 0.05))
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert "run.json" not in open_store(out, server.options).list()
    return _etags(out, server)


def _etags(out: str, server: S3Server) -> dict[str, Any]:
    """ETag and time of change of each commit."""
    fs, root = filesystem(f"{out}/_ledger/cells", server.options)
    found = fs.find(root, detail=True)
    return {name: (info["ETag"], info["LastModified"]) for name, info in found.items()}


@pytest.mark.data
@pytest.mark.s3
@pytest.mark.alone
def test_a_killed_upload_leaves_the_object_whole_or_not_at_all(radosgw: S3Server) -> None:
    """Killed while it writes 48 MB, for the first time and again over itself; then in parts."""
    rng = random.Random(11)
    for size in (48_000_000, 120_000_000):
        bucket = radosgw.make_bucket(f"uploads-{size}")
        store = open_store(f"{bucket}/out", radosgw.options)
        for puts in (0, 0, 1):
            process = subprocess.Popen(
                [sys.executable, "-c", UPLOADER, radosgw.endpoint, store.uri, str(size)],
                cwd=ROOT,
                env=environment(radosgw.env),
                stdout=subprocess.PIPE,
            )
            assert process.stdout is not None
            for _ in range(1 + puts):
                assert process.stdout.readline()
            time.sleep(rng.uniform(0.0, 0.2))
            process.kill()
            process.wait()
            process.stdout.close()
            keys = store.list()
            assert keys == ["big.bin"] if puts else keys in ([], ["big.bin"])
            for key in keys:
                assert len(store.get(key)) == size
