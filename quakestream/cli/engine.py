"""`quakestream engine build|check|bench`."""

from dataclasses import asdict, dataclass
from typing import Annotated

import numpy as np
import typer

from quakestream.bundles import Bundle, load_bundle
from quakestream.cli.bundle import golden_logits
from quakestream.cli.common import EXIT_FAILED, Json, print_json, stdout
from quakestream.cli.refusals import Cause, Refusal, refusal, refusal_lines
from quakestream.engines import REFERENCE, RUNTIMES, choose, open_engine
from quakestream.engines.bench import BenchRequest, Timing, best_rates, time_apart
from quakestream.engines.choice import keep_rates
from quakestream.engines.parity import ALLOWED, ALLOWED_MEAN, golden_shift, within
from quakestream.engines.runtimes import MODEL_RUNTIMES
from quakestream.errors import (
    ConfigError,
    DeviceError,
    EngineError,
    MissingExtraError,
    QuakestreamError,
    RequestError,
)

TENSORRT = "tensorrt"
"""The runtime whose precision `--precision` chooses."""
BUILT = {name: RUNTIMES[name] for name in MODEL_RUNTIMES if RUNTIMES[name].prebuilt}
"""Runtimes that open only what was built beforehand."""
_PRECISIONS = [runtime.precision for runtime in BUILT.values()]

engine_app = typer.Typer(
    help="Compare, time and build the runtimes of a bundle.", no_args_is_help=True
)
Name = Annotated[str, typer.Argument(help="A shipped name, or a folder or .zip by path or URI.")]
Runtimes = Annotated[
    list[str] | None,
    typer.Option("--runtime", help="Runtime; may be repeated. Left out: all that open here."),
]
Threads = Annotated[int, typer.Option(min=0, help="Threads of an engine; 0: all cores.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRow:
    """A runtime compared with the reference on the golden batch."""

    runtime: str
    engine: str = ""
    max_difference: float | None = None
    """Largest difference of a logit. No tolerance applies to it."""
    probability_difference: float | None = None
    """Largest difference of a class probability."""
    probability_difference_allowed: float | None = None
    probability_difference_mean: float | None = None
    """Mean difference over the golden batch."""
    probability_difference_mean_allowed: float | None = None
    same: bool = False
    """True where both differences of probabilities are within what is allowed."""
    refused: str = ""
    """Why the runtime did not run, in one line; empty where it ran."""
    cause: Cause | None = None
    """`not_installed`, `no_device`, `not_built` or `other`; None where it ran."""


@engine_app.command("check")
def check(
    name: Name, runtime: Runtimes = None, threads: Threads = 0, as_json: Json = False
) -> None:
    """Compare runtimes with ONNX Runtime in float32, on the bundle's golden batch.

    A runtime passes where class probabilities differ by no more than its precision allows.

    Example: quakestream engine check damage-context-2023 --runtime openvino-int8
    """
    bundle = load_bundle(name)
    reference = golden_logits(REFERENCE.open(bundle, threads=threads), bundle)
    rows = [_check_row(bundle, r, threads, reference) for r in _known(runtime)]
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        _show_checks(rows, named=bool(runtime))
    if any((not row.same) for row in rows if runtime or not row.refused):
        raise typer.Exit(EXIT_FAILED)


@engine_app.command("bench")
def bench(
    name: Name,
    runtime: Runtimes = None,
    batch: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            help="Windows or crops that an engine scores at once; may be repeated. Left out: what "
            "suits the device.",
        ),
    ] = None,
    threads: Threads = 0,
    seconds: Annotated[
        float, typer.Option(min=0.0, help="Shortest time of each measurement.")
    ] = 3.0,
    keep: Annotated[
        bool,
        typer.Option(
            "--keep", help="Keep the rates: later runs here choose runtime and batch by them."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Time runtimes: rate, latency and peak memory, each in a process of its own.

    Example: quakestream engine bench grades-synthetic --batch 8 --batch 32 --keep
    """
    bundle = load_bundle(name)
    requests = [
        BenchRequest(bundle=name, runtime=one, batch=size, threads=threads, seconds=seconds)
        for one in _known(runtime)
        for size in batch or [0]
    ]
    timed, refused = _timings(requests, print_each=not as_json)
    if keep and timed:
        keep_rates(bundle, best_rates(timed))
    if as_json:
        why = {one.runtime: one.why for one in refused}
        print_json({"timings": [asdict(timing) for _, timing in timed], "refused": why})
    else:
        for line in refusal_lines(refused, said="not timed", named=bool(runtime)):
            stdout.print(line)
    if refused and runtime:
        raise typer.Exit(EXIT_FAILED)


def _timings(
    requests: list[BenchRequest], *, print_each: bool
) -> tuple[list[tuple[BenchRequest, Timing]], list[Refusal]]:
    """Timings, and the runtimes or batches that could not be timed.

    A runtime that was refused is not tried again with another batch.
    """
    timed: list[tuple[BenchRequest, Timing]] = []
    refused: list[Refusal] = []
    for request in requests:
        if any(request.runtime == one.runtime for one in refused):
            continue
        try:
            timing = time_apart(request)
        except QuakestreamError as error:
            only_this = isinstance(error, EngineError) and not isinstance(error, DeviceError)
            of_many = f"{request.runtime}, batch {request.batch}"
            what = of_many if request.batch and only_this else request.runtime
            refused.append(refusal(what, error))
            continue
        timed.append((request, timing))
        if print_each:
            stdout.print(_timing_line(timing))
    return timed, refused


@engine_app.command("build")
def build(
    name: Name,
    runtime: Runtimes = None,
    precision: Annotated[
        str | None, typer.Option(help=f"Precision of TensorRT: {', '.join(_PRECISIONS)}.")
    ] = None,
    batch: Annotated[
        int, typer.Option(min=0, help="Windows or crops scored at once; 0: what suits the device.")
    ] = 0,
    portable: Annotated[
        bool,
        typer.Option(
            "--portable",
            help="TensorRT: opens on any GPU since Ampere and later versions of the same major.",
        ),
    ] = False,
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Compile a bundle for this device into the engine cache, by default for what `auto` takes.

    Example: quakestream engine build damage-context-2023 --runtime tensorrt --precision bf16
    """
    bundle = load_bundle(name)
    runtimes = _runtimes_to_build(bundle, runtime, precision, portable)
    rows = []
    for one in runtimes:
        if builder := RUNTIMES[one].builder:
            where = str(builder(bundle, batch=batch, portable=portable))
        else:  # opened, so that an error of this runtime shows
            RUNTIMES[one].open(bundle, threads=threads, batch=batch)
            where = ""
        rows.append({"runtime": one, "built": where})
    if as_json:
        print_json(rows)
        return
    for row in rows:
        built = f"built at {row['built']}"
        what = built if row["built"] else "nothing to build, it compiles when it is opened"
        stdout.print(f"{row['runtime']}: {what}")


def _runtimes_to_build(
    bundle: Bundle, named: list[str] | None, precision: str | None, portable: bool
) -> list[str]:
    """The runtimes to build: `--precision` names one of TensorRT's.

    Raises:
        ConfigError: if there is no such precision, or what was named is not TensorRT's.
    """
    by_precision = {runtime.precision: name for name, runtime in BUILT.items()}
    if precision is not None and precision not in by_precision:
        raise ConfigError(
            "unknown precision", "--precision", f"one of {', '.join(by_precision)}", precision
        )
    if precision is None and not portable:
        return _known(named) if named else [choose(bundle).runtime]
    fixed = by_precision[precision] if precision else ""
    runtimes = _known(named or [TENSORRT])
    for name in runtimes:
        if name not in BUILT or (fixed and name not in (TENSORRT, fixed)):
            option = f"--precision {precision}" if precision else "--portable"
            raise ConfigError(
                f"runtime cannot be built with {option}",
                "--runtime",
                expected=fixed or " or ".join(BUILT),
                got=name,
                remedy="the precision of other runtimes is part of their name",
            )
    return list(dict.fromkeys(fixed or name for name in runtimes))


def _known(runtimes: list[str] | None) -> list[str]:
    """The runtimes asked for, or all of them.

    Raises:
        ConfigError: if one is unknown.
    """
    for name in runtimes or []:
        if name not in RUNTIMES:
            known = ", ".join(MODEL_RUNTIMES)
            raise ConfigError("unknown runtime", "--runtime", f"one of {known}", name)
    return runtimes or list(MODEL_RUNTIMES)


def _check_row(bundle: Bundle, runtime: str, threads: int, reference: np.ndarray) -> CheckRow:
    try:
        engine = open_engine(bundle, runtime=runtime, threads=threads)
        logits = golden_logits(engine, bundle)
    except (EngineError, RequestError, MissingExtraError) as error:
        why = refusal(runtime, error)
        return CheckRow(runtime=runtime, refused=why.why, cause=why.cause)
    if logits.shape != reference.shape:
        return CheckRow(
            runtime=runtime,
            engine=engine.name,
            refused=f"logits have shape {logits.shape}, the reference has {reference.shape}",
            cause="other",
        )
    try:
        most, mean = golden_shift(engine, bundle)
    except EngineError as error:
        why = refusal(runtime, error)
        return CheckRow(runtime=runtime, engine=engine.name, refused=why.why, cause=why.cause)
    precision = RUNTIMES[runtime].precision
    return CheckRow(
        runtime=runtime,
        engine=engine.name,
        max_difference=float(np.abs(logits - reference).max(initial=0.0)),
        probability_difference=most,
        probability_difference_allowed=ALLOWED[precision],
        probability_difference_mean=mean,
        probability_difference_mean_allowed=ALLOWED_MEAN[precision],
        same=within(precision, most, mean),
    )


def _show_checks(rows: list[CheckRow], *, named: bool) -> None:
    """What ran, each with its tolerance, and then what did not."""
    for row in rows:
        if row.max_difference is not None:
            stdout.print(_check_line(row))
    refused = [
        Refusal(runtime=row.runtime, cause=row.cause or "other", why=row.refused)
        for row in rows
        if row.max_difference is None
    ]
    for line in refusal_lines(refused, said="refused", named=named):
        stdout.print(line)


def _check_line(row: CheckRow) -> str:
    verdict = "pass" if row.same else "FAIL, NOT the same model; use runtime onnxruntime"
    return (
        f"{row.runtime} ({row.engine}): {verdict}: probabilities differ by "
        f"{row.probability_difference:.2g} at most ({row.probability_difference_allowed:g} "
        f"allowed), {row.probability_difference_mean:.2g} on average "
        f"({row.probability_difference_mean_allowed:g} allowed); logits by up to "
        f"{row.max_difference:.2g}"
    )


def _timing_line(timing: Timing) -> str:
    rates = [f"{timing.per_s:,.1f} {timing.items}/s"]
    rates += [f"{timing.mpx_per_s:,.2f} Mpx/s"] if timing.mpx_per_s is not None else []
    rates += [f"{timing.km2_per_h:,.0f} km²/h (scoring alone)"] if timing.km2_per_h else []
    return (
        f"{timing.runtime}, {timing.batch} {timing.items} at once{_runs(timing)}, "
        f"{timing.threads} threads: {', '.join(rates)}; "
        f"{timing.latency_p50_ms:,.1f} ms for {timing.batch} (p95 {timing.latency_p95_ms:,.1f}); "
        f"peak {timing.peak_mb:,.0f} MB, opened in {timing.open_s:.1f} s"
    )


def _runs(timing: Timing) -> str:
    """The items of an engine's own runs, where they differ from the batch it was given."""
    return f" in runs of {timing.run}" if timing.run not in (0, timing.batch) else ""
