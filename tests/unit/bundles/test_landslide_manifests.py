"""Manifests of task `landslide`: classes without a damage scale, and a deviation beside scores."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quakestream.bundles import load_bundle, write_manifest
from quakestream.domain import BundleSpec, ScaleClass
from quakestream.engines import probabilities
from quakestream.errors import BundleError

LANDSLIDE = BundleSpec(
    name="slides",
    version="1",
    task="landslide",
    epochs=("post",),
    bands=("red", "green", "blue"),
    gsd_m=0.5,
    window_px=32,
    halo_px=4,
    dtype="uint8",
    normalisation="fixed",
    classes=(ScaleClass(index=0, label="background"), ScaleClass(index=1, label="landslide")),
    deviation=True,
)


def written(folder: Path, spec: BundleSpec) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_bytes(b"no network")
    write_manifest(folder, spec)
    return str(folder)


def test_a_landslide_bundle_needs_no_damage_scale(tmp_path: Path) -> None:
    assert load_bundle(written(tmp_path / "b", LANDSLIDE)).spec == LANDSLIDE


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (replace(LANDSLIDE, task="segmentation"), "classes without a scale mapping"),
        (replace(LANDSLIDE, epochs=("pre", "post")), "wrong epochs"),
        (replace(LANDSLIDE, classes=LANDSLIDE.classes[::-1]), "wrong classes"),
    ],
)
def test_a_manifest_that_contradicts_its_task_is_refused(
    tmp_path: Path, spec: BundleSpec, message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        load_bundle(written(tmp_path / "b", spec))


def test_the_deviation_is_no_class() -> None:
    logits_KN = np.array([[0.0, 2.0], [0.1, 0.3]], np.float32)
    p_CN = probabilities(logits_KN, LANDSLIDE)
    assert p_CN[1] == pytest.approx([0.5, 1 / (1 + np.exp(-2.0))])
    assert p_CN.sum(axis=0) == pytest.approx([1.0, 1.0])
