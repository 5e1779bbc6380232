"""The map of the tiny town that one process makes without a mishap."""

from pathlib import Path

import pytest

from quakestream.synthetic import SyntheticEarthquake
from quakestream.testing import write_stand_in_bundle
from tests.helpers.running import SMALL_CELLS, Map, quakestream, read_map, run_content, write_run

WINDOW_S = 0.04
"""Time the engine takes for a cell."""


@pytest.fixture(scope="session")
def run_file(town: SyntheticEarthquake, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the town with a commit for every cell, slow enough to be killed between two.

    The output is given with --out.
    """
    folder = tmp_path_factory.mktemp("run")
    bundle = folder / "difference"
    write_stand_in_bundle(bundle, window_s=WINDOW_S, window_px=128)
    execution = SMALL_CELLS | {"runtime": "stand-in"}
    return write_run(folder / "run.yaml", run_content(town, bundle, execution=execution))


@pytest.fixture(scope="session")
def undisturbed(run_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Map:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    done = quakestream("map", run_file, "--out", out, "--quiet")
    assert done.code == 0, done.stderr
    return read_map(out)
