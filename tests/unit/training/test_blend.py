"""The mean of two checkpoints of one network."""

from pathlib import Path

import pytest
import torch

from quakestream.errors import RequestError
from training.blend import blended, main
from training.checkpoints import Checkpoint, load_checkpoint
from training.config import SlidesConfig
from training.networks import build_landslide_network, of_bands
from training.settings import new_config


def checkpoint(seed: int, network: str = "unet_tiny") -> Checkpoint:
    torch.manual_seed(seed)
    inputs = of_bands("red", "green", "blue", crop_px=32)
    built = build_landslide_network(network, inputs)
    return Checkpoint(
        config=new_config(SlidesConfig, recipe=f"r{seed}", network=network),
        weights=built.state_dict(),
        step=seed,
        figures={"f1": 0.5},
        inputs=inputs,
    )


def test_weights_are_averaged_and_the_rest_is_the_first_ones(tmp_path: Path) -> None:
    first, second = checkpoint(3), checkpoint(4)
    paths = [tmp_path / name for name in ("a.pt", "b.pt", "out.pt")]
    first.save(paths[0])
    second.save(paths[1])
    names = list(map(str, paths))
    assert main([*names[:2], "-o", names[2], "--share", "0.25"]) == 0
    mean = load_checkpoint(paths[2])
    for name, weight in mean.weights.items():
        if weight.is_floating_point():
            expected = 0.75 * first.weights[name] + 0.25 * second.weights[name]
            torch.testing.assert_close(weight, expected)
    assert mean.config == first.config
    assert (mean.step, mean.figures) == (7, {})
    assert mean.network()(torch.zeros(1, 3, 32, 32)).shape == (1, 1, 32, 32)


def test_other_networks_and_shares_are_refused(tmp_path: Path, capsys) -> None:
    with pytest.raises(RequestError, match="different networks"):
        blended(checkpoint(1), checkpoint(1, "unet_small"))
    assert main([str(tmp_path), str(tmp_path), "-o", str(tmp_path), "--share", "1"]) == 2
    assert "between 0 and 1" in capsys.readouterr().err
