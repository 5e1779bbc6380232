"""A bundle that needs no weights, and the tiny town's map of an undisturbed run."""

from pathlib import Path

import pytest

from quakestream.synthetic import SyntheticEarthquake
from tests.helpers.running import (
    Map,
    quakestream,
    read_map,
    run_content,
    write_run,
    write_threshold_bundle,
)


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
