"""`python -m training.quantise BUNDLE -o OUT`: adds the model in eight bits, if it is as good.

`model.int8.onnx` is made from `model.onnx` by post-training quantisation (NNCF), calibrated and
evaluated on training data. It ships only if AUC falls by at most 0.005 and at most 2 % of the
verdicts change, on buildings that were not used for calibration. A landslide model is judged on
test pixels: there F1 too may fall by at most 0.005, and verdicts may change on at most 5 % of the
pixels that are declared a slide in either precision, most of them at edges. If quantising every
layer costs more, the outermost layers stay in float32.
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
from quakestream.bundles.files import MANIFEST
from quakestream.domain import BundleSpec
from quakestream.engines import Batch, Engine, open_engine
from quakestream.engines.runtimes import INT8_GRAPH
from quakestream.errors import EngineError, QuakestreamError, RequestError
from training.cards import card_of
from training.onnx_graph import run_onnx
from training.quantise_data import CalibrationData, EngineResult
from training.quantise_gate import SAMPLES, calibration_data
from training.quantise_graph import heavy, quantised

ALLOWED_DROP = 0.005
"""Largest fall of the AUC over buildings against float32."""
ALLOWED_CHANGED = 0.02
"""Largest share of changed verdicts. AUC alone does not notice a shift of all logits."""
ALLOWED_CHANGED_GROUND = 0.05
"""The same of pixels that are declared a landslide in either precision."""
AGREEMENT = 0.05
"""Largest mean difference of logits between two runtimes on one quantised graph, in standard
deviations. Below it, rounding differs; above it, the computation does."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QuantisedGraph:
    """A graph in eight bits and its figures."""

    graph: bytes
    figures: dict[str, Any]

    @property
    def passed(self) -> bool:
        figures = self.figures
        unchanged = figures["verdicts_changed"] <= self.allowed_changed
        drops = (figures["drop"], figures.get("f1_drop", 0.0))
        return bool(max(drops) <= ALLOWED_DROP and unchanged)

    @property
    def allowed_changed(self) -> float:
        """Largest share of changed verdicts, of buildings or of pixels."""
        return ALLOWED_CHANGED_GROUND if "f1_drop" in self.figures else ALLOWED_CHANGED


def quantise(bundle: Bundle, material: CalibrationData) -> QuantisedGraph:
    """Quantises with as few layers in float32 as pass; if none passes, gives the best graph.

    Raises:
        EngineError: if two runtimes do not agree on the quantised graph.
        MissingExtraError: if NNCF or OpenVINO is not installed.
    """
    before = material.judge(open_engine(bundle, runtime="onnxruntime"))
    tried: list[QuantisedGraph] = []
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
            "verdicts_changed": round(after.changed(before), 4),
            **_f1_figures(before, after),
            "in_float32": list(spared),
            **_golden_differences(engine, bundle),
            "made_with": f"nncf {version('nncf')}",
        }
        tried.append(QuantisedGraph(graph=graph, figures=figures))
        if tried[-1].passed:
            break
    return min(tried, key=lambda result: float(result.figures["drop"]))


def write_quantised(bundle: Bundle, result: QuantisedGraph, folder: Path) -> BundleSpec:
    """Writes the bundle with its quantised graph; its figures go to `metrics.int8`.

    Raises:
        RequestError: if the graph did not pass.
    """
    if not result.passed:
        figures = result.figures
        raise RequestError(
            "the graph in eight bits is too inaccurate",
            bundle.uri,
            expected=f"AUC{_and_f1(figures)} down by at most {ALLOWED_DROP}, at most "
            f"{result.allowed_changed:.0%} of verdicts changed",
            got=f"AUC {figures['auc_fp32']:.4f} down by {figures['drop']:.4f}, "
            f"{_f1_text(figures)}{figures['verdicts_changed']:.1%} of verdicts changed",
            remedy="nothing was written",
        )
    folder.mkdir(parents=True, exist_ok=True)
    full = with_int8(bundle, result.graph, result.figures)
    for name, data in full.files.items():
        if name != MANIFEST:
            (folder / name).write_bytes(data)
    if full.spec.task == "landslide":  # other cards do not speak of it
        (folder / "card.md").write_text(card_of(full.spec))
    write_manifest(folder, full.spec)
    return load_bundle(str(folder)).spec


def _spared(graph: bytes) -> Iterator[tuple[str, ...]]:
    """Sets of layers to leave in float32, in the order in which they are tried.

    The first set is empty. Next come the outermost layers, which have the widest ranges. For
    graphs that mix convolutions with attention, it is all layers but the convolutions.
    """
    nodes = heavy(graph)
    others = tuple(name for name, kind in nodes.items() if kind not in ("Conv", "ConvTranspose"))
    first, *_, last = nodes
    yield ()
    if others:
        yield others
    else:
        yield from ((last,), (first, last))


def with_int8(bundle: Bundle, graph: bytes, figures: dict[str, Any]) -> Bundle:
    """The bundle with a graph in eight bits."""
    made_of = hashlib.sha256(bundle.graph).hexdigest()
    metrics = {**bundle.spec.metrics, "int8": {**figures, "model_sha256": made_of}}
    return replace(
        bundle,
        spec=replace(bundle.spec, metrics=metrics),
        files={**bundle.files, INT8_GRAPH: graph},
    )


def _check_agreement(
    engine: Engine, graph: bytes, bundle: Bundle, material: CalibrationData
) -> None:
    """Checks that two runtimes agree on a quantised graph; otherwise one of them misreads it."""
    sample = dict(material.samples[len(material.samples) // 2])
    expected = run_onnx(graph, sample)
    got = engine.score(Batch.of(sample, bundle.spec))
    spread = max(float(expected.std()), 1e-6)
    apart = float(np.abs(got - expected).mean()) / spread
    if not apart < AGREEMENT:
        raise EngineError(
            f"{engine.name} and ONNX Runtime disagree on the quantised graph",
            bundle.uri,
            expected=f"a difference below {AGREEMENT} standard deviations",
            got=f"{apart:.3f}",
        )


def _f1_figures(before: EngineResult, after: EngineResult) -> dict[str, float]:
    """F1 of landslides in both precisions; nothing for buildings."""
    if before.f1 is None or after.f1 is None:
        return {}
    drop = before.f1 - after.f1
    return {"f1_fp32": round(before.f1, 6), "f1": round(after.f1, 6), "f1_drop": round(drop, 6)}


def _and_f1(figures: dict[str, Any]) -> str:
    return " and F1" if "f1_drop" in figures else ""


def _f1_text(figures: dict[str, Any]) -> str:
    if "f1_drop" not in figures:
        return ""
    return f"F1 {figures['f1_fp32']:.4f} down by {figures['f1_drop']:.4f}, "


def _golden_differences(engine: Engine, bundle: Bundle) -> dict[str, float]:
    """Differences of logits from those of float32, on the golden batch.

    A deviation, the last channel of graphs that give one, has a figure of its own.
    """
    logits = engine.score(Batch.of(bundle.golden, bundle.spec))
    apart = np.abs(logits - bundle.golden["logits"])
    figures = {}
    if bundle.spec.deviation:
        figures["golden_deviation_difference"] = round(float(apart[:, -1].mean()), 6)
        apart = apart[:, :-1]
    return {
        "golden_mean_difference": round(float(apart.mean()), 6),
        "golden_max_difference": round(float(apart.max()), 6),
        **figures,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes one bundle. Returns 0 when done, 2 if refused, 3 if it failed."""
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
        help="pair models: regions to calibrate on, separated by commas; the others evaluate "
        "(default: all but the one with most destroyed buildings). Building models: the store. "
        "Landslide models: the folder of the set",
    )
    parser.add_argument("--samples", type=int, default=SAMPLES, help="windows to calibrate on")
    options = parser.parse_args(arguments)
    try:
        bundle = load_bundle(options.bundle)
        material = calibration_data(bundle, calibrate=options.calibrate, samples=options.samples)
        result = quantise(bundle, material)
        write_quantised(bundle, result, options.out)
    except QuakestreamError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, RequestError) else 3
    figures = result.figures
    print(
        f"{options.out}: AUC {figures['auc']:.4f} in eight bits, {figures['auc_fp32']:.4f} in "
        f"float32; layers left in float32: {', '.join(figures['in_float32']) or 'none'}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
