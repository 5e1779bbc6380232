"""`python -m training.restore BUNDLE -o CKPT`: a checkpoint from a bundle of pair networks.

This serves bundles whose checkpoint is lost. An export folds batch norms of the decoder into the
convolutions before them. Here each folded norm gets the mean and deviation that its convolution
has on the golden windows of the bundle, as scale and as statistics. Scores stay the same, and a
further training starts from nearly the same network.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from quakestream.bundles import load_bundle
from quakestream.errors import BundleError, QuakestreamError, RequestError
from training.checkpoints import Checkpoint
from training.config import PairsConfig
from training.graphs import SegmentationGraph
from training.networks import build_network
from training.settings import from_json

PREFIX = "network."
WORST_DIFFERENCE = 1e-3
"""Largest difference of a logit between the bundle and the restored network."""


def checkpoint_of(folder: Path) -> Checkpoint:
    """The checkpoint of a bundle that scores pixels of image pairs.

    Raises:
        BundleError: if the folder holds no bundle, or its graph is of another network than its
            manifest says.
    """
    bundle = load_bundle(str(folder))
    config = from_json(bundle.spec.training["config"])
    if not isinstance(config, PairsConfig):
        raise BundleError(
            f"a bundle of lesson {config.lesson} cannot be restored",
            str(folder),
            expected="a bundle of image pairs",
        )
    network = build_network(config.network, dropout=config.dropout).eval()
    stored = {
        i.name.removeprefix(PREFIX): torch.from_numpy(np.array(numpy_helper.to_array(i)))
        for i in onnx.load_from_string(bundle.graph).graph.initializer
        if i.name.startswith(PREFIX)
    }
    weights = network.state_dict()
    folded = [n for n, m in network.named_modules() if _is_norm(m) and f"{n}.weight" not in stored]
    if unknown := sorted(stored.keys() - weights.keys()):
        raise BundleError(
            "graph has other weights than its network", str(folder), config.network, str(unknown)
        )
    network.load_state_dict(weights | stored)
    with np.load(folder / "golden.npz") as golden:
        arrays = {name: golden[name] for name in golden.files}
    graph = SegmentationGraph(network, window_px=bundle.spec.window_px)
    for name in folded:  # From the bottom up: a norm sees what the restored ones below it pass on.
        _spread_out(network.get_submodule(name), name, graph, arrays)
    apart = float(np.abs(graph.run(arrays) - arrays["logits"]).max())
    if apart > WORST_DIFFERENCE:
        raise BundleError(
            "restored network differs from its bundle",
            str(folder),
            expected=f"logits within {WORST_DIFFERENCE:g}",
            got=f"{apart:.2g}",
        )
    step = int(bundle.spec.training.get("step", 0))
    return Checkpoint(config=config, weights=network.state_dict(), step=step, figures={})


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm2d)


def _spread_out(
    module: nn.Module, name: str, graph: SegmentationGraph, arrays: dict[str, np.ndarray]
) -> None:
    """Gives a norm the statistics of its input, and the scale that undoes them."""
    if not isinstance(module, nn.BatchNorm2d):
        raise TypeError(name)
    inputs: list[Tensor] = []
    hook = module.register_forward_pre_hook(lambda _, given: inputs.append(given[0].detach()))
    graph.run(arrays)
    hook.remove()
    values_CP = inputs[0].movedim(1, 0).flatten(1).double()
    mean_C, variance_C = values_CP.mean(dim=1), values_CP.var(dim=1)
    with torch.no_grad():
        for target, value in (
            (module.running_mean, mean_C),
            (module.running_var, variance_C),
            (module.weight, (variance_C + module.eps).sqrt()),
            (module.bias, mean_C),
        ):
            assert target is not None
            target.copy_(value)


def main(arguments: Sequence[str] | None = None) -> int:
    """Restores one bundle. Returns 0 when done, 2 if the request is wrong, 3 if it failed."""
    parser = argparse.ArgumentParser(prog="python -m training.restore", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="CKPT")
    options = parser.parse_args(arguments)
    try:
        checkpoint = checkpoint_of(options.bundle)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.save(options.out)
    except QuakestreamError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, RequestError) else 3
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
