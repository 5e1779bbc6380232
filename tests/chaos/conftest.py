"""The same tiny town and its undisturbed map as the end-to-end tests have."""

from pathlib import Path

import pytest
from running import Map, quakestream, read_map, run_content, write_run, write_threshold_bundle
from servers import moto

from quakestream.synthetic import TINY, SyntheticEarthquake, make_earthquake

__all__ = ["moto"]


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> SyntheticEarthquake:
    """320 × 320 m, one pair of scenes, a ShakeMap."""
    return make_earthquake(tmp_path_factory.mktemp("town"), seed=3, size=TINY)


@pytest.fixture(scope="session")
def run_file(town: SyntheticEarthquake, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the town with a commit for every cell; the output is given with --out."""
    folder = tmp_path_factory.mktemp("run")
    bundle = write_threshold_bundle(folder / "difference")
    return write_run(folder / "run.yaml", run_content(town, bundle))


@pytest.fixture(scope="session")
def undisturbed(run_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Map:
    """The map one process makes without a mishap."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    done = quakestream("map", run_file, "--out", out, "--quiet")
    assert done.code == 0, done.stderr
    return read_map(out)
