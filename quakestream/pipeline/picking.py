"""Which engine a run scores with: asked where engines will run, which may be another machine."""

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

if TYPE_CHECKING:  # a worker may be asked
    from quakestream.config import Profile

CROPS = 64
"""Crops that an engine is timed on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picked:
    """The engine of a run, as the driver hears of it."""

    spec: EngineSpec
    engine: str
    """Runtime and version."""
    on_gpu: bool
    """True where that engine computes on a GPU."""
    seconds_per_window: float
    """Scoring one window or crop, measured on the bundle's golden batch."""
    notes: tuple[str, ...]


PickEngine = Callable[[Bundle, "Profile"], Picked]


def pick_engine(bundle: Bundle, settings: "Profile") -> Picked:
    """Opens what the run asks for, or the best of what works here, and times it.

    Raises:
        ConfigError: what it asks for is not there.
        BundleError: the bundle does not run.
        MissingExtraError: the runtime asked for is not installed.
    """
    chosen = _chosen(bundle, settings)
    return Picked(
        spec=chosen.spec,
        on_gpu=chosen.engine.on_gpu,
        engine=chosen.engine.name,
        seconds_per_window=_timed(bundle, chosen.engine, settings.threads),
        notes=chosen.notes,
    )


def _chosen(bundle: Bundle, settings: "Profile") -> Choice:
    """The engine that will run, held against the bundle's golden batch."""
    if settings.runtime not in (AUTO, *RUNTIMES):
        raise ConfigError(
            f"execution.runtime is {settings.runtime!r}; there are {AUTO}, {', '.join(RUNTIMES)}"
        )
    try:
        return choose(
            bundle, runtime=settings.runtime, batch=settings.batch, threads=settings.threads
        )
    except DeviceError as error:
        raise ConfigError(
            f"execution.runtime is {settings.runtime!r}: {error}; or name {AUTO}, which takes what "
            "works here"
        ) from error
    except NotBuiltError as error:
        raise ConfigError(
            f"execution.runtime is {settings.runtime!r}: {error}; or name {AUTO}"
        ) from error
    except (EngineError, ShapeError) as error:
        raise BundleError(
            f"{bundle.uri} does not run on its own golden batch: {error}; export it again, or name "
            "another execution.runtime"
        ) from error


def _timed(bundle: Bundle, engine: Engine, threads: int) -> float:
    """Seconds for one window or crop, with enough of them at once for every thread to work."""
    golden = Batch.of(bundle.golden, bundle.spec)
    at_once = 2 * (threads or usable_cores()) if bundle.spec.scores_pixels else CROPS
    batch = golden.repeated(at_once)
    engine.score(batch)
    began = time.perf_counter()
    engine.score(batch)
    return (time.perf_counter() - began) / len(batch)
