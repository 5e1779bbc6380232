"""`quakestream bundle show|verify|list`."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from quakestream.bundles import Bundle, bundle_statement, load_bundle, shipped_names
from quakestream.cli.common import EXIT_FAILED, Json, print_json, stdout
from quakestream.domain import BundleSpec
from quakestream.domain.bundle import BUILDING_TASKS
from quakestream.engines import Batch, Engine, open_engine
from quakestream.engines.parity import ALLOWED, ALLOWED_MEAN, check_golden, golden_shift
from quakestream.engines.runtimes import runtime_named
from quakestream.errors import BundleError, EngineError

PARITY = 1e-3
"""Largest difference of logits from the golden batch that counts as the same model."""

bundle_app = typer.Typer(help="List, show and verify models.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="A shipped name, or a folder or .zip by path or URI.")]


@bundle_app.command("list")
def list_bundles(as_json: Json = False) -> None:
    """List the bundles that come with the package. Example: quakestream bundle list"""
    bundles = [load_bundle(name) for name in shipped_names()]
    if as_json:
        print_json([bundle_statement(bundle) for bundle in bundles])
        return
    for bundle in bundles:
        spec = bundle.spec
        stdout.print(
            f"{spec.name} {spec.version}: {spec.task}, {_inputs(spec)}, "
            f"{bundle.size_bytes / 1e6:.2f} MB"
        )


@bundle_app.command("show")
def show(name: Name, as_json: Json = False) -> None:
    """Show what a model needs and gives, and its card. Example: quakestream bundle show NAME"""
    bundle = load_bundle(name)
    if as_json:
        print_json({**asdict(bundle.spec), "digest": bundle.digest})
        return
    spec = bundle.spec
    stdout.print(f"{spec.name} {spec.version} ({bundle.digest[:12]}…) at {bundle.uri}")
    for line in _needs(spec):
        stdout.print(f"  {line}")
    stdout.print(f"  classes {', '.join(spec.labels)}; threshold {spec.thresholds.balanced:g}")
    if spec.task in BUILDING_TASKS:
        stdout.print(f"  {_calibrated(spec)}")
    if "card.md" in bundle.files:
        stdout.print(bundle.files["card.md"].decode())


def _inputs(spec: BundleSpec) -> str:
    """The inputs of a model in a few words: `pre+post, 0.5 m`, `post+hazard, 0.5 m`, `hazard`."""
    inputs = "+".join([*spec.epochs, *(["hazard"] if spec.hazard else [])])
    return f"{inputs}, {spec.gsd_m:g} m" if spec.epochs else inputs


def _needs(spec: BundleSpec) -> Iterator[str]:
    """The inputs of a model, line by line."""
    if spec.epochs:
        yield f"task {spec.task}, needs {' and '.join(spec.epochs)}, bands {spec.bands}"
    else:
        yield f"task {spec.task}, needs no imagery"
    if spec.task == "building":
        side_m = spec.window_px * spec.gsd_m
        yield f"{spec.gsd_m:g} m, a crop of {spec.window_px} px ({side_m:g} m) around a building"
    elif spec.epochs:
        yield f"{spec.gsd_m:g} m, windows of {spec.window_px} px with halo {spec.halo_px} px"
    if spec.hazard:
        yield f"hazard values {', '.join(f'{h.name} ({h.unit})' for h in spec.hazard)}"


def _calibrated(spec: BundleSpec) -> str:
    """How scores of buildings become probabilities."""
    calibration = spec.calibration
    if calibration is None:
        return "no calibration of buildings: a map has scores, and no share of destroyed ones"
    return (
        f"calibrated for buildings on {calibration.fitted_on}; by "
        f"{', '.join(calibration.features)}; between regions it is off by "
        f"{calibration.region_sd:.2f} in log-odds (standard deviation)"
    )


@bundle_app.command("verify")
def verify(name: Name, runtime: str = "onnxruntime", as_json: Json = False) -> None:
    """Check digests, and the golden batch on a runtime. Example: quakestream bundle verify NAME"""
    bundle = load_bundle(name)
    difference = golden_difference(bundle, runtime)
    same = _same(bundle, runtime, difference)
    if as_json:
        print_json({"name": bundle.spec.name, "difference": difference, "ok": same})
    else:
        stdout.print(
            f"{bundle.spec.name}: digests match; golden batch on {runtime}: "
            f"{_difference(bundle, runtime, difference)}: {'ok' if same else 'NOT the same model'}"
        )
    if not same:
        raise typer.Exit(EXIT_FAILED)


def _same(bundle: Bundle, runtime: str, difference: float) -> bool:
    """Compares logits in float32, and probabilities in lower precision."""
    precision = runtime_named(runtime).precision
    if precision == "fp32":
        return difference <= PARITY
    try:
        check_golden(open_engine(bundle, runtime=runtime), bundle, precision)
    except EngineError:
        return False
    return True


def _difference(bundle: Bundle, runtime: str, logits: float) -> str:
    """What is compared, beside its tolerance: logits in float32, else probabilities."""
    precision = runtime_named(runtime).precision
    if precision == "fp32":
        return f"logits differ by {logits:.2g} at most ({PARITY:g} allowed)"
    most, mean = golden_shift(open_engine(bundle, runtime=runtime), bundle)
    return (
        f"probabilities differ by {most:.2g} at most ({ALLOWED[precision]:g} allowed), "
        f"{mean:.2g} on average ({ALLOWED_MEAN[precision]:g} allowed)"
    )


def golden_difference(bundle: Bundle, runtime: str) -> float:
    """Largest absolute difference of logits on the golden batch.

    Raises:
        BundleError: if the logits have another shape than the reference.
    """
    logits = golden_logits(open_engine(bundle, runtime=runtime), bundle)
    reference = bundle.golden["logits"]
    if logits.shape != reference.shape:
        raise BundleError(
            f"logits of the golden batch on {runtime} have another shape than the reference",
            f"bundle {bundle.uri}",
            expected=str(reference.shape),
            got=str(logits.shape),
            remedy="export the bundle again",
        )
    return float(np.abs(logits - reference).max(initial=0.0))


def golden_logits(engine: Engine, bundle: Bundle) -> NDArray[np.float32]:
    """Logits of the golden batch, of windows or of crops."""
    return engine.score(Batch.of(bundle.golden, bundle.spec))
