"""`quakestream engine`: check, bench and build."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from quakestream.bundles import load_bundle, write_manifest
from quakestream.cli.engine import engine_app
from quakestream.cli.refusals import refusal, refusal_lines
from quakestream.domain import BundleSpec
from quakestream.engines.bench import CROPS, BenchRequest, Timing, best_rates, owners, time_here
from quakestream.engines.cache import FOLDER_VARIABLE, EngineCache, engine_folder
from quakestream.engines.choice import Rate, kept_rates, this_machine
from quakestream.engines.runtimes import MODEL_RUNTIMES
from quakestream.engines.tensorrt import SUFFIX, PlanRequest, built_plans, plan_facts, with_batch
from quakestream.errors import BundleError, ConfigError, DeviceError, MissingExtraError
from quakestream.testing import write_building_bundle
from tests.helpers.tensorrt_case import GPU, PretendedNative


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
    allowed = [row["probability_difference_allowed"] for row in rows.values()]
    assert all(row["probability_difference"] <= 1e-3 for row in rows.values())
    assert allowed == [1e-3, 1e-3]


def test_check_says_what_cannot_run_and_goes_on(folder: Path) -> None:
    text = ran("check", folder)
    said = (
        r"onnxruntime \(.*\): pass: .* at most \(0\.001 allowed\), .* average \(0\.0001 allowed\)"
    )
    assert re.search(said, text)
    left = [line for line in text.splitlines() if ": pass: " not in line]
    assert all(any(name in line for line in left) for name in ("torch-aoti", "tensorrt-bf16"))
    assert len(left) <= 4, "runtimes of one cause have one line"


def test_what_is_not_installed_is_one_line_that_says_how() -> None:
    away = [
        refusal(name, MissingExtraError("away")) for name in ("openvino", "torch", "torch-bf16")
    ]
    no_gpu = [refusal(name, DeviceError(f"none for {name}")) for name in ("tensorrt", "torch-aoti")]
    lines = refusal_lines([*away, *no_gpu], said="refused", named=False)
    assert lines[0] == (
        "not installed: openvino (pip install 'quakestream[openvino]'); "
        "torch, torch-bf16 (pip install 'quakestream[train]')"
    )
    assert "tensorrt, torch-aoti" in lines[1]
    assert len(lines) == 2
    assert len(refusal_lines(away, said="refused", named=True)) == 3


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
    assert result.exception.what == "unknown runtime"
    assert result.exception.expected == f"one of {', '.join(MODEL_RUNTIMES)}"
    result = CliRunner().invoke(engine_app, [command, "no-such-bundle"])
    assert isinstance(result.exception, BundleError)


def test_bench_times_in_a_process_of_its_own_and_keeps_it(folder: Path) -> None:
    asked = ("--runtime", "onnxruntime", "--batch", 3, "--seconds", 0, "--threads", 1)
    found = json.loads(ran("bench", folder, *asked, "--keep", "--json"))
    (timing,) = found["timings"]
    assert timing["batch"] == CROPS, "enough for every thread, whatever a run takes"
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


def test_bench_keeps_the_best_batch_of_each_runtime(folder: Path) -> None:
    asked = ("--runtime", "onnxruntime", "--batch", 2, "--batch", 5, "--seconds", 0)
    found = json.loads(ran("bench", folder, *asked, "--keep", "--json"))["timings"]
    assert [timing["run"] for timing in found] in ([2, 5], [1, 1])
    best = max(found, key=lambda timing: timing["per_s"])
    kept = kept_rates(load_bundle(str(folder)), this_machine())
    assert kept == {"onnxruntime": Rate(per_s=best["per_s"], batch=best["run"])}


def test_the_batch_that_is_kept_is_what_ran() -> None:
    """Not what was asked of it: an engine may fall back to one by one, or leave no choice."""
    timed = [
        timing("torch", asked=8, run=1, per_s=3.0),
        timing("torch", asked=4, run=4, per_s=2.0),
        timing("tensorrt", asked=0, run=32, per_s=9.0),
        timing("openvino", asked=8, run=0, per_s=4.0),
    ]
    assert best_rates(timed) == {
        "torch": Rate(per_s=3.0, batch=1),
        "tensorrt": Rate(per_s=9.0),
        "openvino": Rate(per_s=4.0),
    }


def timing(runtime: str, *, asked: int, run: int, per_s: float) -> tuple[BenchRequest, Timing]:
    made = Timing(
        runtime=runtime,
        engine=runtime,
        batch=asked or 64,
        run=run,
        threads=1,
        per_s=per_s,
        mpx_per_s=None,
        km2_per_h=None,
        latency_p50_ms=1.0,
        latency_p95_ms=1.0,
        open_s=0.0,
        peak_mb=1.0,
    )
    return BenchRequest(bundle="b", runtime=runtime, batch=asked), made


def test_windows_are_given_as_many_at_once_as_was_asked() -> None:
    """Their runs are of one window: a batch says how many threads have something to do."""
    request = BenchRequest(
        bundle="damage-synthetic", runtime="onnxruntime", batch=1, threads=1, seconds=0
    )
    one = time_here(replace(request, checked=False))
    assert (one.batch, one.run) == (1, 0)


def test_a_runtime_that_runs_no_batch_is_refused_once(folder: Path) -> None:
    asked = ("--runtime", "openvino-int8", "--batch", 2, "--batch", 5, "--seconds", 0)
    text = ran("bench", folder, *asked, code=3)
    assert text.count("not timed") == 1


@pytest.fixture
def native(folder: Path, monkeypatch: pytest.MonkeyPatch) -> PretendedNative:
    native = PretendedNative()
    monkeypatch.setattr("quakestream.engines.tensorrt.tensorrt_native", lambda: native)
    return native


@pytest.mark.parametrize(
    ("options", "runtime", "wanted"),
    [
        ((), "tensorrt", PlanRequest(precision="fp16")),
        (("--precision", "bf16"), "tensorrt-bf16", PlanRequest(precision="bf16")),
        (("--batch", 4), "tensorrt", PlanRequest(precision="fp16", batch=4)),
        (("--portable",), "tensorrt", PlanRequest(precision="fp16", portable=True)),
        (
            ("--precision", "bf16", "--batch", 3, "--portable"),
            "tensorrt-bf16",
            PlanRequest(precision="bf16", batch=3, portable=True),
        ),
    ],
    ids=str,
)
def test_build_builds_what_was_wished_for(
    folder: Path,
    native: PretendedNative,
    options: tuple[object, ...],
    runtime: str,
    wanted: PlanRequest,
) -> None:
    (row,) = json.loads(ran("build", folder, "--runtime", "tensorrt", *options, "--json"))
    bundle = load_bundle(str(folder))
    assert row["runtime"] == runtime
    kept = EngineCache(folder=engine_folder(), suffix=SUFFIX)
    assert built_plans(bundle, kept, native.version, GPU) == [with_batch(wanted, bundle)]
    facts = plan_facts(bundle, with_batch(wanted, bundle), native.version, GPU)
    assert row["built"] == str(kept.path(facts))
    assert native.orders[0].portable == wanted.portable


def test_what_was_built_is_checked_and_opened_by_its_name(
    folder: Path, native: PretendedNative
) -> None:
    ran("build", folder, "--precision", "fp16", "--batch", 2)
    assert "fp16): pass: probabilities differ by" in ran("check", folder, "--runtime", "tensorrt")
    assert "no plan for" in ran("check", folder, "--runtime", "tensorrt-bf16", code=3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("--precision", "fp64"),
            "--precision: unknown precision: expected one of fp16, bf16, int8, got fp64",
        ),
        (("--runtime", "torch-aoti", "--precision", "bf16"), "expected tensorrt-bf16"),
        (("--runtime", "tensorrt-int8", "--precision", "bf16"), "expected tensorrt-bf16"),
        (("--runtime", "onnxruntime", "--portable"), "expected tensorrt or tensorrt-bf16"),
    ],
    ids=str,
)
def test_build_refuses_what_contradicts_itself(
    folder: Path, native: PretendedNative, options: tuple[str, ...], said: str
) -> None:
    result = CliRunner().invoke(engine_app, ["build", str(folder), *options])
    assert isinstance(result.exception, ConfigError)
    assert said in str(result.exception)
    assert native.orders == []


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
