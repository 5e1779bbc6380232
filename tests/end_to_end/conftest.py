"""A bundle that needs no weights, the tiny town's map of an undisturbed run, and the demo."""

import json
from pathlib import Path
from typing import Any

import pytest

from quakestream.synthetic import DEMO, SyntheticEarthquake
from tests.helpers.running import (
    Map,
    earthquake_in,
    quakestream,
    read_map,
    run_content,
    write_run,
    write_threshold_bundle,
)
from tests.helpers.side_by_side import one_process, shared_folder


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_threshold_bundle(tmp_path_factory.mktemp("bundle") / "difference")


@pytest.fixture(scope="session")
def undisturbed(
    town: SyntheticEarthquake, bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Map:
    """The town's map, made by one process from files."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run_file = write_run(folder / "run.yaml", run_content(town, bundle))
    done = quakestream("map", run_file, "--out", folder / "out", "--quiet")
    assert done.code == 0, done.stderr
    return read_map(folder / "out")


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_folder(tmp_path_factory) / "demo-out"


@pytest.fixture(scope="session")
def demo_record(demo_folder: Path) -> dict[str, Any]:
    """What `quakestream demo` says of its map, which one of the tests' processes makes."""
    said = demo_folder.parent / "demo.json"
    with one_process(demo_folder.parent / "demo.lock"):
        if not said.exists():
            done = quakestream(
                "demo", "--out", demo_folder, "--json", timeout_s=280, from_start=True
            )
            assert done.code == 0, done.stderr
            said.write_text(done.stdout)
    record: dict[str, Any] = json.loads(said.read_text())
    return record


@pytest.fixture(scope="session")
def demo(demo_folder: Path, demo_record: dict[str, Any]) -> SyntheticEarthquake:
    """The earthquake the demo made."""
    return earthquake_in(demo_folder, DEMO)
