"""The graph of a bundle: uint8 in, logits out, normalisation inside."""

import io
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quakestream.errors import EngineError

OPSET = 18
PARITY = 1e-3
"""Largest difference of a logit between torch and ONNX Runtime, both in float32."""
INPUTS = ("pre", "post", "pre_mean_NB", "pre_std_NB", "post_mean_NB", "post_std_NB")


class BundleGraph(nn.Module):
    """A network as a bundle ships it: counts cross to the device as uint8."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        pre: Tensor,
        post: Tensor,
        pre_mean_NB: Tensor,
        pre_std_NB: Tensor,
        post_mean_NB: Tensor,
        post_std_NB: Tensor,
    ) -> Tensor:
        """Logits (N, 1, y, x) of uint8 images (N, band, y, x)."""
        before = (pre.float() - pre_mean_NB[:, :, None, None]) / pre_std_NB[:, :, None, None]
        after = (post.float() - post_mean_NB[:, :, None, None]) / post_std_NB[:, :, None, None]
        logits: Tensor = self.network(before, after)
        return logits


def export_onnx(graph: BundleGraph, path: Path, *, window_px: int) -> None:
    """Writes one self-contained ONNX file: windows of a fixed size, any number of them."""
    arrays = golden_inputs(window_px, count=2)
    # The exporter names inputs by position: the order must be that of `INPUTS`.
    example = {name: torch.from_numpy(arrays[name]) for name in INPUTS}
    batch = torch.export.Dim("batch", min=1, max=1024)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own internals
        program = torch.onnx.export(
            graph.eval(),
            kwargs=example,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(INPUTS),
            output_names=["logits"],
            dynamic_shapes={name: {0: batch} for name in INPUTS},
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _without_traces(model)
    path.write_bytes(model.SerializeToString())


def golden_inputs(window_px: int, *, count: int, seed: int = 0) -> dict[str, NDArray[np.generic]]:
    """Synthetic inputs by name: roofs, streets and a pile of rubble made of rectangles."""
    rng = np.random.default_rng(seed)
    pre = np.stack([_town(window_px, rng) for _ in range(count)])
    post = np.clip(pre * 0.8 + 20, 0, 255).astype(np.uint8)
    third = window_px // 3
    rubble = rng.integers(0, 16, (count, 3, third, third)) * 16
    post[:, :, third : 2 * third, third : 2 * third] = rubble
    values = {name: np.full((count, 3), 110.0, np.float32) for name in INPUTS if "mean" in name}
    values |= {name: np.full((count, 3), 45.0, np.float32) for name in INPUTS if "std" in name}
    return {"pre": pre, "post": post, **values}


def run_onnx(path: Path, inputs: dict[str, NDArray[np.generic]]) -> NDArray[np.float32]:
    """Logits by ONNX Runtime on CPU."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    logits: NDArray[np.float32] = session.run(["logits"], inputs)[0]
    return logits


def check_parity(graph: BundleGraph, path: Path, *, window_px: int) -> float:
    """Largest difference of a logit over batches of 1 and 3.

    Raises:
        EngineError: if it exceeds 1e-3.
    """
    worst = 0.0
    for count in (1, 3):
        inputs = golden_inputs(window_px, count=count, seed=count)
        with torch.inference_mode():
            expected = graph.eval()(**{k: torch.from_numpy(v) for k, v in inputs.items()}).numpy()
        worst = max(worst, float(np.abs(run_onnx(path, inputs) - expected).max()))
    if not worst < PARITY:
        raise EngineError(f"{path}: ONNX Runtime differs from torch by {worst}, allowed {PARITY}")
    return worst


def compressed(arrays: dict[str, NDArray[np.generic]]) -> bytes:
    """The bytes of an `.npz`."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _town(side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    image = np.full((3, side, side), 120, np.uint8)
    for _ in range(40):
        top, left = rng.integers(0, side, 2)
        height, width = rng.integers(side // 20 + 1, side // 8 + 2, 2)
        colour_B = rng.integers(60, 220, 3).astype(np.uint8)
        image[:, top : top + height, left : left + width] = colour_B[:, None, None]
    return image


def _without_traces(model: onnx.ModelProto) -> None:
    """Drops stack traces and file paths that the exporter leaves in the nodes."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
