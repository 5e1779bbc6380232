"""Signed Grad-CAM: which places of a chip speak for a landslide, and which against it.

    python -m training.slides.gradcam CKPT -o figure.png --chip 3 --layer encoder.4

As Selvaraju et al. 2017 without the ReLU at the end, as in the Clay study: the score is the mean
probability of the chip, channels weigh by the mean of their gradient, and negative values stay.
The figure shows the image, the mask, the probability, and the map: red speaks for, blue against.
With two layers, such as those before and after a fusion, it also shows their difference.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from quakestream.errors import QuakestreamError, RequestError
from training.checkpoints import load_checkpoint
from training.config import SlidesConfig
from training.data.slide_augment import coarsened
from training.data.slide_chips import Part, open_chips_of
from training.lessons.slides import open_slides

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]


def signed_gradcam(network: nn.Module, z_BYX: F32, layer: str) -> F32:
    """The map of one chip at the size of the chip, in units of the score.

    Args:
        network: in evaluation mode.
        z_BYX: z-scores.
        layer: name of a module whose output is a map (N, channel, y, x).

    Raises:
        RequestError: if the network has no such layer, or its output is no map.
    """
    try:
        module = network.get_submodule(layer)
    except AttributeError as error:
        names = ", ".join(name for name, _ in network.named_children())
        raise RequestError("no such layer", f"--layer {layer}", f"a module in {names}") from error
    kept: dict[str, Tensor] = {}

    def keep(_: nn.Module, __: Any, output: Any) -> None:
        kept["map"] = output

    hook = module.register_forward_hook(keep)
    try:
        logits = network(torch.from_numpy(z_BYX[None]).requires_grad_(True))
    finally:
        hook.remove()
    activation = kept.get("map")
    if not isinstance(activation, Tensor) or activation.ndim != 4:
        raise RequestError("output of the layer is no map", f"--layer {layer}")
    (gradient,) = torch.autograd.grad(torch.sigmoid(logits).mean(), activation)
    weight = gradient.sum(dim=(2, 3), keepdim=True)
    cam = (weight * activation).sum(dim=1, keepdim=True)
    size = (z_BYX.shape[1], z_BYX.shape[2])
    large = nn.functional.interpolate(cam, size, mode="bilinear", align_corners=False)
    return np.asarray(large[0, 0].detach().numpy(), np.float32)


def diverging(values_YX: F32) -> U8:
    """Red for positive values, blue for negative ones, white for 0; (y, x, 3)."""
    limit = max(float(np.abs(values_YX).max()), 1e-12)
    share = np.clip(values_YX / limit, -1.0, 1.0)
    red, blue = np.clip(1.0 + share, 0.0, 1.0), np.clip(1.0 - share, 0.0, 1.0)
    white = 1.0 - np.abs(share)
    return np.asarray(np.rint(255 * np.stack([red, white, blue], -1)), np.uint8)


def figure(checkpoint_path: Path, part: Part, chip: int, layers: Sequence[str]) -> Image.Image:
    """Panels of one chip, side by side.

    Raises:
        RequestError: if there is no such chip or layer.
    """
    checkpoint = load_checkpoint(checkpoint_path)
    config = checkpoint.config_as(SlidesConfig)
    lesson = open_slides(config)
    chips = open_chips_of(Path(config.source), part, lesson.train_chips.bands)
    if not 0 <= chip < len(chips):
        raise RequestError("no such chip", f"--chip {chip}", f"0 to {len(chips) - 1}")
    image_NBYX, mask_NYX = chips.read([chip])
    z_BYX = lesson.scale(coarsened(image_NBYX, config.view.coarsen))[0]
    network = checkpoint.network()
    maps = [signed_gradcam(network, z_BYX, layer) for layer in layers]
    if len(maps) == 2:
        maps.append(maps[1] - maps[0])
    with torch.inference_mode():
        p_YX = torch.sigmoid(network(torch.from_numpy(z_BYX[None])))[0, 0].numpy()
    panels = [_colours(z_BYX, chips.bands), _grey(mask_NYX[0]), _grey(p_YX)]
    panels += [diverging(m) for m in maps]
    return Image.fromarray(np.concatenate(panels, axis=1))


def _colours(z_BYX: F32, bands: Sequence[str]) -> U8:
    """Red, green and blue if the chip has them, else its first band."""
    wanted = [b for b in ("red", "green", "blue") if b in bands]
    place = [list(bands).index(b) for b in wanted] if len(wanted) == 3 else [0, 0, 0]
    return np.asarray(np.clip(127 + 50 * np.moveaxis(z_BYX[place], 0, -1), 0, 255), np.uint8)


def _grey(values_YX: NDArray[Any]) -> U8:
    return np.asarray(np.repeat(255.0 * values_YX[..., None], 3, axis=2), np.uint8)


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes one figure. Returns 0 when done, 2 if the request is wrong, 3 if it failed."""
    parser = argparse.ArgumentParser(
        prog="python -m training.slides.gradcam",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="PNG")
    parser.add_argument("--part", choices=get_args(Part), default="test")
    parser.add_argument("--chip", type=int, default=0, help="number of the chip, from 0")
    parser.add_argument("--layer", action="append", default=[], help="module; give one or two")
    options = parser.parse_args(arguments)
    try:
        layers = options.layer or ["encoder.4"]
        figure(options.checkpoint, options.part, options.chip, layers).save(options.out)
    except QuakestreamError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, RequestError) else 3
    print(options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
