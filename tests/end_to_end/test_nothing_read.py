"""A run in which no scene could be read is no map: one line, exit 3, and nothing is published."""

import json
import shutil
from pathlib import Path

from quakestream.synthetic import SyntheticEarthquake
from tests.helpers.running import quakestream, read_map, run_content, write_run
from tests.helpers.scenes import truncate


def test_a_run_that_reads_nothing_publishes_nothing_and_keeps_the_earlier_map(
    town: SyntheticEarthquake, bundle: Path, tmp_path: Path
) -> None:
    shutil.copytree(town.out, tmp_path / "town")
    moved = run_content(town, bundle)
    text = write_run(tmp_path / "run.yaml", moved).read_text()
    run_file = tmp_path / "run.yaml"
    run_file.write_text(text.replace(str(town.out), str(tmp_path / "town")))
    out = tmp_path / "out"
    first = quakestream("map", run_file, "--out", out, "--quiet")
    assert first.code == 0, first.stderr
    before = read_map(out)
    told = json.loads((out / "_ledger" / "progress.json").read_text())
    assert told["buildings_done"] == len(before.buildings), "each counts once"
    assert told["km2_done"] == told["km2_total"] > 0
    published = (out / "run.json").read_bytes()
    snapshots = sorted(path.name for path in (out / "snapshots").iterdir())

    scenes = sorted((tmp_path / "town" / "imagery").rglob("*.tif"))
    whole = {path: path.read_bytes() for path in scenes}
    for path in scenes:
        truncate(path, 0.02)
    failed = quakestream("map", run_file, "--out", out, "--quiet")
    assert failed.code == 3, failed.stdout
    buildings = len(before.buildings)
    assert f"no footprint could be read: {buildings:,} of {buildings:,} read_error" in failed.error
    assert "nothing was published" in failed.error
    assert any(path.name in failed.error for path in scenes)
    assert (out / "run.json").read_bytes() == published
    assert sorted(path.name for path in (out / "snapshots").iterdir()) == snapshots

    for path, data in whole.items():
        path.write_bytes(data)
    mended = quakestream("map", run_file, "--out", out, "--quiet")
    assert mended.code == 0, mended.stderr
    assert read_map(out).buildings["damage"].tolist() == before.buildings["damage"].tolist()
