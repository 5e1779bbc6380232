"""Objects of the ledger that are cut, changed, or copied under another's name are made again."""

import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from quakestream.config import RunFile, open_run
from quakestream.pipeline.backends.local import LocalBackend
from quakestream.pipeline.run import MADE_AGAIN, Result, map_run
from quakestream.storage.seals import unsealed
from quakestream.testing import make_world
from tests.helpers.mapping import same

FOLDERS = ("cells", "prepared", "indices", "rasters")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFile:
    execution = {"runtime": "threshold", "cell_windows": 1, "group_cells": 2}
    folder = tmp_path_factory.mktemp("world")
    world = make_world(folder, seed=21, side_px=300, buildings=30, execution=execution)
    opened = open_run(world.run_file)
    return opened.model_copy(update={"outputs": ("scores",)})


def made(run: RunFile, out: Path) -> Result:
    return map_run(run, backend=LocalBackend(), out=str(out))


@pytest.fixture(scope="module")
def fresh(run: RunFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fresh") / "out"
    made(run, out)
    for folder in FOLDERS:
        assert list((out / "_ledger" / folder).iterdir()), folder
    return out


def cut(path: Path, other: bytes, rng: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])


def flip(path: Path, other: bytes, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def exchange(path: Path, other: bytes, rng: random.Random) -> None:
    path.write_bytes(other)


def empty(path: Path, other: bytes, rng: random.Random) -> None:
    path.write_bytes(b"")


def garbage(path: Path, other: bytes, rng: random.Random) -> None:
    path.write_bytes(rng.randbytes(2000))


Damage = Callable[[Path, bytes, random.Random], None]
KINDS: tuple[Damage, ...] = (cut, flip, exchange, empty, garbage)
CONTENT = ("buildings.parquet", "coverage.parquet", "summary.csv", "scores/")


def contents(result: Result) -> list[Any]:
    products = result.run["products"]
    return [(p["name"], p["sha256"]) for p in products if p["name"].startswith(CONTENT)]


@pytest.fixture(scope="module")
def plain(run: RunFile, fresh: Path) -> Result:
    return made(run, fresh)


def check(folder: str, damages: Sequence[Damage], run: RunFile, plain: Result, out: Path) -> None:
    """Damages half of the objects of a folder. Nothing else is done again."""
    rng = random.Random(f"{folder} {[d.__name__ for d in damages]}")
    shutil.copytree(plain.out, out)
    paths = sorted((out / "_ledger" / folder).iterdir())
    whole = {path: path.read_bytes() for path in paths}
    broken = paths[:: 2 if len(paths) > 2 else 1]
    for n, path in enumerate(broken):
        # Whole ones: of two that are given each other's bytes, both are then damaged.
        others = [d for p, d in whole.items() if p.suffix == path.suffix and d != whole[path]]
        other = rng.choice(others or [(Path(plain.out) / "run.json").read_bytes()])
        damages[n % len(damages)](path, other, rng)
        assert path.read_bytes() != whole[path]
    if folder == "indices":  # read only where pixels are
        shutil.rmtree(out / "_ledger" / "cells")

    again = made(run, out)
    same(again.buildings, plain.buildings)
    assert contents(again) == contents(plain)
    notes = [note for note in again.run["notes"] if note.startswith(MADE_AGAIN)]
    assert len(notes) == (0 if folder == "indices" else len(broken))
    counts = again.run["counts"]
    if folder == "cells":
        assert 0 < counts["cells_scored"] < counts["cells"]
    if folder == "prepared":
        assert counts["cells_scored"] == 0
    if folder in ("prepared", "indices"):
        assert {path: path.read_bytes() for path in paths} == whole


@pytest.mark.parametrize("folder", FOLDERS)
def test_damaged_objects_are_made_again_and_the_map_is_the_same(
    run: RunFile, plain: Result, tmp_path: Path, folder: str
) -> None:
    check(folder, KINDS, run, plain, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("damage", KINDS)
@pytest.mark.parametrize("folder", FOLDERS)
def test_each_damage_to_each_kind_of_object(
    run: RunFile, plain: Result, tmp_path: Path, folder: str, damage: Damage
) -> None:
    check(folder, [damage], run, plain, tmp_path / "out")
    assert made(run, tmp_path / "out").run["counts"]["cells_scored"] == 0


def test_a_ledger_without_seals_is_of_an_older_version(
    run: RunFile, plain: Result, tmp_path: Path
) -> None:
    """All of it is done again, in both places, and no object of another run is in the way."""
    out = tmp_path / "out"
    shutil.copytree(plain.out, out)
    for path in (out / "_ledger").rglob("*.*"):
        content = unsealed(path.name, path.read_bytes())
        if content is not None:
            path.write_bytes(content)
            shutil.copy(path, path.with_name(f"older-{path.name}"))
    again = made(run, out)
    same(again.buildings, plain.buildings)
    assert contents(again) == contents(plain)
    assert again.run["counts"]["cells_scored"] == again.run["counts"]["cells"]
    assert made(run, out).run["counts"]["cells_scored"] == 0
