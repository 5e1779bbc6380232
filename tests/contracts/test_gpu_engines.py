"""The contract on a GPU, for torch and TensorRT. Skipped without one; the project's own machines
have none, so `deploy/prove_tensorrt.sh` is what runs this."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from quakestream.bundles import Bundle, load_bundle, shipped_names
from quakestream.domain import BundleSpec
from quakestream.engines import RUNTIMES, Engine, EngineSpec, choose, owner_sums
from quakestream.engines.cache import FOLDER_VARIABLE
from quakestream.engines.parity import check_golden
from quakestream.engines.tensorrt import PlanRequest, Precision, TensorRtEngine, build
from quakestream.engines.torch import TorchEngine
from quakestream.testing import CropEngineContract, EngineContract
from tests.helpers.graph_bundles import graph_bundle

HALF = ("fp16", "bf16")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
needs_tensorrt = pytest.mark.skipif(
    find_spec("tensorrt") is None, reason="TensorRT is not installed"
)


@pytest.fixture(scope="session")
def gpu_windows(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return graph_bundle(tmp_path_factory.mktemp("gpu") / "windows", "fc_siam_diff_small")


@pytest.fixture(scope="session")
def gpu_crops(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return graph_bundle(tmp_path_factory.mktemp("gpu") / "crops", "qmf_tiny")


@pytest.fixture(scope="session")
def plans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plans") / "mine"
    folder.mkdir(mode=0o700)
    return folder


def planned(bundle: Bundle, folder: Path, precision: Precision, batch: int = 4) -> TensorRtEngine:
    request = PlanRequest(precision=precision, batch=batch)
    build(bundle, folder, request=request)
    return TensorRtEngine(bundle, request=request, folder=folder)


class _Windows(EngineContract):
    bundle: Bundle
    opened: Engine

    def engine(self) -> Engine:
        return self.opened

    def spec(self) -> BundleSpec:
        return self.bundle.spec

    def test_sums_are_those_of_the_logits(self) -> None:
        """On the device in float64: at most a unit a pixel from those of the host."""
        batch, owner = self.batch(5), self.owners(5, 7)
        logits, sums = self.opened.score(batch), self.opened.sums(batch, owner)
        assert logits is not None
        assert sums is not None
        pixels_R = np.bincount(owner[owner >= 0], minlength=7)
        host = owner_sums(logits, owner, 7, self.bundle.spec)
        assert (np.abs(sums - host) <= pixels_R[:, None]).all()


class TestTorchWindows(_Windows):
    @pytest.fixture(autouse=True, params=["eager", "graphs"], scope="class")
    def _open(self, request: pytest.FixtureRequest, gpu_windows: Bundle) -> None:
        request.cls.bundle = gpu_windows
        request.cls.opened = TorchEngine(gpu_windows, precision="bf16", mode=request.param)


@needs_tensorrt
class TestTensorRtWindows(_Windows):
    @pytest.fixture(autouse=True, params=["fp32", "fp16"], scope="class")
    def _open(self, request: pytest.FixtureRequest, gpu_windows: Bundle, plans: Path) -> None:
        request.cls.bundle = gpu_windows
        request.cls.opened = planned(gpu_windows, plans, request.param)


@needs_tensorrt
class TestTensorRtCrops(CropEngineContract):
    bundle: Bundle
    opened: Engine

    @pytest.fixture(autouse=True, scope="class")
    def _open(self, request: pytest.FixtureRequest, gpu_crops: Bundle, plans: Path) -> None:
        request.cls.bundle = gpu_crops
        request.cls.opened = planned(gpu_crops, plans, "fp16", batch=8)

    def engine(self) -> Engine:
        return self.opened

    def spec(self) -> BundleSpec:
        return self.bundle.spec


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("mode", ["eager", "compile", "graphs", "aoti"])
def test_torch_gives_the_golden_logits(
    gpu_crops: Bundle, tmp_path: Path, mode: str, precision: str
) -> None:
    engine = TorchEngine(gpu_crops, precision=precision, mode=mode, folder=tmp_path / "kept")  # type: ignore[arg-type]
    check_golden(engine, gpu_crops, precision)


@needs_tensorrt
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("name", shipped_names())
def test_tensorrt_gives_the_golden_logits_of_shipped_bundles(
    name: str, precision: Precision, plans: Path
) -> None:
    bundle = load_bundle(name)
    check_golden(planned(bundle, plans, precision), bundle, precision)


@needs_tensorrt
@pytest.mark.parametrize("runtime", ["tensorrt", "tensorrt-bf16"])
def test_what_was_built_is_what_a_run_opens(
    gpu_crops: Bundle, plans: Path, runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(plans))
    for batch in (2, 4):
        build(
            gpu_crops,
            plans,
            request=PlanRequest(precision=RUNTIMES[runtime].precision, batch=batch),
        )
    assert choose(gpu_crops, runtime=runtime, batch=2).spec == EngineSpec(runtime=runtime, batch=2)
    assert f"-{RUNTIMES[runtime].precision}" in choose(gpu_crops, runtime=runtime).engine.name


@needs_tensorrt
def test_a_portable_plan_opens_too(gpu_crops: Bundle, plans: Path) -> None:
    request = PlanRequest(precision="fp16", batch=4, portable=True)
    build(gpu_crops, plans, request=request)
    assert TensorRtEngine(gpu_crops, request=request, folder=plans).batch == 4
