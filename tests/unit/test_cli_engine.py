"""`quakestream engine`: check, bench and build."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from quakestream.bundles import load_bundle, write_manifest
from quakestream.cli.engine import engine_app
from quakestream.domain import BundleSpec
from quakestream.engines.bench import owners
from quakestream.engines.choice import Rate, kept_rates, this_machine
from quakestream.engines.kept import FOLDER_VARIABLE
from quakestream.errors import BundleError, ConfigError
from quakestream.testing import write_building_bundle


def ran(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(engine_app, [str(a) for a in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "engines"))
    return write_building_bundle(tmp_path / "b")


def test_check_compares_with_the_reference(folder: Path) -> None:
    pytest.importorskip("openvino")
    asked = ("--runtime", "openvino", "--runtime", "onnxruntime", "--json")
    rows = {row["runtime"]: row for row in json.loads(ran("check", folder, *asked))}
    assert rows["onnxruntime"]["max_difference"] == 0
    assert 0 <= rows["openvino"]["max_difference"] < 1e-3
    assert all(row["same"] for row in rows.values())


def test_check_says_what_cannot_run_and_goes_on(folder: Path) -> None:
    text = ran("check", folder)
    assert "onnxruntime (" in text
    assert "torch: refused" in text
    assert "ok" in text


def test_check_of_one_that_cannot_run_fails(folder: Path) -> None:
    text = ran("check", folder, "--runtime", "openvino-int8", code=3)
    assert "refused" in text
    assert text.count("\n") == 1


def test_check_tells_another_model(folder: Path) -> None:
    made = load_bundle(str(folder))
    golden = {**made.golden, "logits": made.golden["logits"][:, ::-1]}
    np.savez(folder / "golden.npz", allow_pickle=False, **golden)
    write_manifest(folder, made.spec)
    assert "NOT the same model" in ran("check", folder, "--runtime", "onnxruntime", code=3)


@pytest.mark.parametrize("command", ["check", "bench", "build"])
def test_an_unknown_runtime_or_bundle_is_a_wrong_request(folder: Path, command: str) -> None:
    result = CliRunner().invoke(engine_app, [command, str(folder), "--runtime", "openvin"])
    assert isinstance(result.exception, ConfigError)
    assert "there are onnxruntime, openvino" in str(result.exception)
    result = CliRunner().invoke(engine_app, [command, "no-such-bundle"])
    assert isinstance(result.exception, BundleError)


def test_bench_times_in_a_process_of_its_own_and_keeps_it(folder: Path) -> None:
    asked = ("--runtime", "onnxruntime", "--batch", 3, "--seconds", 0, "--threads", 1)
    found = json.loads(ran("bench", folder, *asked, "--keep", "--json"))
    (timing,) = found["timings"]
    assert timing["batch"] == 3
    assert timing["per_s"] > 0
    assert timing["latency_p95_ms"] >= timing["latency_p50_ms"] > 0
    assert timing["peak_mb"] > 30
    assert timing["mpx_per_s"] == pytest.approx(timing["per_s"] * 48**2 / 1e6, rel=0.01)
    assert timing["km2_per_h"] is None
    kept = kept_rates(load_bundle(str(folder)), this_machine())
    assert kept == {"onnxruntime": Rate(per_s=timing["per_s"], batch=timing["run"])}
    assert timing["run"] in (1, 3)


def test_bench_of_one_that_cannot_run_fails_in_one_line(folder: Path) -> None:
    text = ran("bench", folder, "--runtime", "openvino-int8", "--seconds", 0, code=3)
    assert text.startswith("openvino-int8: not timed: ")
    assert text.count("\n") == 1


def test_build_says_where_there_is_nothing_to_build(folder: Path) -> None:
    assert "onnxruntime: nothing to build" in ran("build", folder, "--runtime", "onnxruntime")


def test_timed_owners_lie_in_the_core_and_are_numbered_over_the_batch() -> None:
    spec: BundleSpec = load_bundle("damage-synthetic").spec
    owner_NYX = owners(spec, 3)
    assert owner_NYX.shape == (3, spec.core_px, spec.core_px)
    numbers = [set(np.unique(o)) - {-1} for o in owner_NYX]
    assert not numbers[0] & numbers[1]
    assert set.union(*numbers) == set(range(int(owner_NYX.max()) + 1))
    assert 0.2 < (owner_NYX >= 0).mean() < 0.3
