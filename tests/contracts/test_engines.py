"""Every runtime that is here, held against the same contract."""

from pathlib import Path

import numpy as np
import pytest

from quakestream.bundles import load_bundle, shipped_names
from quakestream.cli.bundle import PARITY, golden_difference
from quakestream.domain import BundleSpec
from quakestream.engines import Engine, open_engine
from quakestream.errors import BundleError, DigestError, EngineError
from quakestream.testing import EngineContract, write_bundle


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


@pytest.mark.parametrize("name", shipped_names())
def test_shipped_bundles_give_their_golden_logits(name: str) -> None:
    assert golden_difference(load_bundle(name), "onnxruntime") < PARITY


@pytest.mark.parametrize("name", shipped_names())
def test_shipped_bundles_hold_what_a_user_must_know(name: str) -> None:
    bundle = load_bundle(name)
    spec = bundle.spec
    assert spec.name == name
    assert spec.core_px % 16 == 0
    assert spec.metrics
    assert spec.training
    assert len(bundle.files["card.md"]) > 800
    assert sum(len(f) for f in bundle.files.values()) < 12e6
    assert 0 < spec.thresholds.high_recall <= spec.thresholds.balanced
    assert spec.thresholds.balanced <= spec.thresholds.high_precision < 1


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    (folder / "model.onnx").write_bytes(b"another network")
    with pytest.raises(DigestError, match=r"model\.onnx has sha256"):
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
