"""Every runtime that is here, held against the same contract."""

import inspect
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from quakestream.bundles import load_bundle, shipped_names, write_manifest
from quakestream.cli.bundle import PARITY, golden_difference
from quakestream.domain import BundleSpec
from quakestream.engines import RUNTIMES, Batch, Engine, Runtime, open_engine
from quakestream.errors import BundleError, DigestError, EngineError
from quakestream.testing import (
    CropEngineContract,
    EngineContract,
    write_building_bundle,
    write_bundle,
    write_hazard_bundle,
)
from quakestream.testing.bundles import expected_logits


class TestUniform(EngineContract):
    @pytest.fixture(autouse=True)
    def _bundle(self, tmp_path: Path) -> None:
        self.bundle = load_bundle(str(write_bundle(tmp_path / "bundle")))

    def engine(self) -> Engine:
        return open_engine(self.bundle, runtime="uniform")

    def spec(self) -> BundleSpec:
        return self.bundle.spec


class TestThreshold(TestUniform):
    def engine(self) -> Engine:
        return open_engine(self.bundle, runtime="threshold")


class TestThresholdPostOnly(TestThreshold):
    @pytest.fixture(autouse=True)
    def _bundle(self, tmp_path: Path) -> None:
        self.bundle = load_bundle(str(write_bundle(tmp_path / "bundle", epochs=("post",))))


class TestOnnxRuntime(EngineContract):
    """On the smaller shipped bundle: a real graph."""

    bundle = load_bundle("damage-synthetic")

    def engine(self) -> Engine:
        return open_engine(self.bundle, runtime="onnxruntime", threads=2)

    def spec(self) -> BundleSpec:
        return self.bundle.spec


class TestOpenVino(EngineContract):
    """Held to the bit, and to what ONNX Runtime gives."""

    runtime, allowed = "openvino", 1e-4

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _bundle(cls) -> None:
        pytest.importorskip("openvino")
        cls.bundle = load_bundle("damage-synthetic")
        try:
            cls.opened = open_engine(cls.bundle, runtime=cls.runtime, threads=2)
        except EngineError as error:  # a CPU without the precision
            pytest.skip(str(error))

    def engine(self) -> Engine:
        return self.opened

    def spec(self) -> BundleSpec:
        return self.bundle.spec

    def test_any_number_of_threads_gives_the_same_bits(self) -> None:
        batch, owner = self.batch(3), self.owners(3, 7)
        one = open_engine(self.bundle, runtime=self.runtime, threads=1)
        assert np.array_equal(self.logits(batch), one.score(batch))
        assert np.array_equal(self.engine().sums(batch, owner), one.sums(batch, owner))

    def test_it_is_the_model_that_onnx_runtime_runs(self) -> None:
        assert golden_difference(self.bundle, self.runtime) < self.allowed

    def test_read_only_pixels_are_scored(self) -> None:
        batch = self.batch(1)
        expected = self.logits(batch)
        for array in (*batch.images.values(), *batch.statistics.values()):
            array.setflags(write=False)  # as they come out of an object store
        assert np.array_equal(self.logits(batch), expected)


class TestOpenVinoBf16(TestOpenVino):
    runtime, allowed = "openvino-bf16", 0.2


class TestOpenVinoInt8(TestOpenVino):
    runtime, allowed = "openvino-int8", 1.0


class TestCropsOnOnnxRuntime(CropEngineContract):
    """On a small real graph that takes both epochs and hazard values."""

    runtime = "onnxruntime"

    @pytest.fixture(autouse=True)
    def _bundle(self, tmp_path: Path) -> None:
        folder = write_building_bundle(tmp_path / "bundle", hazard=("mmi", "dpm"))
        self.bundle = load_bundle(str(folder))
        self.opened: Engine | None = None

    def engine(self) -> Engine:
        self.opened = self.opened or open_engine(self.bundle, runtime=self.runtime, threads=2)
        return self.opened

    def spec(self) -> BundleSpec:
        return self.bundle.spec


class TestCropsInRunsOfThree(TestCropsOnOnnxRuntime):
    """A batch that was asked for: runs of three, or one by one where scores would differ."""

    def engine(self) -> Engine:
        if self.opened is None:
            self.opened = open_engine(self.bundle, runtime=self.runtime, threads=2, batch=3)
            assert self.opened.batch in (1, 3)
        return self.opened


class TestCropsInRunsOfThreeOpenVino(TestCropsInRunsOfThree):
    runtime = "openvino"

    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("openvino")


class TestCropsPostOnly(TestCropsOnOnnxRuntime):
    @pytest.fixture(autouse=True)
    def _bundle(self, tmp_path: Path) -> None:
        folder = write_building_bundle(tmp_path / "bundle", epochs=("post",), window_px=130)
        self.bundle = load_bundle(str(folder))
        self.opened: Engine | None = None


class TestCropsThreshold(TestCropsOnOnnxRuntime):
    runtime = "threshold"


class TestCropsOpenVino(TestCropsOnOnnxRuntime):
    runtime = "openvino"


class TestGradesOnOnnxRuntime(CropEngineContract):
    """On the shipped bundle that grades buildings."""

    runtime, allowed = "onnxruntime", 1e-5

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _bundle(cls) -> None:
        pytest.importorskip(cls.runtime.split("-")[0])
        cls.bundle = load_bundle("grades-synthetic")
        try:
            cls.opened = open_engine(cls.bundle, runtime=cls.runtime, threads=2)
        except EngineError as error:  # a CPU without the precision
            pytest.skip(str(error))

    def engine(self) -> Engine:
        return self.opened

    def spec(self) -> BundleSpec:
        return self.bundle.spec

    def test_it_is_the_model_that_was_exported(self) -> None:
        assert golden_difference(self.bundle, self.runtime) < self.allowed


class TestGradesOnOpenVino(TestGradesOnOnnxRuntime):
    runtime = "openvino"


class TestGradesOnOpenVinoBf16(TestGradesOnOnnxRuntime):
    runtime, allowed = "openvino-bf16", 0.1


class TestCropsUniform(TestCropsOnOnnxRuntime):
    runtime = "uniform"


@pytest.mark.parametrize("runtime", RUNTIMES.values(), ids=list(RUNTIMES))
def test_every_runtime_is_opened_alike(runtime: Runtime) -> None:
    """The name states what differs; an opener takes a bundle, threads and a batch."""
    open_to_callers = [
        name
        for name, parameter in inspect.signature(runtime.opener).parameters.items()
        if parameter.default is inspect.Parameter.empty
    ]
    assert open_to_callers == ["bundle", "threads", "batch"]
    assert runtime.is_model == (runtime.package != "quakestream")
    assert not runtime.prebuilt or runtime.on_gpu


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_windows_and_rows_leave_no_choice_of_a_batch(tmp_path: Path, runtime: str) -> None:
    """Their runs have one length whatever is asked for: kept figures must not say another."""
    pytest.importorskip(runtime)
    rows = load_bundle(str(write_hazard_bundle(tmp_path / "rows", hazard=("mmi",))))
    for bundle in (load_bundle("damage-synthetic"), rows):
        plain, asked = (open_engine(bundle, runtime=runtime, batch=n) for n in (0, 5))
        assert plain.batch == asked.batch == 0


def test_the_first_windows_of_a_process_may_come_from_many_threads() -> None:
    """The first use of OpenVINO's bindings is not safe between threads: a process hung now and
    then, for ever."""
    pytest.importorskip("openvino")
    code = (
        "from quakestream.bundles import load_bundle\n"
        "from quakestream.engines import open_engine\n"
        "from quakestream.engines.shapes import noise\n"
        "bundle = load_bundle('damage-synthetic')\n"
        "engine = open_engine(bundle, runtime='openvino-int8', threads=8)\n"
        "engine.score(noise(bundle.spec, 8))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_rows_of_hazard_values_score_the_same_anywhere(tmp_path: Path) -> None:
    bundle = load_bundle(str(write_hazard_bundle(tmp_path / "bundle", hazard=("mmi", "pga_g"))))
    engine = open_engine(bundle, threads=1)
    rng = np.random.default_rng(0)
    hazard_NM = rng.normal((7.0, 0.3), (1.5, 0.2), (2500, 2)).astype(np.float32)
    hazard_NM[rng.random(hazard_NM.shape) < 0.2] = np.nan
    logits = engine.score(Batch(hazard_NM=hazard_NM))
    assert logits is not None
    assert logits.shape == (2500, 2)
    expected = expected_logits(bundle.spec, {"hazard": hazard_NM})
    assert np.allclose(logits, expected, atol=1e-5)
    order = rng.permutation(len(hazard_NM))
    shuffled = engine.score(Batch(hazard_NM=hazard_NM[order]))
    assert shuffled is not None
    assert np.array_equal(shuffled, logits[order])


def test_a_graph_of_another_task_is_refused_in_one_line(tmp_path: Path) -> None:
    folder = write_building_bundle(tmp_path / "bundle", epochs=("post",))
    spec = load_bundle(str(folder)).spec
    write_manifest(folder, replace(spec, task="segmentation"))
    bundle = load_bundle(str(folder))
    with pytest.raises(EngineError, match=r"wrong shape: .* task segmentation, got \(1, 2\)"):
        open_engine(bundle).score(Batch.of(bundle.golden, bundle.spec))


@pytest.mark.parametrize(
    "wrong",
    [
        ({"halo_px": 8}, "a crop has no halo"),
        ({"window_px": 0}, "wrong sizes: expected window_px above 0"),
        ({"epochs": ("pre",)}, "expected post, or pre and post, got pre"),
        ({"hazard_groups": (1,)}, r"wrong hazard_groups: .*got \(1,\) for 2 values"),
        ({"prior": (0.5, 0.2, 0.3)}, "expected one share for each of 2 classes"),
        ({"task": "hazard"}, "takes no imagery: expected no epochs, got pre, post"),
        ({"task": "segmentation"}, "takes no hazard values"),
        ({"task": "bulding"}, "expected one of segmentation, building"),
    ],
    ids=str,
)
def test_a_manifest_that_contradicts_its_task_is_refused(
    tmp_path: Path, wrong: tuple[dict[str, Any], str]
) -> None:
    folder = write_building_bundle(tmp_path / "bundle", hazard=("mmi", "dpm"))
    write_manifest(folder, replace(load_bundle(str(folder)).spec, **wrong[0]))
    with pytest.raises(BundleError, match=wrong[1]) as caught:
        load_bundle(str(folder))
    assert "\n" not in str(caught.value)


def test_a_prior_and_groups_come_back_and_may_be_left_out(tmp_path: Path) -> None:
    folder = write_hazard_bundle(tmp_path / "bundle", hazard=("mmi", "pga_g", "dpm"))
    spec = replace(load_bundle(str(folder)).spec, hazard_groups=(2, 1))
    write_manifest(folder, spec)
    assert load_bundle(str(folder)).spec == spec
    manifest = folder / "bundle.json"
    raw = json.loads(manifest.read_text())
    raw = {k: v for k, v in raw.items() if k not in ("prior", "hazard_groups")}
    manifest.write_text(json.dumps(raw))
    assert load_bundle(str(folder)).spec == replace(spec, prior=(), hazard_groups=())


@pytest.mark.parametrize("name", shipped_names())
def test_shipped_bundles_give_their_golden_logits(name: str) -> None:
    assert golden_difference(load_bundle(name), "onnxruntime") < PARITY


@pytest.mark.parametrize("name", [n for n in shipped_names() if n.startswith("landslide")])
def test_landslide_bundles_say_the_same_on_openvino(name: str) -> None:
    """Probability and deviation both; in eight bits, about the same probability."""
    pytest.importorskip("openvino")
    bundle = load_bundle(name)
    assert golden_difference(bundle, "openvino") < PARITY
    if bundle.file("model.int8.onnx") is None:
        return
    logits = open_engine(bundle, runtime="openvino-int8").score(
        Batch.of(bundle.golden, bundle.spec)
    )
    assert logits is not None
    apart = np.abs(expit(logits[:, 0]) - expit(bundle.golden["logits"][:, 0]))
    assert apart.mean() < 0.02
    assert np.abs(logits[:, 1] - bundle.golden["logits"][:, 1]).mean() < 0.02


@pytest.mark.parametrize("name", shipped_names())
def test_shipped_bundles_hold_what_a_user_must_know(name: str) -> None:
    bundle = load_bundle(name)
    spec = bundle.spec
    assert spec.name == name
    assert spec.core_px % 16 == 0  # 0 for a bundle without imagery
    assert spec.metrics
    assert spec.training
    assert len(bundle.files["card.md"]) > 800
    assert sum(len(f) for f in bundle.files.values()) < 12e6
    assert 0 < spec.thresholds.high_recall <= spec.thresholds.balanced
    assert spec.thresholds.balanced <= spec.thresholds.high_precision < 1


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    (folder / "model.onnx").write_bytes(b"another network")
    with pytest.raises(DigestError, match=r"model\.onnx differs from the manifest"):
        load_bundle(str(folder))


def test_an_unknown_bundle_names_those_there_are() -> None:
    with pytest.raises(BundleError, match="damage-synthetic"):
        load_bundle("damage-sythetic")


def test_an_unknown_runtime_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="onnxruntime"):
        open_engine(load_bundle(str(write_bundle(tmp_path / "b"))), runtime="tensorflow")


def test_a_zip_is_a_bundle_too(tmp_path: Path) -> None:
    import shutil

    folder = write_bundle(tmp_path / "bundle")
    zipped = shutil.make_archive(str(tmp_path / "zipped"), "zip", folder)
    assert load_bundle(zipped).digest == load_bundle(str(folder)).digest
    assert np.array_equal(
        load_bundle(zipped).golden["post"], load_bundle(str(folder)).golden["post"]
    )
