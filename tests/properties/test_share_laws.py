"""Laws 2, 4 and 6 for maps of calibrated bundles: shares hang on no cell, order or restart."""

from pathlib import Path

from quakestream.testing import make_world
from tests.helpers.calibrating import calibrate_bundle
from tests.helpers.mapping import ShuffledBackend, map_file, mapped, same


def test_neither_cells_nor_their_order_nor_lost_commits_change_a_share(tmp_path: Path) -> None:
    world = make_world(tmp_path, seed=3, execution={"cell_windows": 1, "group_cells": 2})
    calibrate_bundle(tmp_path / "bundle")
    first = map_file(world.run_file, tmp_path / "a")
    shuffled = map_file(world.run_file, tmp_path / "b", ShuffledBackend(1))
    sorted((tmp_path / "b" / "_ledger" / "cells").iterdir())[0].unlink()
    resumed = map_file(world.run_file, tmp_path / "b")
    larger = mapped(tmp_path, "c", cell_windows=5)
    assert first.buildings["share"].notna().any()
    for other in (shuffled, resumed, larger):
        same(first.buildings, other.buildings)
        assert other.run["shares"] == first.run["shares"]
    assert resumed.run["counts"]["cells_resumed"] > 0
