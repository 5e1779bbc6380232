"""How fast runtimes score, against what the CPU could multiply.

Networks have random weights, which cost what trained ones cost, and are exported here in every
form a runtime takes: ONNX, its int8 graph calibrated on noise, and torch's program. What the
kernels of a runtime reach is compared with the largest matrix product this machine computes in
the same precision.
"""

import contextlib
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from benchmarks.common import main
from quakestream.bundles import load_bundle, write_manifest
from quakestream.domain import BundleSpec
from quakestream.engines import RUNTIMES
from quakestream.engines.bench import BenchRequest, time_apart
from quakestream.engines.machine import usable_cores
from quakestream.errors import QuakestreamError
from training.export import write_bundle
from training.graphs import BuildingGraph, BundleGraph, SegmentationGraph
from training.networks import NetworkInputs, build_network
from training.quantise import with_int8
from training.quantise_graph import heavy, quantised

NETWORKS = {
    "fc_siam_diff_small": "damage-synthetic",
    "fc_siam_diff_medium": "damage-synthetic",
    "qmf_tiny": "grades-synthetic",
}
"""And the shipped bundle whose windows or crops, and whose ground, they are given."""
NAMES = (
    "onnxruntime",
    "openvino",
    "openvino-bf16",
    "openvino-int8",
    "torch",
    "torch-bf16",
    "torch-compile",
    "torch-compile-bf16",
)
SIDE = 2048
"""Of the matrices whose product is the peak."""
SECONDS, QUICK_SECONDS = 2.0, 0.5
PEAK_TRIES = 12


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Every network on every runtime, or the smallest on those that open fast."""
    threads = usable_cores()
    names = list(NETWORKS)[:1] if quick else list(NETWORKS)
    runtimes = [n for n in NAMES if not (quick and RUNTIMES[n].package == "torch")]
    rows, refused = [], {}
    before = peaks(threads)
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            place = make_bundle(name, Path(folder) / name, program=not quick)
            flop = flop_of((place / "model.onnx").read_bytes())
            for runtime in runtimes:
                request = BenchRequest(
                    bundle=str(place),
                    runtime=runtime,
                    threads=threads,
                    seconds=QUICK_SECONDS if quick else SECONDS,
                    checked=False,  # noise through random weights: nothing to be right about
                )
                try:
                    row = asdict(time_apart(request))
                except QuakestreamError as error:
                    refused[f"{name} {runtime}"] = str(error)
                    continue
                gflop_per_s = row["per_s"] * flop / 1e9
                rows.append({"network": name, **row, "gflop_per_s": round(gflop_per_s, 1)})
    after = peaks(threads)
    peak = {kind: round(max(before[kind], after[kind]), 1) for kind in before}
    for row in rows:
        of = peak[RUNTIMES[row["runtime"]].precision]
        row["share_of_peak"] = round(row["gflop_per_s"] / of, 3)
    metrics = {"rows": rows, "refused": refused, "matrix_peak_gflop_per_s": peak}
    return {"threads": threads, "side": SIDE, "weights": "random"}, metrics


def make_bundle(network: str, folder: Path, *, program: bool = True) -> Path:
    """A bundle of random weights with an int8 graph, and torch's program if it is wanted."""
    torch.manual_seed(0)
    like = load_bundle(NETWORKS[network]).spec
    config = {**like.training["config"], "network": network}
    spec = replace(like, name=network, training={**like.training, "config": config})
    with _quiet():
        write_bundle(_graph(network, spec), spec, folder, pt2=program)
        bundle = load_bundle(str(folder))
        samples = [{k: v[:1] for k, v in bundle.golden.items() if k != "logits"}] * 2
        convolutions = ("Conv", "ConvTranspose")
        others = [n for n, kind in heavy(bundle.graph).items() if kind not in convolutions]
        made = with_int8(bundle, quantised(bundle.graph, samples, spared=others), {})
        (folder / "model.int8.onnx").write_bytes(made.files["model.int8.onnx"])
        write_manifest(folder, made.spec)
    return folder


def _graph(network: str, spec: BundleSpec) -> BundleGraph:
    if spec.scores_pixels:
        return SegmentationGraph(build_network(network).eval(), window_px=spec.window_px)
    inputs = NetworkInputs(
        crop_px=spec.window_px, classes=len(spec.classes), hazard_groups=spec.hazard_groups
    )
    return BuildingGraph(
        build_network(network, inputs=inputs).eval(),
        epochs=spec.epochs,
        crop_px=spec.window_px,
        hazard=spec.hazard,
        offset_C=(0.0,) * len(spec.classes),
    )


def flop_of(graph: bytes) -> float:
    """Operations of the convolutions and products for one window or crop, two a multiplication."""
    model = onnx.load_model_from_string(graph)
    for value in model.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    inferred = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*inferred.value_info, *inferred.output, *inferred.input)
    }
    shapes |= {constant.name: list(constant.dims) for constant in model.graph.initializer}
    return float(sum(_node_flop(node, shapes) for node in model.graph.node))


def _node_flop(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> float:
    if node.op_type not in ("Conv", "ConvTranspose", "MatMul", "Gemm"):
        return 0.0
    left, right, out = (shapes.get(name, []) for name in (*node.input[:2], node.output[0]))
    if node.op_type == "Conv":
        return 2.0 * np.prod(out) * np.prod(right[1:])  # weights: out, in over groups, y, x
    if node.op_type == "ConvTranspose":
        return 2.0 * np.prod(left) * np.prod(right[1:])  # every input pixel meets every weight
    return 2.0 * np.prod(out) * left[-1]


def peaks(threads: int) -> dict[str, float]:
    """Largest rate of a matrix product by precision, GFLOP/s (of int8 the same count)."""
    torch.set_num_threads(threads)
    rng = torch.Generator().manual_seed(0)
    a, b = (torch.randn(SIDE, SIDE, generator=rng) for _ in range(2))
    half_a, half_b = a.bfloat16(), b.bfloat16()
    whole_a, whole_b = ((m * 40).clamp(-127, 127).to(torch.int8) for m in (a, b))
    also_a, also_b = a.numpy(), b.numpy()  # torch's library takes half the width on some CPUs
    return {
        "fp32": max(_rate(lambda: a @ b), _rate(lambda: also_a @ also_b)),
        "bf16": _rate(lambda: half_a @ half_b),
        "int8": _rate(lambda: torch._int_mm(whole_a, whole_b)),
    }


def _rate(product: Callable[[], object]) -> float:
    product()
    lasted = []
    for _ in range(PEAK_TRIES):
        began = time.perf_counter()
        product()
        lasted.append(time.perf_counter() - began)
    return 2 * SIDE**3 / min(lasted) / 1e9


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Standard output is for the result alone."""
    logging.disable(logging.WARNING)
    with open(os.devnull, "w") as nowhere, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            yield
    logging.disable(logging.NOTSET)


if __name__ == "__main__":
    main("engines", run)
