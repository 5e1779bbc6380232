"""Monte Carlo dropout as one graph: what it computes, and that it does not depend on chance."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit, logit

from quakestream.errors import ConfigError
from training.networks import build_landslide_network, of_bands
from training.onnx_graph import check_parity, export_onnx
from training.uncertain_graph import FixedDropout, UncertainLandslideGraph, with_fixed_masks

SCALE = {"mean_B": (110.0, 100.0, 90.0), "std_B": (40.0, 40.0, 40.0), "dtype": "uint8"}


def network(name: str = "unet_tiny", dropout: float = 0.3):
    torch.manual_seed(1)
    built = build_landslide_network(
        name, of_bands("red", "green", "blue", crop_px=64), dropout=dropout
    )
    built.train()
    with torch.no_grad():
        for _ in range(3):
            built(torch.randn(4, 3, 64, 64))
    return built.eval()


def graph(name: str = "unet_tiny", passes: int = 3) -> UncertainLandslideGraph:
    built = UncertainLandslideGraph(
        network(name), window_px=64, platt=(1.3, -0.4), passes=passes, **SCALE
    )
    return built.eval()


def one_pass(
    built: UncertainLandslideGraph, z_NBYX: torch.Tensor, number: int, name: str = "unet_tiny"
) -> np.ndarray:
    """Logits of one mask alone, by hooks that scale the channels of the plain network."""
    plain = network(name)
    masks = {n: m for n, m in built.network.named_modules() if isinstance(m, FixedDropout)}
    for place, mask in masks.items():
        plain.get_submodule(place).register_forward_hook(
            lambda _, inputs, out, mask=mask: (
                inputs[0] * mask.kept_for(inputs[0].shape[1])[number][None, :, None, None]
            )
        )
    with torch.inference_mode():
        return plain(z_NBYX).numpy()[:, 0]


@pytest.mark.parametrize(
    "name",
    ["unet_tiny", "efficientnet_fpn_small", "efficientnet_unetpp_small", "galileo_nano_p4"],
)
def test_mean_and_deviation_are_those_of_the_passes_one_by_one(name: str):
    built = graph(name)
    arrays = built.example(count=2)
    z = (
        torch.from_numpy(arrays["post"].astype(np.float32)) - built.mean_B[None, :, None, None]
    ) / 40
    p = np.stack([expit(1.3 * one_pass(built, z, t, name) - 0.4) for t in range(3)])
    out = built.run(arrays)
    np.testing.assert_allclose(out[:, 0], logit(p.mean(axis=0)), atol=2e-5)
    np.testing.assert_allclose(out[:, 1], p.std(axis=0, ddof=1), atol=1e-6)
    assert out[:, 1].max() > 0.001


def test_nothing_depends_on_chance_or_on_the_rest_of_the_batch():
    built = graph()
    arrays = built.example(count=3)
    whole = built.run(arrays)
    alone = built.run({"post": arrays["post"][1:2]})
    np.testing.assert_allclose(alone[0], whole[1], atol=1e-5)
    np.testing.assert_array_equal(graph().run(arrays), whole)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unet_tiny", "efficientnet_fpn_small"])
def test_the_onnx_graph_is_the_same(tmp_path: Path, name: str):
    built = graph(name, passes=2)
    export_onnx(built, tmp_path / "model.onnx")
    assert check_parity(built, tmp_path / "model.onnx", counts=(1, 2)) < 1e-4


def test_masks_keep_the_share_that_training_kept():
    fixed = with_fixed_masks(network(), 400, seed=3)
    masks = [m for m in fixed.modules() if isinstance(m, FixedDropout)]
    kept = torch.cat([b.flatten() for m in masks for b in m.buffers()])
    assert (kept > 0).float().mean() == pytest.approx(0.7, abs=0.02)
    assert kept.mean() == pytest.approx(1.0, abs=0.03)


def test_a_network_without_dropout_is_refused():
    with pytest.raises(ConfigError, match="no Monte Carlo dropout"):
        with_fixed_masks(network(dropout=0.0), 4, seed=0)
