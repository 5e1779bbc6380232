"""The graph of an adapted bundle: the old model on the same pixels, the backbone, then the head."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from scipy.special import expit, logit

from quakestream.bundles import load_bundle, shipped_names
from quakestream.domain import BundleSpec
from quakestream.engines.shapes import noise
from quakestream.testing.bundles import write_building_bundle
from training.adapt.backbone import backbone_features
from training.adapt.graph import CROP_PX, SCENE_MEAN, SCENE_STD, CropGraph, can_fold
from training.adapt.head import Head
from training.graphs import example_images


def inputs_of(graph: CropGraph) -> dict[str, np.ndarray]:
    spec = BundleSpec(
        name="x",
        version="1",
        task="building",
        epochs=graph.epochs,
        bands=("red", "green", "blue"),
        window_px=graph.crop_px,
        dtype="uint8",
        normalisation="per_scene",
    )
    return noise(spec, 2).inputs(0, 2)


def run(model: bytes, inputs: dict[str, np.ndarray]) -> np.ndarray:
    return ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, inputs)[0]


def test_the_first_features_are_the_old_model_and_the_others_the_backbone() -> None:
    old = load_bundle("damage-synthetic")
    graph = CropGraph(epochs=("pre", "post"), old=old)
    inputs = example_images(graph.epochs, CROP_PX, 1, np.random.default_rng(0))
    feature_D = run(graph.features_model(), inputs)[0]
    assert len(feature_D) == graph.features
    # The window of the old model around the same crop: its middle sees no padding.
    wide = {n: np.zeros((1, 3, 512, 512), np.uint8) for n in graph.epochs}
    for epoch in graph.epochs:
        wide[epoch][:, :, 208:304, 208:304] = inputs[epoch]
    logits_YX = run(old.graph, inputs | wide)[0, 0, 208:304, 208:304]
    p_YX = expit(logits_YX / old.spec.temperature)
    for place, side in enumerate((16, 32, 64)):
        part = slice((CROP_PX - side) // 2, (CROP_PX + side) // 2)
        assert feature_D[place] == pytest.approx(logit(p_YX[part, part].mean()), abs=0.02)
    mean, std = (inputs[f"post_{f}_NB"][..., None, None] for f in ("mean", "std"))
    z = (inputs["post"] - mean) / std
    plain_D = backbone_features((z * SCENE_STD + SCENE_MEAN).astype(np.float32))[0]
    np.testing.assert_allclose(feature_D[3 + 40 : 3 + 80], plain_D[:40], atol=1e-3)


PAIRS = [n for n in shipped_names() if can_fold(load_bundle(n).spec, ("pre", "post"))]


@pytest.mark.parametrize("name", PAIRS)
def test_every_shipped_bundle_of_pairs_can_be_adapted(name: str) -> None:
    old = load_bundle(name)
    graph = CropGraph(epochs=("pre", "post"), old=old)
    inputs = example_images(graph.epochs, graph.crop_px, 1, np.random.default_rng(0))
    feature_D = run(graph.features_model(), inputs)[0]
    assert feature_D.shape == (graph.features,)
    assert np.isfinite(feature_D).all()
    assert len(set(feature_D[: graph.old_features])) == 3  # squares of three sizes


def test_the_bundle_gives_the_head_on_the_features(tmp_path: Path) -> None:
    old = load_bundle(str(write_building_bundle(tmp_path / "old", epochs=("post",), hazard=())))
    graph = CropGraph(epochs=("post",), old=old)
    assert (graph.old_features, graph.crop_px) == (1, 96)
    inputs = inputs_of(graph)
    feature_ND = run(graph.features_model(), inputs)
    rng = np.random.default_rng(0)
    head = Head(
        mean_D=feature_ND.mean(axis=0).astype(float),
        std_D=rng.uniform(0.5, 2, graph.features),
        weight_D=rng.normal(0, 0.1, graph.features),
        intercept=0.3,
        penalty=1.0,
    )
    logits_N2 = run(graph.bundle_model(head), inputs)
    np.testing.assert_allclose(logits_N2[:, 1] - logits_N2[:, 0], head.logit(feature_ND), atol=1e-3)


def test_a_bundle_that_takes_more_than_the_crop_is_not_folded_in() -> None:
    assert can_fold(load_bundle("damage-synthetic").spec, ("pre", "post"))
    assert not can_fold(load_bundle("damage-synthetic").spec, ("post",))
    assert not can_fold(load_bundle("grades-synthetic").spec, ("post",))
