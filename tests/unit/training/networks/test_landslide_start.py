"""Where landslide networks start from, and what a checkpoint of one gives back."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from quakestream.errors import RequestError
from tests.helpers.graph_bundles import L4S_BANDS
from training.checkpoints import as_checkpoint, start_from
from training.config import PairsConfig
from training.networks import build_landslide_network, build_network, network_names, of_bands
from training.networks.landslide import LANDSLIDE_NETWORKS
from training.networks.lora import LoraConfig, add_lora

INPUTS = of_bands("red", "green", "nir", "slope", "elevation", crop_px=32)


def test_an_encoder_starts_from_installed_weights() -> None:
    name = "efficientnet_fpn_small"
    network = build_landslide_network(name, INPUTS)
    config = PairsConfig(recipe="x", network=name, init="official:")
    assert start_from(network, config) == "198 official weights"  # 6 of the stem, 12, 10 times 18


def test_a_network_without_published_weights_says_so() -> None:
    network = build_landslide_network("unet_tiny", INPUTS)
    config = PairsConfig(recipe="x", network="unet_tiny", init="official:weights.pt")
    with pytest.raises(RequestError, match="no published weights fit this network"):
        start_from(network, config)


def test_the_inputs_of_a_checkpoint_come_back() -> None:
    """Tuples are lists in files that hold plain values."""
    config = PairsConfig(recipe="x", network="galileo_nano_p4")
    network = build_network(config.network, inputs=INPUTS)
    stored = {"band_names": list(INPUTS.band_names), "bands": 5, "crop_px": 32}
    raw = {
        "config": {"lesson": "pairs", "recipe": "x", "network": config.network},
        "weights": network.state_dict(),
        "step": 1,
        "figures": {},
        "inputs": stored,
    }
    again = as_checkpoint(raw, "x")
    assert again.inputs == replace(INPUTS)
    image = torch.randn(1, 5, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(again.network()(image), network.eval()(image))


DROPOUTS = (torch.nn.Dropout, torch.nn.Dropout2d)


def calls_of(network: torch.nn.Module) -> int:
    """How often dropout happens in one pass; masks that are fixed need a module for each."""
    calls = []
    for module in network.modules():
        if isinstance(module, DROPOUTS):
            module.register_forward_hook(lambda *_: calls.append(1))
    network(torch.empty(2, 14, 128, 128))
    return len(calls)


LARGE = re.compile("(00m|00m_flat|00m_adapter|clay_terrain|clay_hybrid)$")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=pytest.mark.slow if LARGE.search(n) else ())
        for n in LANDSLIDE_NETWORKS
    ],
)
def test_every_network_is_built_by_name(name: str) -> None:
    """On the meta device: shapes alone, also those of 600 million weights."""
    assert name in network_names()
    with torch.device("meta"):
        network = build_landslide_network(name, of_bands(*L4S_BANDS), dropout=0.1)
        assert network(torch.empty(2, 14, 128, 128)).shape == (2, 1, 128, 128)
        places = [id(m) for m in network.modules() if isinstance(m, DROPOUTS)]
        assert 0 < len(places) == len(set(places)) == calls_of(network)
        if patterns := LANDSLIDE_NETWORKS[name].lora:
            assert add_lora(network, LoraConfig(patterns=patterns))


def test_a_path_of_weights_is_read(tmp_path: Path) -> None:
    torch.save({"cls_token": torch.zeros(1, 1, 3)}, tmp_path / "other.pt")
    network = build_landslide_network("clay_terrain_tiny", INPUTS)
    config = PairsConfig(recipe="x", network="clay_terrain_tiny", init="official:")
    with pytest.raises(RequestError, match="no published weights"):
        start_from(network, config)
    config = replace(config, init=f"official:{tmp_path / 'other.pt'}")
    with pytest.raises(RequestError, match="not the weights of a Clay encoder"):
        start_from(network, config)
