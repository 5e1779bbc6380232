"""Which runtime `auto` takes, and what it says of those it does not take."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quakestream.bundles import Bundle, load_bundle
from quakestream.config import open_run
from quakestream.engines import RUNTIMES, EngineSpec, choose
from quakestream.engines.cache import FOLDER_VARIABLE
from quakestream.engines.choice import Rate, keep_rates, kept_rates
from quakestream.engines.machine import Machine, this_machine
from quakestream.engines.onnxruntime import OnnxRuntimeEngine
from quakestream.engines.runtimes import int8_gated
from quakestream.errors import ConfigError, DeviceError, EngineError, NotBuiltError
from quakestream.pipeline.planning.plan import make_plan
from quakestream.pipeline.planning.tasks import model_identity, worker_spec
from quakestream.pipeline.work.worker import Worker
from quakestream.testing import write_building_bundle, write_hazard_bundle
from tests.helpers.cropping import crop_world
from tests.helpers.mapping import edit

PLAIN = Machine(cpu_flags=frozenset(), gpu=False, cores=2)
VNNI = replace(PLAIN, cpu_flags=frozenset({"avx512_vnni"}))
NARROW = replace(PLAIN, cpu_flags=frozenset({"avx512_bf16"}))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures kept on the developer's machine have no say here."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "engines"))


@pytest.fixture
def bundle() -> Bundle:
    pytest.importorskip("openvino")
    return load_bundle("damage-synthetic")


def test_eight_bits_are_taken_where_the_cpu_has_them_and_they_were_held_to_their_loss(
    bundle: Bundle,
) -> None:
    assert choose(bundle, machine=VNNI).runtime == "openvino-int8"
    figures = {**bundle.spec.metrics["int8"], "drop": 0.006}
    lossy = replace(bundle, spec=replace(bundle.spec, metrics={"int8": figures}))
    assert not int8_gated(lossy.spec)
    chosen = choose(lossy, machine=VNNI)
    assert chosen.runtime == "openvino"
    assert (
        "openvino-int8 (its model.int8.onnx loses too much or was not compared with float32)"
        in chosen.notes[0]
    )


def test_what_was_passed_over_is_said_with_why(bundle: Bundle) -> None:
    chosen = choose(bundle, machine=PLAIN)
    assert chosen.runtime == "openvino"
    assert chosen.notes == (
        "runtime openvino chosen; passed over: openvino-int8 (this CPU has no VNNI), "
        "openvino-bf16 (this CPU has no bfloat16)",
    )
    on_gpu = choose(bundle, machine=replace(PLAIN, gpu=True)).notes[0]
    assert "torch (the bundle has no model.pt2)" in on_gpu


def test_the_same_machine_chooses_alike(bundle: Bundle) -> None:
    here = this_machine()
    assert here == this_machine()
    assert {choose(bundle).runtime for _ in range(2)} <= set(RUNTIMES)
    assert len({choose(bundle).runtime for _ in range(2)}) == 1


def test_half_precision_that_rounding_moves_is_passed_over(tmp_path: Path) -> None:
    """A mean over a crop: what rounding does to the scene's mean, it does to the score."""
    pytest.importorskip("openvino")
    if not this_machine().cpu_flags & {"avx512_bf16", "amx_bf16"}:
        pytest.skip("this CPU has no bfloat16")
    folder = write_building_bundle(tmp_path / "b")
    chosen = choose(load_bundle(str(folder)), machine=NARROW)
    assert chosen.runtime == "openvino"
    assert "rounding moves logits" in chosen.notes[0]
    assert choose(load_bundle("grades-synthetic"), machine=NARROW).runtime == "openvino-bf16"


def test_a_runtime_that_reads_the_graph_otherwise_is_passed_over() -> None:
    pytest.importorskip("openvino")
    chosen = choose(load_bundle("hazard-kahramanmaras-2023"), machine=PLAIN)
    assert chosen.runtime == "onnxruntime"
    assert "is not the same model as its reference" in chosen.notes[0]


def test_without_openvino_the_core_install_scores(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [n for n in sys.modules if n == "openvino" or n.startswith("openvino.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "openvino", None)
    chosen = choose(bundle, machine=VNNI)
    assert chosen.runtime == "onnxruntime"
    assert "pip install 'quakestream[openvino]'" in chosen.notes[0]


def test_a_runtime_by_name_is_refused_if_it_is_another_model(tmp_path: Path) -> None:
    bundle = load_bundle(str(write_hazard_bundle(tmp_path / "b")))
    golden = {**bundle.golden, "logits": bundle.golden["logits"] + np.float32([[1.0, -1.0]])}
    other = replace(bundle)
    other.__dict__["golden"] = golden
    with pytest.raises(EngineError, match="is not the same model as its reference") as caught:
        choose(other, runtime="onnxruntime")
    assert "\n" not in str(caught.value)


def test_kept_figures_decide(bundle: Bundle) -> None:
    rates = {"openvino": Rate(per_s=3.0), "onnxruntime": Rate(per_s=9.0)}
    path = keep_rates(bundle, {**rates, "no-such": Rate(per_s=99.0)}, VNNI)
    assert kept_rates(bundle, VNNI) == rates
    assert choose(bundle, machine=VNNI).spec == EngineSpec(runtime="onnxruntime")
    assert choose(bundle, machine=PLAIN).runtime == "openvino", "figures of another machine"
    path.write_text("[not, rates")
    assert choose(bundle, machine=VNNI).runtime == "openvino-int8"


def test_figures_of_earlier_versions_are_as_none(bundle: Bundle) -> None:
    """They did not say with which batch."""
    path = keep_rates(bundle, {}, VNNI)
    path.write_text(json.dumps({"openvino": 3.0, "onnxruntime": 9.0}))
    assert kept_rates(bundle, VNNI) == {}
    assert choose(bundle, machine=VNNI).runtime == "openvino-int8"


@pytest.fixture
def crops(tmp_path: Path) -> Bundle:
    return load_bundle(str(write_building_bundle(tmp_path / "crops")))


@pytest.mark.parametrize("runtime", ["auto", "onnxruntime"])
def test_the_batch_that_was_the_fastest_is_opened(crops: Bundle, runtime: str) -> None:
    keep_rates(crops, {"onnxruntime": Rate(per_s=12.5, batch=3)}, PLAIN)
    chosen = choose(crops, runtime=runtime, machine=PLAIN)
    assert chosen.spec == EngineSpec(runtime="onnxruntime", batch=3)
    assert chosen.engine.batch == 3
    assert chosen.notes[-1] == (
        "batch 3 for runtime onnxruntime: the fastest measured here, 12.5/s"
    )
    assert choose(crops, runtime=runtime, machine=VNNI).spec.batch == 0


@pytest.mark.parametrize("runtime", ["auto", "onnxruntime"])
def test_a_batch_asked_for_wins(crops: Bundle, runtime: str) -> None:
    keep_rates(crops, {"onnxruntime": Rate(per_s=12.5, batch=3)}, PLAIN)
    chosen = choose(crops, runtime=runtime, batch=2, machine=PLAIN)
    assert chosen.spec == EngineSpec(runtime="onnxruntime", batch=2)
    assert chosen.engine.batch == 2
    assert chosen.notes[-1] == "batch 2 for runtime onnxruntime: as requested"


def test_a_batch_that_means_nothing_is_said_and_does_not_travel() -> None:
    chosen = choose(load_bundle("damage-synthetic"), runtime="onnxruntime", batch=8, machine=PLAIN)
    assert chosen.spec == EngineSpec(runtime="onnxruntime")
    assert chosen.notes == (
        "batch 8, as requested, is not used: onnxruntime has a fixed length of runs for this "
        "bundle",
    )


def test_a_batch_whose_places_differ_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The law: what a crop scores never depends on its batch; said, and still the same pick."""
    bundle = load_bundle("grades-synthetic")
    monkeypatch.setattr(OnnxRuntimeEngine, "_steady", lambda self, most: 1)
    chosen = choose(bundle, runtime="onnxruntime", batch=4, machine=PLAIN)
    assert chosen.spec.batch == 4
    assert chosen.notes == (
        "batch 4 for runtime onnxruntime: as requested; runs of 1, as scores would depend on the "
        "place in a longer run",
    )


def test_of_runtimes_for_gpus_what_was_built_goes_first(bundle: Bundle) -> None:
    """Eight bits only where they were held to their loss; wider ones by how exact they are."""
    gpu = replace(PLAIN, gpu=True)
    passed = choose(bundle, machine=gpu).notes[0]
    places = [passed.index(f"{n} (") for n in ("tensorrt-int8", "tensorrt", "tensorrt-bf16")]
    assert places == sorted(places)
    assert max(places) < passed.index("torch-graphs-bf16 (")
    ungated = replace(bundle, spec=replace(bundle.spec, metrics={}))
    assert (
        "tensorrt-int8 (its model.int8.onnx loses too much" in choose(ungated, machine=gpu).notes[0]
    )


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_runtime_has_a_precision(runtime: str) -> None:
    expected = runtime.rpartition("-")[2]
    found = RUNTIMES[runtime].precision
    assert found == expected or found == {"tensorrt": "fp16"}.get(runtime, "fp32")


def test_the_plan_names_the_runtime_that_will_run(tmp_path: Path) -> None:
    crop_world(tmp_path)
    edit(tmp_path / "run.yaml", lambda content: content["execution"].update(runtime="auto"))
    plans = [make_plan(open_run(tmp_path / "run.yaml")) for _ in range(2)]
    named, again = (plan.first.engine.spec.runtime for plan in plans)
    assert named == again
    assert named in RUNTIMES
    assert any(f"runtime {named} chosen" in note for note in plans[0].notes)
    assert plans[0].first.engine.seconds_per_window > 0


def test_the_batch_that_was_picked_is_part_of_what_commits_are_known_by(tmp_path: Path) -> None:
    """Kernels differ by the length of a run, and with them the last bits of a score."""
    crop_world(tmp_path)
    bundle = load_bundle(str(tmp_path / "crops"))
    asked = {"runtime": "onnxruntime"}
    edit(tmp_path / "run.yaml", lambda content: content["execution"].update(asked))
    plain = make_plan(open_run(tmp_path / "run.yaml"))
    keep_rates(bundle, {"onnxruntime": Rate(per_s=12.5, batch=3)})
    measured = make_plan(open_run(tmp_path / "run.yaml"))
    edit(tmp_path / "run.yaml", lambda content: content["execution"].update(batch=2))
    named = make_plan(open_run(tmp_path / "run.yaml"))
    plans = (plain, measured, named)
    specs = [worker_spec(plan, str(tmp_path)) for plan in plans]
    assert [spec.jobs[0].engine.batch for spec in specs] == [0, 3, 2]
    assert any("the fastest measured here" in note for note in measured.notes)
    known = [model_identity(plan.first) for plan in plans]
    assert known[0] == f"{bundle.digest}/onnxruntime"
    assert len(set(known)) == 3
    for spec, batch in zip(specs[1:], (3, 2), strict=True):
        with Worker(spec, readers=1) as worker:
            assert [engine.batch for engine in worker.engines] == [batch]


@pytest.mark.skipif(os.path.exists("/dev/nvidia0"), reason="there is a GPU here")
@pytest.mark.parametrize("runtime", ["torch-graphs-bf16", "tensorrt", "tensorrt-int8"])
def test_a_machine_without_the_device_is_not_the_bundles_fault(
    tmp_path: Path, runtime: str
) -> None:
    pytest.importorskip("torch")
    crop_world(tmp_path)
    with pytest.raises(DeviceError):
        choose(load_bundle(str(tmp_path / "crops")), runtime=runtime)
    edit(tmp_path / "run.yaml", lambda content: content["execution"].update(runtime=runtime))
    with pytest.raises(ConfigError, match=f"execution.runtime: {runtime}: .*use ") as caught:
        make_plan(open_run(tmp_path / "run.yaml"))
    assert "export it again" not in str(caught.value)
    assert "name auto" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_plan_that_was_never_built_says_how_to_build_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    from tests.helpers.tensorrt_case import PretendedNative

    monkeypatch.setattr("quakestream.engines.tensorrt.tensorrt_native", PretendedNative)
    crop_world(tmp_path)
    with pytest.raises(NotBuiltError):
        choose(load_bundle(str(tmp_path / "crops")), runtime="tensorrt-bf16")
    asked = {"runtime": "tensorrt-bf16", "batch": 8}
    edit(tmp_path / "run.yaml", lambda content: content["execution"].update(asked))
    command = "quakestream engine build .*--runtime tensorrt --precision bf16 --batch 8`"
    with pytest.raises(ConfigError, match=command) as caught:
        make_plan(open_run(tmp_path / "run.yaml"))
    assert "export it again" not in str(caught.value)
