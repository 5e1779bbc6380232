"""A checkpoint from a bundle."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import quakestream
from quakestream.errors import BundleError
from training.checkpoints import load_checkpoint
from training.graphs import SegmentationGraph
from training.restore import checkpoint_of, main

SHIPPED = Path(quakestream.__file__).parent / "bundles" / "shipped"


def test_a_restored_network_scores_as_its_bundle_and_trains_from_there(tmp_path: Path) -> None:
    folder = SHIPPED / "damage-synthetic"
    assert main([str(folder), "-o", str(tmp_path / "c.pt")]) == 0
    network = load_checkpoint(tmp_path / "c.pt").network()
    with np.load(folder / "golden.npz") as golden:
        arrays = {name: golden[name] for name in golden.files}
    graph = SegmentationGraph(network, window_px=512)
    np.testing.assert_allclose(graph.run(arrays), arrays["logits"], atol=1e-3)
    # A norm that trains uses statistics of the batch: on these windows they are its own.
    norm = network.get_submodule("decoder.1.1")
    assert isinstance(norm, nn.BatchNorm2d)
    seen: list[torch.Tensor] = []
    norm.register_forward_hook(lambda _, given, result: seen.extend([given[0], result]))
    norm.train()
    graph.run(arrays)
    np.testing.assert_allclose(seen[1].numpy(), seen[0].numpy(), atol=1e-3)


def test_a_bundle_of_another_kind_is_refused() -> None:
    with pytest.raises(BundleError, match="cannot be restored"):
        checkpoint_of(SHIPPED / "grades-synthetic")
