"""`python -m training.rewindow BUNDLE -o OUT`: the same pixel model for windows of another size.

A convolutional network takes windows of any size, but a run scores every halo twice. If the halo
covers the receptive field, windows give the same logits as the whole image. A wider halo only
costs time.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quakestream.bundles import Bundle, load_bundle, write_manifest
from quakestream.bundles.files import MANIFEST
from quakestream.domain import BundleSpec
from quakestream.errors import EngineError, QuakestreamError, RequestError
from training.foreign_errors import first_line
from training.graphs import Arrays, example_images
from training.mlm import ModelFacts, write_record
from training.onnx_graph import PARITY, compressed, run_onnx
from training.onnx_sides import resized

ACROSS = 2
"""Windows along each side of the image on which they are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """The windows that a run cuts scenes into."""

    window_px: int
    halo_px: int
    gsd_m: float

    @property
    def core_px(self) -> int:
        return self.window_px - 2 * self.halo_px


def rewindow(bundle: Bundle, folder: Path, windows: Windows) -> BundleSpec:
    """Writes the bundle for other windows into a folder and checks it.

    Raises:
        RequestError: if the bundle is no pixel model, or its windows would differ from the
            untiled image because the halo is too narrow or not aligned.
        EngineError: if the graph does not run on windows of that size.
    """
    if bundle.spec.task != "segmentation":
        raise RequestError(
            "bundle has no windows", bundle.uri, expected="a pixel model", got=bundle.spec.task
        )
    if windows.core_px <= 0:
        raise RequestError(
            "the halo leaves nothing of the window",
            bundle.uri,
            expected=f"a halo below {windows.window_px / 2:g} px",
            got=f"{windows.halo_px} px",
        )
    apart = tiling_difference(bundle, windows)
    if apart > PARITY:
        raise RequestError(
            f"windows of {windows.window_px} px with a halo of {windows.halo_px} px differ from "
            "the untiled image",
            bundle.uri,
            expected=f"at most {PARITY:g} on a logit",
            got=f"{apart:.2g}",
            remedy="use a wider halo, and a core that is a multiple of the network's stride",
        )
    spec = replace(
        bundle.spec,
        metrics=_metrics(bundle, windows.window_px),
        name=folder.name,
        window_px=windows.window_px,
        halo_px=windows.halo_px,
        gsd_m=windows.gsd_m,
    )
    folder.mkdir(parents=True, exist_ok=True)
    files = {n: b for n, b in bundle.files.items() if n not in {MANIFEST, "model.pt2"}}
    for name, content in files.items():
        graph = name.endswith(".onnx")
        (folder / name).write_bytes(resized(content, windows.window_px) if graph else content)
    golden = _example(bundle, windows.window_px, noise=False)
    golden["logits"] = run_onnx(folder / "model.onnx", golden)
    (folder / "golden.npz").write_bytes(compressed(golden))
    write_record(folder, spec, _facts(bundle.files))
    write_manifest(folder, spec)
    load_bundle(str(folder))
    return spec


def _metrics(bundle: Bundle, window_px: int) -> dict[str, Any]:
    """The figures, which stay because the weights do, with the digest of the resized graph."""
    metrics: dict[str, Any] = dict(bundle.spec.metrics)
    if "int8" in metrics:
        digest = hashlib.sha256(resized(bundle.graph, window_px)).hexdigest()
        metrics["int8"] = metrics["int8"] | {"model_sha256": digest}
    return metrics


def tiling_difference(bundle: Bundle, windows: Windows) -> float:
    """Largest difference of a logit between windows and the image that they were cut from.

    The four windows of a random image are compared on their cores alone.
    """
    halo, core = windows.halo_px, windows.core_px
    side = ACROSS * core + 2 * halo
    whole = _example(bundle, side, noise=True)
    inner = slice(halo, halo + ACROSS * core)
    whole_KYX = _run(bundle, whole, side)[0][:, inner, inner]
    worst = 0.0
    for row in range(0, ACROSS * core, core):
        for col in range(0, ACROSS * core, core):
            place = slice(row, row + windows.window_px), slice(col, col + windows.window_px)
            part = {n: a[(..., *place)] if a.ndim == 4 else a for n, a in whole.items()}
            part_KYX = _run(bundle, part, windows.window_px)[0]
            alone_KYX = part_KYX[:, halo : halo + core, halo : halo + core]
            within_KYX = whole_KYX[:, row : row + core, col : col + core]
            worst = max(worst, float(np.abs(alone_KYX - within_KYX).max()))
    return worst


def _run(bundle: Bundle, inputs: Arrays, side_px: int) -> NDArray[np.float32]:
    try:
        return run_onnx(resized(bundle.graph, side_px), inputs)
    except RequestError:
        raise
    except Exception as error:  # The runtime's exceptions have no common base.
        raise EngineError(
            f"graph does not run on windows of {side_px} px: {first_line(error)}", bundle.uri
        ) from error


def _example(bundle: Bundle, side_px: int, *, noise: bool) -> Arrays:
    """One window with the inputs of the golden batch; noise shows any dependence on the size."""
    rng = np.random.default_rng(0)
    epochs = bundle.spec.epochs
    arrays = example_images(epochs, side_px, 1, rng)
    if noise:
        arrays |= {e: rng.integers(0, 256, arrays[e].shape).astype(np.uint8) for e in epochs}
    return {name: array for name, array in arrays.items() if name in bundle.golden}


def _facts(files: Mapping[str, bytes]) -> ModelFacts:
    """Facts of the bundle's record; `unknown` if it has none."""
    record = json.loads(files.get("mlm.json", b"{}")).get("properties", {})
    return ModelFacts(
        architecture=record.get("mlm:architecture", "unknown"),
        framework=record.get("mlm:framework", "unknown"),
        framework_version=record.get("mlm:framework_version", "unknown"),
        parameters=record.get("mlm:total_parameters"),
        pretrained_source=record.get("mlm:pretrained_source"),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes one bundle. Returns 0 when done, 2 if the request is wrong, 3 if it failed."""
    parser = argparse.ArgumentParser(
        prog="python -m training.rewindow",
        description="Writes a pixel model for windows of another size; the folder's name is the "
        "bundle's. Another GSD is only declared: the network is not trained for it.",
        epilog="example: python -m training.rewindow damage-turkiye-2023 --halo-px 24 -o wider",
    )
    parser.add_argument("bundle", help="name of a shipped bundle, or a path or URI")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="BUNDLE")
    parser.add_argument("--window-px", type=int, help="side of a window, halo included")
    parser.add_argument("--halo-px", type=int, help="margin of a window on each side")
    parser.add_argument("--gsd-m", type=float, help="metres per pixel to declare")
    options = parser.parse_args(arguments)
    try:
        bundle = load_bundle(options.bundle)
        spec = bundle.spec
        windows = Windows(
            window_px=spec.window_px if options.window_px is None else options.window_px,
            halo_px=spec.halo_px if options.halo_px is None else options.halo_px,
            gsd_m=spec.gsd_m if options.gsd_m is None else options.gsd_m,
        )
        rewindow(bundle, options.out, windows)
    except QuakestreamError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, RequestError) else 3
    print(f"{options.out}: {windows.window_px} px, halo {windows.halo_px} px, {windows.gsd_m:g} m")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
