"""Pixel models for windows of another size: the same answers, or a refusal."""

from pathlib import Path

import numpy as np
import pytest

from quakestream.bundles import load_bundle
from quakestream.engines import Batch, open_engine
from training.rewindow import Windows, main, rewindow, tiling_difference


@pytest.mark.parametrize("name", ["damage-turkiye-2023", "damage-synthetic"])
def test_shipped_windows_say_what_the_untiled_image_says(name: str) -> None:
    bundle = load_bundle(name)
    spec = bundle.spec
    windows = Windows(window_px=spec.window_px, halo_px=spec.halo_px, gsd_m=spec.gsd_m)
    assert tiling_difference(bundle, windows) < 1e-5


def test_a_narrower_halo_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = [
        "damage-turkiye-2023",
        "--window-px",
        "256",
        "--halo-px",
        "8",
        "-o",
        str(tmp_path / "b"),
    ]
    assert main(told) == 2
    assert "differ from the untiled image" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_a_core_the_strides_do_not_divide_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["damage-synthetic", "--window-px", "250", "--halo-px", "16", "-o", "x"]) == 2
    assert "does not take" in capsys.readouterr().err


def test_another_size_and_gsd_is_the_same_network(tmp_path: Path) -> None:
    source = load_bundle("damage-turkiye-2023")
    spec = rewindow(source, tmp_path / "fine", Windows(window_px=256, halo_px=32, gsd_m=0.3))
    made = load_bundle(str(tmp_path / "fine"))
    assert (made.spec, made.spec.gsd_m, made.spec.name) == (spec, 0.3, "fine")
    assert made.spec.temperature == source.spec.temperature
    assert made.spec.metrics["int8"]["auc"] == source.spec.metrics["int8"]["auc"]
    eight = open_engine(made, runtime="openvino-int8")  # refused if it were of another model
    assert eight.name.endswith("int8")
    golden = source.golden
    corner = {n: a[..., :256, :256] if a.ndim == 4 else a for n, a in golden.items()}
    logits = open_engine(made, runtime="onnxruntime").score(Batch.of(corner, made.spec))
    assert logits is not None
    inside = slice(0, 256 - 32)
    np.testing.assert_allclose(
        logits[..., inside, inside], golden["logits"][..., inside, inside], atol=1e-4
    )


def test_models_of_crops_have_no_windows(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["grades-synthetic", "-o", "never"]) == 2
    assert "building" in capsys.readouterr().err
