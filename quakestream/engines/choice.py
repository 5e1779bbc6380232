"""Which runtime scores a bundle on this machine, and the proof that it is the same model.

`auto` is a rule, not a race: a function of the bundle, of what the machine can do and of what is
installed, so that a run that is resumed scores with what it began with. Who has measured with
`quakestream engine bench --keep` has the figures decide instead, of the batch too.
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
"""Mean difference of logits that half precision may make where `auto` takes it, in standard
deviations of the logits."""
_OFF_GRID = 27.37
"""Added to a scene's mean counts: a number that neither half precision holds exactly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """The part of a choice that travels to workers; the keys of finished work depend on it."""

    runtime: str
    batch: int = 0
    """Items of every run; 0 for what suits the device of whoever opens it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What was measured of a runtime: its best batch."""

    per_s: float
    """Windows, crops or rows a second."""
    batch: int = 0
    """As `EngineSpec.batch`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choice:
    """A runtime, open, and held against the reference."""

    spec: EngineSpec
    engine: Engine
    notes: tuple[str, ...]
    """What was chosen and what was passed over, with why: of runtimes nothing if one was named,
    of batches nothing if each device takes what suits it."""

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
    """Opens the runtime asked for, or the best one that works here.

    Args:
        batch: items of every run; 0 for what was measured here, was built, or suits the device.

    Raises:
        EngineError: no runtime of that name; or it is not the same model as the reference.
        DeviceError: the runtime asked for needs what this machine does not have.
        NotBuiltError: the runtime asked for was not built for this device.
        MissingExtraError: the runtime asked for is not installed.
        BundleError: the runtime cannot load the bundle.
    """
    here = machine or this_machine()
    rates = kept_rates(bundle, here)
    if runtime != AUTO:
        return _opened(
            bundle, EngineSpec(runtime=runtime, batch=batch), threads, rates.get(runtime)
        )
    passed: list[str] = []
    remedies: list[str] = []
    for name, obstacle in _ranked(bundle, here, rates):
        if obstacle:
            passed.append(f"{name} ({obstacle})")
            continue
        try:
            found = _opened(bundle, EngineSpec(runtime=name, batch=batch), threads, rates.get(name))
            if RUNTIMES[name].precision in ("bf16", "fp16"):
                _check_rounding(found.engine, bundle)
        except MissingExtraError as error:
            if name == REFERENCE.name:
                raise
            passed.append(f"{name} (not installed)")
            remedies.append(error.remedy)
            continue
        except (EngineError, BundleError) as error:
            if name == REFERENCE.name:
                raise
            passed.append(f"{name} ({' '.join(str(error).split())})")
            continue
        over = f"; passed over: {', '.join(passed)}" if passed else ""
        over += "".join(f"; for more: {remedy}" for remedy in dict.fromkeys(remedies))
        return replace(found, notes=(f"runtime {name} chosen{over}", *found.notes))
    raise EngineError(f"{bundle.uri}: no runtime runs it here: {', '.join(passed)}")


def _opened(bundle: Bundle, asked: EngineSpec, threads: int, measured: Rate | None) -> Choice:
    """The runtime with the batch asked for, else the one that was the fastest, else its own."""
    name, size = asked.runtime, asked.batch
    why = "as asked for"
    if not size and measured and measured.batch:
        size, why = measured.batch, f"the fastest measured here, {measured.per_s:g}/s"
    try:
        engine = open_checked(bundle, name, threads, size)
    except NotBuiltError:
        if asked.batch or not size:
            raise
        size, engine = 0, open_checked(bundle, name, threads)  # what was measured is gone
    runs = engine.batch
    if not size and RUNTIMES[name].prebuilt:
        size, why = runs, "of the plan that was built"
    if not size:
        return Choice(spec=EngineSpec(runtime=name), engine=engine, notes=())
    if not runs:
        note = f"batch {size}, {why}, is not used: {name} leaves no choice of it for this bundle"
        return Choice(spec=EngineSpec(runtime=name), engine=engine, notes=(note,))
    note = f"batch {size} for runtime {name}: {why}"
    if runs != size:
        note += f"; runs of {runs}, else scores would hang on the place in a run"
    return Choice(spec=EngineSpec(runtime=name, batch=size), engine=engine, notes=(note,))


def open_checked(bundle: Bundle, runtime: str, threads: int = 0, batch: int = 0) -> Engine:
    """An engine that gives the bundle's golden logits, within what its precision may differ by.

    Raises:
        EngineError: no runtime of that name; it refuses this machine, was not built for it, or
            is another model.
        MissingExtraError: the runtime is not installed.
        BundleError: the runtime cannot load the bundle.
    """
    engine = open_engine(bundle, runtime=runtime, threads=threads, batch=batch)
    if RUNTIMES[runtime].is_model:
        check_golden(engine, bundle, RUNTIMES[runtime].precision)
    return engine


def _check_rounding(engine: Engine, bundle: Bundle) -> None:
    """Half precision rounds a scene's statistics too, which moves every pixel the same way and
    does not average out; those of a golden batch are round numbers and do not show it.

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
            f"{bundle.uri}: rounding moves logits by {moved:.2g} on average, allowed are "
            f"{ROUNDING:g} of their spread of {spread:.2g}"
        )


def keep_rates(bundle: Bundle, rates: Mapping[str, Rate], machine: Machine | None = None) -> Path:
    """Keeps what was measured by runtime, for this machine and this bundle."""
    path = _rates_path(bundle, machine or this_machine())
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    held = {name: asdict(rate) for name, rate in rates.items()}
    path.write_text(json.dumps(held, indent=2) + "\n")
    return path


def kept_rates(bundle: Bundle, machine: Machine) -> dict[str, Rate]:
    """What `keep_rates` wrote; nothing where it never did, or what lies there is no rates, as
    files of earlier versions, which did not say the batch."""
    try:
        found: Any = json.loads(_rates_path(bundle, machine).read_text())
        return {
            name: Rate(per_s=float(rate["per_s"]), batch=int(rate["batch"]))
            for name, rate in found.items()
            if name in RUNTIMES
        }
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
        return {}


def _ranked(bundle: Bundle, machine: Machine, rates: Mapping[str, Rate]) -> list[tuple[str, str]]:
    """Runtimes, best first, with what speaks against one. Measured ones go before all others."""
    rule = dict(_rule(bundle, machine))
    measured = sorted((n for n in rates if RUNTIMES[n].is_model), key=lambda n: -rates[n].per_s)
    return [(n, rule.get(n, "")) for n in dict.fromkeys([*measured, *rule])]


def _rule(bundle: Bundle, machine: Machine) -> Iterator[tuple[str, str]]:
    for name, runtime in RUNTIMES.items():
        if runtime.obstacle is not None and (machine.gpu or not runtime.on_gpu):
            yield name, runtime.obstacle(bundle, machine)


def _rates_path(bundle: Bundle, machine: Machine) -> Path:
    return engine_folder() / f"rates-{bundle.digest[:24]}-{machine.key}.json"
