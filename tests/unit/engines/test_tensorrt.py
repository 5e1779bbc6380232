"""Everything of the TensorRT engine but TensorRT: plans, buffers, batches, sums, refusals."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from quakestream.bundles import Bundle, load_bundle
from quakestream.domain import BundleSpec
from quakestream.engines import Engine, EngineSpec, choose, open_engine, owner_sums
from quakestream.engines.cache import FOLDER_VARIABLE, EngineCache, engine_folder
from quakestream.engines.choice import Machine, Rate, keep_rates
from quakestream.engines.onnx_half import bfloat16_bits, prepared
from quakestream.engines.shapes import noise
from quakestream.engines.tensorrt import (
    BUILD_VARIABLE,
    SUFFIX,
    PlanRequest,
    Precision,
    TensorRtEngine,
    build,
    built_plans,
    plan_facts,
    with_batch,
)
from quakestream.errors import DeviceError, EngineError, NotBuiltError
from quakestream.testing import CropEngineContract, EngineContract, write_building_bundle
from tests.helpers.graph_bundles import graph_bundle
from tests.helpers.tensorrt_case import GPU, PretendedNative


@pytest.fixture(scope="session")
def windows(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("plans-of") / "windows"
    return graph_bundle(folder, "fc_siam_diff_small", pt2=False)


@pytest.fixture(scope="session")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("plans-of") / "crops"
    return load_bundle(str(write_building_bundle(folder, hazard=("mmi", "dpm"))))


def opened(
    bundle: Bundle, folder: Path, native: PretendedNative | None = None, **request: object
) -> TensorRtEngine:
    """Built and opened."""
    native = native or PretendedNative()
    asked = PlanRequest(**{"precision": "fp32", "batch": 4, **request})  # type: ignore[arg-type]
    build(bundle, folder, request=asked, native=native)
    return TensorRtEngine(bundle, request=asked, folder=folder, native=native)


class TestWindows(EngineContract):
    @pytest.fixture(autouse=True)
    def _open(self, windows: Bundle, tmp_path: Path) -> None:
        self.bundle = windows
        self.opened = opened(windows, tmp_path / "plans")

    def engine(self) -> Engine:
        return self.opened

    def spec(self) -> BundleSpec:
        return self.bundle.spec

    def test_sums_are_those_of_the_logits(self) -> None:
        """On the device in float64: at most a unit a pixel from those of the host."""
        batch, owner = self.batch(7), self.owners(7, 9)
        logits = self.opened.score(batch)
        sums = self.opened.sums(batch, owner)
        assert logits is not None
        assert sums is not None
        pixels_R = np.bincount(owner[owner >= 0], minlength=9)
        host = owner_sums(logits, owner, 9, self.bundle.spec)
        assert (np.abs(sums - host) <= pixels_R[:, None]).all()
        parts = [self.opened.sums(batch.part(n, n + 1), owner[n : n + 1]) for n in range(7)]
        added = np.zeros_like(sums)
        for part in parts:
            assert part is not None
            added[: len(part)] += part
        assert np.array_equal(added, sums)  # among themselves they add up exactly


class TestCrops(CropEngineContract):
    @pytest.fixture(autouse=True)
    def _open(self, crops: Bundle, tmp_path: Path) -> None:
        self.bundle = crops
        self.opened = opened(crops, tmp_path / "plans", batch=8)

    def engine(self) -> Engine:
        return self.opened

    def spec(self) -> BundleSpec:
        return self.bundle.spec


def test_windows_that_nobody_owns_are_not_run(windows: Bundle, tmp_path: Path) -> None:
    native = PretendedNative()
    engine = opened(windows, tmp_path, native)
    owner = np.full((9, 16, 16), -1, np.int32)
    owner[[0, 5, 8], 3, 3] = [0, 1, 2]
    before = native.loaded[-1].runs
    sums = engine.sums(noise(windows.spec, 9), owner)
    assert native.loaded[-1].runs == before + 1  # three windows are one run of four
    assert sums is not None
    assert (sums.sum(axis=1) > 65000).all()


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_the_graph_says_in_which_precision_it_runs(
    windows: Bundle, tmp_path: Path, precision: Precision
) -> None:
    native = PretendedNative()
    build(windows, tmp_path, request=PlanRequest(precision=precision), native=native)
    graph = onnx.load_from_string(native.orders[0].graph).graph
    kind = {"fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}[precision]
    weights = {i.name: i.data_type for i in graph.initializer}
    for node in graph.node:
        if node.op_type in ("Conv", "ConvTranspose"):
            assert all(weights[name] == kind for name in node.input[1:])
    assert [v.type.tensor_type.elem_type for v in graph.output] == [onnx.TensorProto.FLOAT]
    assert {v.type.tensor_type.elem_type for v in graph.input} == {
        onnx.TensorProto.UINT8,
        onnx.TensorProto.FLOAT,
    }


def test_fp16_passes_the_golden_batch(windows: Bundle, tmp_path: Path) -> None:
    engine = opened(windows, tmp_path, precision="fp16")
    assert engine.name == "tensorrt-11.4.0.106-Pretended_GPU-fp16"


def test_shapes_are_fixed_by_the_plan(windows: Bundle, tmp_path: Path) -> None:
    native = PretendedNative()
    build(windows, tmp_path, native=native)
    shapes = native.orders[0].shapes
    assert shapes["pre"] == (128, 3, 32, 32)
    assert shapes["post_std_NB"] == (128, 3)
    assert with_batch(PlanRequest(), replace_window(windows, 512)).batch == 32


def replace_window(bundle: Bundle, side: int) -> Bundle:
    return replace(bundle, spec=replace(bundle.spec, window_px=side))


def test_what_was_learned_of_kernels_is_given_to_the_next_build(
    windows: Bundle, crops: Bundle, tmp_path: Path
) -> None:
    native = PretendedNative()
    for bundle in (windows, crops):
        build(bundle, tmp_path, request=PlanRequest(precision="fp32"), native=native)
    assert [order.timing for order in native.orders] == [b"", b"learned\n"]
    other = replace_gpu(native, driver="591.0")
    build(windows, tmp_path, native=other)
    assert other.orders[0].timing == b""


def replace_gpu(native: PretendedNative, **change: str) -> PretendedNative:
    return PretendedNative(version=native.version, here=replace(GPU, **change))


@pytest.mark.parametrize(
    "change",
    [
        {"native": PretendedNative(version="11.5.0.1")},
        {"native": PretendedNative(here=replace(GPU, driver="600.0"))},
        {"native": PretendedNative(here=replace(GPU, name="Another GPU"))},
        {"native": PretendedNative(here=replace(GPU, capability="8.6"))},
        {"request": PlanRequest(precision="fp32", batch=2)},
        {"request": PlanRequest(precision="fp16", batch=4)},
        {"request": PlanRequest(precision="fp32", batch=4, portable=True)},
    ],
    ids=["version", "driver", "name", "capability", "batch", "precision", "portable"],
)
def test_a_plan_for_anything_else_is_not_found(
    crops: Bundle, tmp_path: Path, change: dict[str, object]
) -> None:
    opened(crops, tmp_path)
    asked = {
        "request": PlanRequest(precision="fp32", batch=4),
        "native": PretendedNative(),
        **change,
    }
    with pytest.raises(
        EngineError, match=r"no plan for .*; build it once with `quakestream engine"
    ):
        TensorRtEngine(crops, folder=tmp_path, **asked)  # type: ignore[arg-type]


def test_a_portable_plan_opens_on_another_gpu_and_version(crops: Bundle, tmp_path: Path) -> None:
    request = PlanRequest(precision="fp32", batch=4, portable=True)
    native = PretendedNative()
    build(crops, tmp_path, request=request, native=native)
    assert native.orders[0].portable
    elsewhere = PretendedNative(version="11.9.0.0", here=replace(GPU, name="A40", driver="1"))
    assert TensorRtEngine(crops, request=request, folder=tmp_path, native=elsewhere).batch == 4
    with pytest.raises(EngineError, match="no plan for"):
        TensorRtEngine(
            crops, request=request, folder=tmp_path, native=PretendedNative(version="12.0.0.0")
        )


def test_another_bundle_has_another_plan(windows: Bundle, crops: Bundle) -> None:
    request = PlanRequest(batch=4)
    facts = [plan_facts(b, request, "11.4.0.106", GPU) for b in (windows, crops)]
    assert facts[0] != facts[1]


def test_a_plan_that_was_changed_is_never_opened(crops: Bundle, tmp_path: Path) -> None:
    native, request = PretendedNative(), PlanRequest(precision="fp32", batch=4)
    path = build(crops, tmp_path, request=request, native=native)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(EngineError, match=r"does not match its record: expected sha256 .*, got "):
        TensorRtEngine(crops, request=request, folder=tmp_path, native=native)
    assert native.loaded == []


def test_a_plan_put_there_by_another_is_never_opened(crops: Bundle, tmp_path: Path) -> None:
    """A file without our record, or with a record of other facts, is no plan of ours."""
    native, request = PretendedNative(), PlanRequest(precision="fp32", batch=4)
    folder = tmp_path / "mine"
    path = build(crops, folder, request=request, native=native)
    record = path.with_suffix(".json")
    kept = record.read_text()
    record.unlink()
    with pytest.raises(EngineError, match="no plan for"):
        TensorRtEngine(crops, request=request, folder=folder, native=native)
    swapped = json.loads(kept)
    swapped["facts"]["bundle"] = "another"
    record.write_text(json.dumps(swapped))
    with pytest.raises(EngineError, match="delete it and build it again"):
        TensorRtEngine(crops, request=request, folder=folder, native=native)
    assert native.loaded == []


def test_a_folder_that_others_may_write_is_refused(crops: Bundle, tmp_path: Path) -> None:
    native, folder = PretendedNative(), tmp_path / "shared"
    path = build(crops, folder, native=native)
    folder.chmod(0o777)
    with pytest.raises(EngineError, match="other users may write here"):
        TensorRtEngine(crops, folder=folder, native=native)
    with pytest.raises(EngineError, match="other users may write here"):
        build(crops, folder, native=native)
    assert path.exists()


def test_plans_lie_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert engine_folder() == tmp_path / "quakestream" / "engines"
    kept = EngineCache(folder=engine_folder())
    path = kept.keep({"kind": "x", "a": "1"}, b"code")
    assert kept.get({"a": "1", "kind": "x"}) == b"code"
    assert kept.get({"kind": "x", "a": "2"}) is None
    assert (path.parent.stat().st_mode & 0o777) == 0o700
    assert json.loads(path.with_suffix(".json").read_text())["sha256"] == (
        hashlib.sha256(b"code").hexdigest()
    )
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "mine"))
    assert engine_folder() == tmp_path / "mine"


@pytest.fixture
def native(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PretendedNative:
    """TensorRT as `open_engine` and the commands find it, with a cache of its own."""
    native = PretendedNative()
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "engines"))
    monkeypatch.setattr("quakestream.engines.tensorrt.tensorrt_native", lambda: native)
    return native


def test_the_name_of_a_runtime_says_which_of_several_plans_it_opens(
    crops: Bundle, native: PretendedNative
) -> None:
    for precision in ("fp32", "fp16"):
        build(crops, request=PlanRequest(precision=precision, batch=4))
    assert open_engine(crops, runtime="tensorrt").name.endswith("-fp16")
    with pytest.raises(NotBuiltError, match=r"no plan for .*, got fp\d+ batch 4, fp\d+ batch 4"):
        open_engine(crops, runtime="tensorrt-bf16")


def test_the_batch_is_that_of_what_was_built(crops: Bundle, native: PretendedNative) -> None:
    for batch in (2, 6, 4):
        build(crops, request=PlanRequest(batch=batch))
    assert open_engine(crops, runtime="tensorrt").batch == 6
    assert open_engine(crops, runtime="tensorrt", batch=2).batch == 2
    with pytest.raises(
        NotBuiltError, match=r"expected fp16 batch 3, .*--precision fp16 --batch 3`"
    ):
        open_engine(crops, runtime="tensorrt", batch=3)


def test_a_portable_plan_is_opened_where_there_is_none_for_this_gpu(
    crops: Bundle, native: PretendedNative
) -> None:
    build(crops, request=PlanRequest(batch=4, portable=True))
    assert open_engine(crops, runtime="tensorrt").batch == 4
    kept = EngineCache(folder=engine_folder(), suffix=SUFFIX)
    build(crops, request=PlanRequest(batch=4))
    found = built_plans(crops, kept, native.version, GPU)
    assert sorted(w.portable for w in found) == [False, True]
    facts = plan_facts(crops, PlanRequest(batch=4, portable=True), native.version, GPU)
    kept.path(facts).write_bytes(b"not what was written")  # an error, if it were opened
    assert open_engine(crops, runtime="tensorrt").batch == 4


def test_what_was_built_for_anything_else_is_not_a_candidate(
    crops: Bundle, windows: Bundle, native: PretendedNative
) -> None:
    build(windows, request=PlanRequest(batch=2))
    build(crops, request=PlanRequest(batch=2), native=replace_gpu(native, driver="591.0"))
    kept = EngineCache(folder=engine_folder(), suffix=SUFFIX)
    (kept.folder / "tensorrt-torn.json").write_text('{"facts": ')
    (kept.folder / "tensorrt-torn.plan").write_bytes(b"")
    assert built_plans(crops, kept, native.version, GPU) == []
    assert built_plans(windows, kept, native.version, GPU) == [PlanRequest(batch=2)]


def test_the_batch_of_a_plan_travels_with_the_choice(
    crops: Bundle, native: PretendedNative
) -> None:
    """A plan that is built later must not change how a run that is resumed scores."""
    build(crops, request=PlanRequest(batch=4))
    chosen = choose(crops, runtime="tensorrt")
    assert chosen.spec == EngineSpec(runtime="tensorrt", batch=4)
    assert chosen.notes == ("batch 4 for runtime tensorrt: of the plan that was built",)


def test_a_batch_that_was_measured_and_is_gone_stops_nothing(
    crops: Bundle, native: PretendedNative
) -> None:
    build(crops, request=PlanRequest(batch=4))
    keep_rates(crops, {"tensorrt": Rate(per_s=99.0, batch=8)})
    assert choose(crops, runtime="tensorrt").spec.batch == 4
    build(crops, request=PlanRequest(batch=8))
    assert choose(crops, runtime="tensorrt").spec.batch == 8
    with pytest.raises(NotBuiltError):
        choose(crops, runtime="tensorrt", batch=2)


def test_auto_takes_eight_bits_only_where_they_were_held_to_their_loss(
    native: PretendedNative,
) -> None:
    bundle = load_bundle("damage-synthetic")
    gpu = Machine(cpu_flags=frozenset(), gpu=True, cores=2)
    build(bundle, request=PlanRequest(precision="int8", batch=1))
    assert choose(bundle, machine=gpu).spec == EngineSpec(runtime="tensorrt-int8", batch=1)
    figures = {**bundle.spec.metrics["int8"], "drop": 0.006}
    lossy = replace(bundle, spec=replace(bundle.spec, metrics={"int8": figures}))
    chosen = choose(lossy, machine=gpu)
    assert chosen.runtime != "tensorrt-int8"
    assert (
        "tensorrt-int8 (its model.int8.onnx loses too much or was not compared with float32)"
        in chosen.notes[0]
    )


def test_a_run_builds_only_if_asked(
    crops: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    native, request = PretendedNative(), PlanRequest(precision="fp32", batch=4)
    monkeypatch.delenv(BUILD_VARIABLE, raising=False)
    with pytest.raises(EngineError, match="no plan for"):
        TensorRtEngine(crops, request=request, folder=tmp_path, native=native)
    assert native.orders == []
    monkeypatch.setenv(BUILD_VARIABLE, "1")
    TensorRtEngine(crops, request=request, folder=tmp_path, native=native)
    assert len(native.orders) == 1


def test_a_plan_that_is_another_model_is_refused(crops: Bundle, tmp_path: Path) -> None:
    native, request = PretendedNative(), PlanRequest(precision="fp32", batch=4)
    build(crops, tmp_path, request=request, native=native)
    other = replace(crops)
    shifted = crops.golden["logits"] + np.float32([0.0, 0.4])
    other.__dict__["golden"] = {**crops.golden, "logits": shifted}
    with pytest.raises(EngineError, match="is not the same model as its reference"):
        TensorRtEngine(other, request=request, folder=tmp_path, native=native)


def test_a_plan_whose_places_differ_is_refused(crops: Bundle, tmp_path: Path) -> None:
    native = PretendedNative(tilt=2.0**-18)
    with pytest.raises(
        EngineError, match="differently in another place of a batch of 4; use runtime"
    ):
        opened(crops, tmp_path, native)
    assert opened(crops, tmp_path, native, batch=1).batch == 1


def test_a_graph_tensorrt_does_not_take_is_refused_before_it_is_built(
    crops: Bundle, tmp_path: Path
) -> None:
    bad = replace(crops, files={**crops.files, "model.onnx": odd_graph()})
    native = PretendedNative()
    with pytest.raises(
        EngineError, match=r"does not support the graph \(operator Det is not supported"
    ):
        build(bad, tmp_path, request=PlanRequest(precision="fp32"), native=native)
    assert native.orders == []


def odd_graph() -> bytes:
    """A graph with an operator that is not on the list."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Det", ["x"], ["logits"])],
        "odd",
        [helper.make_tensor_value_info("x", kind, ["N", 2, 2])],
        [helper.make_tensor_value_info("logits", kind, ["N"])],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10
    ).SerializeToString()


def test_bfloat16_is_rounded_as_torch_rounds() -> None:
    rng = np.random.default_rng(0)
    values = (rng.normal(size=5000) * 10.0 ** rng.integers(-30, 30, 5000)).astype(np.float32)
    ties = np.float32([1.00390625, 1.01171875, -1.00390625, 0.0])
    values = np.concatenate([values, ties])
    theirs = torch.from_numpy(values).bfloat16().view(torch.int16).numpy().view(np.uint16)
    assert np.array_equal(bfloat16_bits(values), theirs)


def test_int8_needs_the_quantised_graph(crops: Bundle, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"has no model\.int8\.onnx"):
        build(crops, tmp_path, request=PlanRequest(precision="int8"), native=PretendedNative())


def test_int8_runs_from_the_quantised_graph(tmp_path: Path) -> None:
    bundle = load_bundle("damage-synthetic")
    native = PretendedNative()
    engine = opened(bundle, tmp_path, native, precision="int8", batch=1)
    assert engine.name.endswith("-int8")
    nodes = onnx.load_from_string(native.orders[0].graph).graph.node
    assert {"QuantizeLinear", "DequantizeLinear"} <= {n.op_type for n in nodes}


def test_a_weight_too_large_for_fp16_is_refused(crops: Bundle) -> None:
    model = onnx.load_from_string(crops.graph)
    for initializer in model.graph.initializer:
        if initializer.name == "signs":
            values = onnx.numpy_helper.to_array(initializer) * np.float32(1e6)
            initializer.CopyFrom(onnx.numpy_helper.from_array(values, "signs"))
    with pytest.raises(
        EngineError, match=r"signs: weight is too large for fp16: .*got 1e\+06; use bf16"
    ):
        prepared(model.SerializeToString(), "fp16")
    prepared(model.SerializeToString(), "bf16")


def test_without_a_gpu_nothing_native_is_touched(crops: Bundle, tmp_path: Path) -> None:
    native = PretendedNative(here=None)
    for act in (
        lambda: build(crops, tmp_path, native=native),
        lambda: TensorRtEngine(crops, folder=tmp_path, native=native),
    ):
        with pytest.raises(DeviceError, match="has no CUDA device"):
            act()
    assert native.orders == native.loaded == []


@pytest.mark.skipif(os.path.exists("/dev/nvidia0"), reason="there is a GPU here")
def test_the_runtime_is_refused_in_one_line_where_there_is_no_gpu(crops: Bundle) -> None:
    with pytest.raises(
        DeviceError, match="no CUDA device, and runtime tensorrt needs one"
    ) as caught:
        open_engine(crops, runtime="tensorrt")
    assert "\n" not in str(caught.value)
