"""Picks the engine of a job where engines will run, and times it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quakestream.bundles import Bundle
from quakestream.engines import AUTO, RUNTIMES, Batch, Choice, Engine, EngineSpec, choose
from quakestream.engines.machine import usable_cores
from quakestream.errors import (
    BundleError,
    ConfigError,
    DeviceError,
    EngineError,
    NotBuiltError,
    ShapeError,
)

if TYPE_CHECKING:  # this may run on a worker, which needs no run file
    from quakestream.config import Profile

CROPS = 64
"""Crops that an engine is timed on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """What the driver knows of the engine that will score a bundle."""

    spec: EngineSpec
    name: str
    """Runtime and version."""
    on_gpu: bool
    """True where that engine computes on a GPU."""
    seconds_per_window: float
    """Time to score one window or crop, measured on the bundle's golden batch."""
    notes: tuple[str, ...] = ()


PickEngine = Callable[[Bundle, "Profile"], EngineFacts]


def pick_engine(bundle: Bundle, settings: "Profile") -> EngineFacts:
    """Facts of the engine that the run asks for, or of the best that works here.

    Raises:
        RequestError: as `open_picked`.
    """
    return open_picked(bundle, settings)[0]


def open_picked(bundle: Bundle, settings: "Profile") -> tuple[EngineFacts, Engine]:
    """Opens the engine that the run asks for, or the best that works here, and times it.

    Raises:
        ConfigError: the runtime that the run asks for is not there.
        BundleError: the bundle does not run.
        MissingExtraError: the runtime that the run asks for is not installed.
    """
    choice = _choice(bundle, settings)
    facts = EngineFacts(
        spec=choice.spec,
        name=choice.engine.name,
        on_gpu=choice.engine.on_gpu,
        seconds_per_window=_seconds_per_window(bundle, choice.engine, settings.threads),
        notes=choice.notes,
    )
    return facts, choice.engine


def _choice(bundle: Bundle, settings: "Profile") -> Choice:
    """The engine, held against the bundle's golden batch."""
    where = f"execution.runtime: {settings.runtime}"
    if settings.runtime not in (AUTO, *RUNTIMES):
        raise ConfigError(
            "no runtime of that name", where, expected=f"{AUTO} or one of {', '.join(RUNTIMES)}"
        )
    try:
        return choose(
            bundle, runtime=settings.runtime, batch=settings.batch, threads=settings.threads
        )
    except DeviceError as error:
        remedy = f"{error.remedy}, or name {AUTO}, which takes a runtime that works here"
        raise ConfigError(error.what, where, error.expected, error.got, remedy) from error
    except NotBuiltError as error:
        remedy = f"{error.remedy}, or name {AUTO}"
        raise ConfigError(error.what, where, error.expected, error.got, remedy) from error
    except (EngineError, ShapeError) as error:
        raise BundleError(
            f"the bundle does not run on its own golden batch ({error})",
            bundle.uri,
            remedy="export it again, or name another execution.runtime",
        ) from error


def _seconds_per_window(bundle: Bundle, engine: Engine, threads: int) -> float:
    """Seconds for one window or crop, with enough of them at once for every thread to work."""
    golden = Batch.of(bundle.golden, bundle.spec)
    count = 2 * (threads or usable_cores()) if bundle.spec.scores_pixels else CROPS
    batch = golden.repeated(count)
    engine.score(batch)
    began = time.perf_counter()
    engine.score(batch)
    return (time.perf_counter() - began) / len(batch)
