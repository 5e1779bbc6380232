"""`python -m training.quantise BUNDLE -o OUT`: adds the same model in eight bits, if it is as good.

`model.int8.onnx` is made of `model.onnx` by post-training quantisation (NNCF), calibrated and
judged on training data. It ships only if, on buildings that calibration did not see, AUC falls by
at most 0.005 and at most 2 % of verdicts change; where quantising every layer costs more, the
outermost layers stay in float32.
"""

import argparse
import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from quakestream.bundles import Bundle, load_bundle, write_manifest
from quakestream.bundles.manifest import MANIFEST
from quakestream.domain import BundleSpec
from quakestream.engines import Batch, Engine, open_engine
from quakestream.engines.runtimes import INT8_GRAPH
from quakestream.errors import EngineError, QuakestreamError, RequestError
from training.onnx_graph import run_onnx
from training.quantise_gate import SAMPLES, Material, material_of
from training.quantise_graph import heavy, quantised

ALLOWED_DROP = 0.005
"""Of per-building AUC against float32."""
ALLOWED_CHANGED = 0.02
"""Share of buildings whose verdict may change: a shift of all logits leaves AUC as it is."""
AGREEMENT = 0.05
"""Mean difference of logits, in their standard deviations, that two runtimes may have on one
quantised graph: steps of a scale taken the other way, not another computation."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Quantised:
    """A graph in eight bits and what it was found to be worth."""

    graph: bytes
    figures: dict[str, Any]

    @property
    def passed(self) -> bool:
        figures = self.figures
        kept = figures["verdicts_changed"] <= ALLOWED_CHANGED
        return bool(figures["drop"] <= ALLOWED_DROP and kept)


def quantise(bundle: Bundle, material: Material) -> Quantised:
    """The graph with the fewest layers left in float32 that passes; else the best one.

    Raises:
        EngineError: if runtimes do not agree on what the quantised graph says.
        MissingExtraError: if NNCF or OpenVINO is not installed.
    """
    before = material.judge(open_engine(bundle, runtime="onnxruntime"))
    tried: list[Quantised] = []
    for spared in _spared(bundle.graph):
        graph = quantised(bundle.graph, material.samples, spared=spared)
        engine = open_engine(with_int8(bundle, graph, {}), runtime="openvino-int8")
        _check_agreement(engine, graph, bundle, material)
        after = material.judge(engine)
        figures = {
            **material.about,
            "auc_fp32": round(before.auc, 6),
            "auc": round(after.auc, 6),
            "drop": round(before.auc - after.auc, 6),
            "allowed_drop": ALLOWED_DROP,
            "verdicts_changed": round(float((before.severe_N != after.severe_N).mean()), 4),
            "in_float32": list(spared),
            **_golden_differences(engine, bundle),
            "made_with": f"nncf {version('nncf')}",
        }
        tried.append(Quantised(graph=graph, figures=figures))
        if tried[-1].passed:
            break
    return min(tried, key=lambda made: float(made.figures["drop"]))


def write_quantised(bundle: Bundle, made: Quantised, folder: Path) -> BundleSpec:
    """Writes the bundle with its quantised graph; figures stand in `metrics.int8`.

    Raises:
        RequestError: if the graph did not pass.
    """
    if not made.passed:
        raise RequestError(
            f"{bundle.uri}: in eight bits AUC falls from {made.figures['auc_fp32']:.4f} by "
            f"{made.figures['drop']:.4f}, allowed {ALLOWED_DROP}, and "
            f"{made.figures['verdicts_changed']:.1%} of verdicts change, allowed "
            f"{ALLOWED_CHANGED:.0%}; nothing was written"
        )
    folder.mkdir(parents=True, exist_ok=True)
    full = with_int8(bundle, made.graph, made.figures)
    for name, data in full.files.items():
        if name != MANIFEST:
            (folder / name).write_bytes(data)
    write_manifest(folder, full.spec)
    return load_bundle(str(folder)).spec


def _spared(graph: bytes) -> Iterator[tuple[str, ...]]:
    """What stays in float32: nothing; the outermost layers, which hold the widest ranges; of
    graphs that mix convolutions with attention, all but the convolutions."""
    nodes = heavy(graph)
    others = tuple(name for name, kind in nodes.items() if kind not in ("Conv", "ConvTranspose"))
    first, *_, last = nodes
    yield ()
    if others:
        yield others
    else:
        yield from ((last,), (first, last))


def with_int8(bundle: Bundle, graph: bytes, figures: dict[str, Any]) -> Bundle:
    """The bundle as it would be with that graph."""
    made_of = hashlib.sha256(bundle.graph).hexdigest()
    metrics = {**bundle.spec.metrics, "int8": {**figures, "model_sha256": made_of}}
    return replace(
        bundle,
        spec=replace(bundle.spec, metrics=metrics),
        files={**bundle.files, INT8_GRAPH: graph},
    )


def _check_agreement(engine: Engine, graph: bytes, bundle: Bundle, material: Material) -> None:
    """One quantised graph must say the same on two runtimes, or one of them misreads it."""
    sample = dict(material.samples[len(material.samples) // 2])
    expected = run_onnx(graph, sample)
    got = engine.score(Batch.of(sample, bundle.spec))
    spread = max(float(expected.std()), 1e-6)
    apart = float(np.abs(got - expected).mean()) / spread
    if not apart < AGREEMENT:
        raise EngineError(
            f"{bundle.uri}: {engine.name} and ONNX Runtime differ by {apart:.3f} standard "
            f"deviations on the quantised graph, allowed {AGREEMENT}: one of them misreads it"
        )


def _golden_differences(engine: Engine, bundle: Bundle) -> dict[str, float]:
    """Of logits on the golden batch, from those of float32."""
    logits = engine.score(Batch.of(bundle.golden, bundle.spec))
    apart = np.abs(logits - bundle.golden["logits"])
    return {
        "golden_mean_difference": round(float(apart.mean()), 6),
        "golden_max_difference": round(float(apart.max()), 6),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes one bundle; 2 if the request is wrong or the graph is not as good."""
    parser = argparse.ArgumentParser(
        prog="python -m training.quantise",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python -m training.quantise damage-here -o damage-here",
    )
    parser.add_argument("bundle", help="a shipped name, or a folder or .zip")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="BUNDLE")
    parser.add_argument(
        "--calibrate",
        default="",
        metavar="REGIONS|STORE",
        help="of pairs: regions to calibrate on, by comma, all others judge (left out: all but "
        "the one with most destroyed buildings); of buildings: the store it was trained on",
    )
    parser.add_argument("--samples", type=int, default=SAMPLES, help="windows to calibrate on")
    options = parser.parse_args(arguments)
    try:
        bundle = load_bundle(options.bundle)
        material = material_of(bundle, calibrate=options.calibrate, samples=options.samples)
        made = quantise(bundle, material)
        write_quantised(bundle, made, options.out)
    except QuakestreamError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, RequestError) else 3
    told = made.figures
    print(
        f"{options.out}: AUC {told['auc']:.4f} in eight bits, {told['auc_fp32']:.4f} in float32; "
        f"in float32 stay {', '.join(told['in_float32']) or 'no layers'}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
