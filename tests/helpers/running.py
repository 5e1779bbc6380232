"""The command line as users run it: run files, processes, exit codes, and maps read back."""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd
import yaml

from quakestream.outputs.readback import current_buildings, current_run, current_table
from quakestream.storage import StorageOptions, Store, open_store
from quakestream.synthetic import SizePreset, SyntheticEarthquake
from quakestream.testing import write_bundle

ROOT = Path(__file__).parents[2]
CLI = [sys.executable, "-m", "quakestream.cli.main"]
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    ["quakestream.cli.map", "quakestream.pipeline.run", "tests.helpers.lighter", __name__]
)
SMALL_CELLS = {"runtime": "threshold", "cell_windows": 1, "group_cells": 1}
"""A cell has one window and a commit one cell: a tiny town has more than twenty commits."""
MOMENTARY = ("first_seen",)


def write_threshold_bundle(folder: Path, *, window_px: int = 128, halo_px: int = 16) -> Path:
    """A bundle for the `threshold` runtime, which decides by difference and needs no weights."""
    return write_bundle(folder, window_px=window_px, halo_px=halo_px)


def run_content(town: SyntheticEarthquake, bundle: Path | str, **changed: Any) -> dict[str, Any]:
    """The content of a run file over a synthetic town; `changed` replaces whole sections."""
    content: dict[str, Any] = {
        "event": {"id": "town", "time": "2026-03-14T02:41:07Z"},
        "aoi": str(town.aoi),
        "imagery": {
            "catalog": str(town.catalogue),
            "asset": "visual",
            "post": {"datetime": "2026-03-14/2026-03-20"},
            "pre": {"datetime": "2025-01-01/2026-03-13"},
        },
        "footprints": {"path": str(town.footprints), "id": "id"},
        "hazard": {"shakemaps": [str(town.shakemap)], "vs30": str(town.vs30)},
        "models": {"damage": str(bundle)},
        "execution": dict(SMALL_CELLS),
    }
    return content | changed


def write_run(path: Path, content: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """Exit code and output of a process that ended by itself."""

    code: int
    stdout: str
    stderr: str

    @property
    def error(self) -> str:
        """The line of the error that the user sees; there must be one."""
        lines = [line for line in self.stderr.splitlines() if line.startswith("error:")]
        assert len(lines) == 1, f"expected one error line, got {self.stderr!r}"
        return lines[0]


def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    return {**os.environ, "PYTHONFAULTHANDLER": "1", **(extra or {})}


def quakestream(
    *arguments: object,
    env: dict[str, str] | None = None,
    timeout_s: float = 120,
    from_start: bool = False,
) -> CommandResult:
    """Runs a command to its end in a process of its own; one that hangs fails the test.

    Args:
        env: variables over those of this process.
        from_start: starts Python anew, as a user does, which takes two seconds of imports. Else
            the process is forked from one that has imported what `map` needs and has done
            nothing yet, made lighter by tests/helpers/lighter.py.
    """
    run = _started if from_start else _forked
    done = run([str(a) for a in arguments], environment(env), timeout_s)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def _started(arguments: list[str], env: dict[str, str], timeout_s: float) -> CommandResult:
    done = subprocess.run(
        [*CLI, *arguments],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    return CommandResult(code=done.returncode, stdout=done.stdout, stderr=done.stderr)


def _forked(arguments: list[str], env: dict[str, str], timeout_s: float) -> CommandResult:
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = _FORKS.Process(target=_run_command, args=(arguments, env, out, err))
        process.start()
        process.join(timeout_s)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise AssertionError(f"no end after {timeout_s:g} s: {err.read_text()}")
        code = process.exitcode
        return CommandResult(code=code, stdout=out.read_text(), stderr=err.read_text())


def _run_command(arguments: list[str], env: dict[str, str], out: Path, err: Path) -> None:
    """The command line in a forked process, its output in files."""
    for path, descriptor in ((out, 1), (err, 2)):
        with path.open("wb") as file:
            os.dup2(file.fileno(), descriptor)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(ROOT)
    sys.argv = ["quakestream", *arguments]
    from quakestream.cli.main import main

    main()


def earthquake_in(out: Path, size: SizePreset) -> SyntheticEarthquake:
    """The earthquake that was written to a folder, or copied there."""
    scenes = {s.id: out / "imagery" / s.id / f"{s.id}.tif" for s in size.scenes}
    return SyntheticEarthquake(
        out=out,
        run_file=out / "run.yaml",
        catalogue=out / "imagery" / "catalog.json",
        footprints=out / "footprints.geojson",
        truth=out / "truth.parquet",
        aoi=out / "aoi.geojson",
        shakemap=out / "shakemap" / "grid.xml",
        vs30=out / "vs30.tif",
        dpm=out / "dpm.tif",
        pre=tuple(scenes[s.id] for s in size.scenes if s.epoch == "pre"),
        post=tuple(scenes[s.id] for s in size.scenes if s.epoch == "post"),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Map:
    """A published map, read back."""

    run: dict[str, Any]
    buildings: gpd.GeoDataFrame
    coverage: gpd.GeoDataFrame
    quarantine: pd.DataFrame
    summary: pd.DataFrame

    @property
    def reasons(self) -> Any:
        """Reason by building id, `assessed` where there is none."""
        return self.buildings.set_index("building_id")["reason"].fillna("assessed")

    def causes(self, subject: str) -> str:
        """Causes that the quarantine gives for a subject, joined."""
        rows = self.quarantine[self.quarantine["subject"].str.endswith(subject)]
        return " | ".join(rows["cause"])


def read_map(out: str | Path, options: StorageOptions | None = None) -> Map:
    store = open_store(str(out), options)
    run = current_run(store)
    return Map(
        run=run,
        buildings=current_buildings(store, run),
        coverage=_coverage(store, run),
        quarantine=current_table(store, run, "quarantine.parquet"),
        summary=current_table(store, run, "summary.csv"),
    )


def _coverage(store: Store, run: dict[str, Any]) -> gpd.GeoDataFrame:
    return gpd.read_parquet(BytesIO(store.get(f"snapshots/{run['snapshot']}/coverage.parquet")))


def assert_same_map(one: Map, other: Map, *, but: tuple[str, ...] = ()) -> None:
    """Asserts that all products have equal rows and columns, apart from the columns named."""
    for name in ("buildings", "coverage", "quarantine", "summary"):
        left, right = getattr(one, name), getattr(other, name)
        skipped = [c for c in (*but, *MOMENTARY) if c in left.columns]
        pd.testing.assert_frame_equal(
            pd.DataFrame(left.drop(columns=skipped)), pd.DataFrame(right.drop(columns=skipped))
        )


def assert_accounted(made: Map) -> None:
    """Asserts law 3: each footprint has one row, with one reason or none, and counts add up."""
    rows, counts = made.buildings, made.run["counts"]
    assert rows["building_id"].is_unique
    assert ((rows["status"] == "assessed") == rows["reason"].isna()).all()
    assert len(rows) == counts["footprints"] == counts["assessed"] + counts["not_assessed"]
    left_out = ("duplicates_collapsed", "outside_aoi", "without_position")
    assert counts["footprints_read"] == len(rows) + sum(counts[name] for name in left_out)
    assert sum(counts["reasons"].values()) == counts["not_assessed"]


def commits(out: str | Path, options: StorageOptions | None = None) -> list[str]:
    """Keys of the commit objects."""
    return open_store(str(out), options).list("_ledger/cells/")
