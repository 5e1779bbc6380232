"""Chooses the runtime that scores a bundle on this machine, and checks that it is the same model.

`auto` follows a rule and measures nothing. The choice depends on the bundle, the machine and the
installed packages, so that a resumed run scores with the runtime it began with. Rates that
`quakestream engine bench --keep` has measured come before the rule, and decide the batch too.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from quakestream.bundles import Bundle
from quakestream.engines.base import Batch, Engine
from quakestream.engines.cache import engine_folder
from quakestream.engines.machine import Machine, this_machine
from quakestream.engines.parity import check_golden
from quakestream.engines.runtimes import REFERENCE, RUNTIMES, open_engine
from quakestream.errors import BundleError, EngineError, MissingExtraError, NotBuiltError

AUTO = "auto"
ROUNDING = 0.02
"""Largest mean difference of logits at which `auto` takes half precision, in standard deviations of
the logits."""
_OFF_GRID = 27.37
"""Added to a scene's mean counts. Neither half precision holds this number exactly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """The part of a choice that travels to workers. The keys of finished work depend on it."""

    runtime: str
    batch: int = 0
    """Items of every run; 0 for a number that suits the device of the worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """The measured speed of a runtime with its best batch."""

    per_s: float
    """Windows, crops or rows a second."""
    batch: int = 0
    """Items of every run; 0 for a number that suits the device."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choice:
    """An open engine that agrees with the reference."""

    spec: EngineSpec
    engine: Engine
    notes: tuple[str, ...]
    """The runtime that was chosen, the runtimes that were passed over and why, and the batch.

    There is no note on runtimes if the run names one, and none on batches if each device takes the
    number that suits it.
    """

    @property
    def runtime(self) -> str:
        return self.spec.runtime


def choose(
    bundle: Bundle,
    *,
    runtime: str = AUTO,
    batch: int = 0,
    threads: int = 0,
    machine: Machine | None = None,
) -> Choice:
    """Opens the requested runtime, or the best one that works here.

    Args:
        batch: items of every run; 0 for the batch that was measured here, was built, or suits the
            device.

    Raises:
        EngineError: no runtime has that name, or it is not the same model as the reference.
        DeviceError: this machine lacks a device that the requested runtime needs.
        NotBuiltError: the requested runtime has no engine that was built for this device.
        MissingExtraError: the requested runtime is not installed.
        BundleError: the runtime cannot load the bundle.
    """
    here = machine or this_machine()
    rates = kept_rates(bundle, here)
    if runtime != AUTO:
        return _open_choice(
            bundle, EngineSpec(runtime=runtime, batch=batch), threads, rates.get(runtime)
        )
    passed_over: list[str] = []
    remedies: list[str] = []
    for name, obstacle in _ranked(bundle, here, rates):
        if obstacle:
            passed_over.append(f"{name} ({obstacle})")
            continue
        try:
            spec = EngineSpec(runtime=name, batch=batch)
            choice = _open_choice(bundle, spec, threads, rates.get(name))
            if RUNTIMES[name].precision in ("bf16", "fp16"):
                _check_rounding(choice.engine, bundle)
        except MissingExtraError as error:
            if name == REFERENCE.name:
                raise
            passed_over.append(f"{name} (not installed)")
            remedies.append(error.remedy)
            continue
        except (EngineError, BundleError) as error:
            if name == REFERENCE.name:
                raise
            passed_over.append(f"{name} ({' '.join(str(error).split())})")
            continue
        note = f"runtime {name} chosen"
        note += f"; passed over: {', '.join(passed_over)}" if passed_over else ""
        note += "".join(f"; to add one: {remedy}" for remedy in dict.fromkeys(remedies))
        return replace(choice, notes=(note, *choice.notes))
    raise EngineError(f"no runtime works here: {', '.join(passed_over)}", bundle.uri)


def _open_choice(bundle: Bundle, request: EngineSpec, threads: int, rate: Rate | None) -> Choice:
    """Opens a runtime with the requested batch, else with the fastest one, else with its own."""
    name, size = request.runtime, request.batch
    why = "as requested"
    if not size and rate and rate.batch:
        size, why = rate.batch, f"the fastest measured here, {rate.per_s:g}/s"
    try:
        engine = open_checked(bundle, name, threads, size)
    except NotBuiltError:
        if request.batch or not size:
            raise
        size, engine = 0, open_checked(bundle, name, threads)  # the measured plan is gone
    runs = engine.batch
    if not size and RUNTIMES[name].prebuilt:
        size, why = runs, "of the plan that was built"
    if not size:
        return Choice(spec=EngineSpec(runtime=name), engine=engine, notes=())
    if not runs:
        note = (
            f"batch {size}, {why}, is not used: {name} has a fixed length of runs for this bundle"
        )
        return Choice(spec=EngineSpec(runtime=name), engine=engine, notes=(note,))
    note = f"batch {size} for runtime {name}: {why}"
    if runs != size:
        note += f"; runs of {runs}, as scores would depend on the place in a longer run"
    return Choice(spec=EngineSpec(runtime=name, batch=size), engine=engine, notes=(note,))


def open_checked(bundle: Bundle, runtime: str, threads: int = 0, batch: int = 0) -> Engine:
    """Opens an engine and checks it against the bundle's golden batch.

    Raises:
        EngineError: no runtime has that name, it refuses this machine, it was not built for it, or
            it is another model.
        MissingExtraError: the runtime is not installed.
        BundleError: the runtime cannot load the bundle.
    """
    engine = open_engine(bundle, runtime=runtime, threads=threads, batch=batch)
    if RUNTIMES[runtime].is_model:
        check_golden(engine, bundle, RUNTIMES[runtime].precision)
    return engine


def _check_rounding(engine: Engine, bundle: Bundle) -> None:
    """Checks that half precision of a scene's statistics does not move the logits.

    Rounded statistics move every pixel the same way, which does not average out. The statistics of
    a golden batch are round numbers and do not show it.

    Raises:
        EngineError: if the logits move by more than a stated share of their spread.
    """
    given = {k: v + _OFF_GRID if k.endswith("_mean_NB") else v for k, v in bundle.golden.items()}
    batch = Batch.of(given, bundle.spec)
    expected = REFERENCE.open(bundle).score(batch)
    moved = float(np.abs(engine.score(batch) - expected).mean())
    spread = float(expected.std())
    if not moved <= ROUNDING * spread:
        raise EngineError(
            "rounding moves logits too far",
            bundle.uri,
            expected=f"at most {ROUNDING * spread:.2g} on average",
            got=f"{moved:.2g}",
        )


def keep_rates(bundle: Bundle, rates: Mapping[str, Rate], machine: Machine | None = None) -> Path:
    """Keeps measured rates by runtime, for this machine and this bundle."""
    path = _rates_path(bundle, machine or this_machine())
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    content = {name: asdict(rate) for name, rate in rates.items()}
    path.write_text(json.dumps(content, indent=2) + "\n")
    return path


def kept_rates(bundle: Bundle, machine: Machine) -> dict[str, Rate]:
    """Rates that `keep_rates` wrote.

    Empty if there is no file or it holds no such rates. Files of earlier versions have no batch.
    """
    try:
        content: Any = json.loads(_rates_path(bundle, machine).read_text())
        return {
            name: Rate(per_s=float(rate["per_s"]), batch=int(rate["batch"]))
            for name, rate in content.items()
            if name in RUNTIMES
        }
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
        return {}


def _ranked(bundle: Bundle, machine: Machine, rates: Mapping[str, Rate]) -> list[tuple[str, str]]:
    """Runtimes, best first, each with its obstacle. Measured runtimes come first."""
    rule = dict(_rule(bundle, machine))
    measured = sorted((n for n in rates if RUNTIMES[n].is_model), key=lambda n: -rates[n].per_s)
    return [(n, rule.get(n, "")) for n in dict.fromkeys([*measured, *rule])]


def _rule(bundle: Bundle, machine: Machine) -> Iterator[tuple[str, str]]:
    for name, runtime in RUNTIMES.items():
        if runtime.obstacle is not None and (machine.gpu or not runtime.on_gpu):
            yield name, runtime.obstacle(bundle, machine)


def _rates_path(bundle: Bundle, machine: Machine) -> Path:
    return engine_folder() / f"rates-{bundle.digest[:24]}-{machine.key}.json"
