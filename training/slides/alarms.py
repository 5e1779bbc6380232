"""Share of slide-free images that a bundle marks as a landslide.

    python -m training.slides.alarms BUNDLE IMAGE IMAGE -o alarms.json

An image is georeferenced RGB of ground where nothing slid, such as a town. It is averaged to the
bundle's 1 m and scored window by window as in a run, each pixel by the window whose core it lies
in, at the balanced threshold. What is marked is false, so that the share is a rate of false alarms
over ground.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioIOError
from scipy.special import expit

from quakestream.bundles import Bundle, load_bundle
from quakestream.engines import Batch, open_engine
from quakestream.errors import QuakestreamError, RequestError
from training.data.slide_towns import GSD_M, read_town

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]


def probabilities(bundle: Bundle, pixels_BYX: U8, *, runtime: str = "onnxruntime") -> F32:
    """Probability of each pixel of an image; beyond its edge the image is mirrored."""
    spec = bundle.spec
    engine = open_engine(bundle, runtime=runtime)
    _, height, width = pixels_BYX.shape
    core, halo = spec.core_px, spec.halo_px
    rows, cols = -(-height // core), -(-width // core)
    beyond = (halo, rows * core - height + halo), (halo, cols * core - width + halo)
    padded_BYX = np.pad(pixels_BYX, ((0, 0), *beyond), mode="symmetric")
    out_YX = np.empty((rows * core, cols * core), np.float32)
    for row in range(0, rows * core, core):
        for col in range(0, cols * core, core):
            window_BYX = padded_BYX[:, row : row + spec.window_px, col : col + spec.window_px]
            inputs = {"post": np.ascontiguousarray(window_BYX[None])}
            scores = np.asarray(engine.score(Batch.of(inputs, spec)))[0, 0]
            inside = slice(halo, halo + core)
            out_YX[row : row + core, col : col + core] = expit(scores[inside, inside])
    return out_YX[:height, :width]


def alarms(bundle: Bundle, images: Sequence[Path]) -> dict[str, float]:
    """Share of the seen pixels of each image that is declared a landslide.

    Raises:
        RequestError: if the bundle does not take RGB counts at 1 m after the event.
    """
    spec = bundle.spec
    if spec.dtype != "uint8" or spec.gsd_m != GSD_M or spec.epochs != ("post",):
        raise RequestError(
            "bundle does not take RGB counts at 1 m",
            bundle.uri,
            got=f"{spec.dtype} at {spec.gsd_m} m, epochs {', '.join(spec.epochs)}",
        )
    shares = {}
    for path in images:
        town = read_town(path)
        marked_YX = probabilities(bundle, town.pixels_BYX) >= spec.thresholds.balanced
        shares[path.stem] = round(float(marked_YX[town.seen_YX].mean()), 4)
    return shares


def main(arguments: Sequence[str] | None = None) -> int:
    """Judges one bundle. Returns 0 when done, 2 if the request is wrong, 3 if it failed."""
    parser = argparse.ArgumentParser(
        prog="python -m training.slides.alarms",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundle", help="a shipped name, or a folder or .zip")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    parser.add_argument("-o", "--out", type=Path, metavar="JSON")
    options = parser.parse_args(arguments)
    try:
        shares = alarms(load_bundle(options.bundle), options.images)
    except (QuakestreamError, RasterioIOError) as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, RequestError | RasterioIOError) else 3
    if options.out:
        options.out.write_text(json.dumps(shares, indent=1) + "\n")
    for name, share in shares.items():
        print(f"{name}: {share:.1%} marked")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
