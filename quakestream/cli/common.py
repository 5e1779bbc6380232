"""Shared by the commands: streams, exit codes, the progress display."""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from quakestream.errors import StorageError
from quakestream.events import (
    Event,
    GroupCommitted,
    InputQuarantined,
    MapClock,
    MapPublished,
    Observer,
    OutputNotice,
    PlanReady,
    StageStarted,
)
from quakestream.redaction import redacted

if TYPE_CHECKING:
    from quakestream.storage import StorageOptions, Store

S3Endpoint = Annotated[
    str | None, typer.Option("--s3-endpoint", help="S3 endpoint; left out: Amazon's.")
]
Json = Annotated[bool, typer.Option("--json", help="Results as JSON, for machines.")]
S3Anon = Annotated[bool, typer.Option("--s3-anon", help="Read S3 without credentials.")]

EXIT_ATTENTION = 1
EXIT_REQUEST = 2
EXIT_FAILED = 3

PLAIN_EVERY_S = 10.0
"""Seconds between progress lines where stderr is not a terminal."""

# Texts hold names that strangers chose: no markup or emoji code in them is interpreted.
stderr = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)
stdout = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)


def s3_options(endpoint: str | None, anon: bool) -> "StorageOptions | None":
    """What `--s3-endpoint` and `--s3-anon` say; None where neither is given."""
    if not endpoint and not anon:
        return None
    from quakestream.storage import StorageOptions

    s3: dict[str, Any] = {"endpoint_url": endpoint} if endpoint else {}
    return StorageOptions(protocols={"s3": s3 | ({"anon": True} if anon else {})})


def left_out_hint(reason: str, kinds: Iterable[str]) -> str:
    """Where to look if buildings have no image and images were left out; else empty.

    Args:
        reason: why the buildings were not assessed.
        kinds: the kinds of the issues of the run.
    """
    lost = reason in ("no_imagery", "no_pre") and not {"item", "scene"}.isdisjoint(kinds)
    return " (some images were left out: see below)" if lost else ""


def fault_line(kind: str, subject: str, cause: str) -> str:
    """`scene a.tif: no CRS`: a fault of an input, whose name a cause may begin with."""
    return f"{kind} {subject}: {cause.removeprefix(f'{subject}: ')}"


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun: `1 input`, `1,204 inputs`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def print_json(value: Any) -> None:
    """Prints one JSON object on stdout, for machines."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    stdout.print(redacted(text))


STEADY_COMMITS = 3
"""Commits after which a rate is shown: the first one also waits for readers and engines."""


@dataclass(slots=True)
class ProgressState:
    """Progress of a run, from its events. What earlier runs did counts as done, not as speed."""

    cells: int = 0
    done: int = 0
    km2: float = 0.0
    km2_total: float = 0.0
    buildings: int = 0
    buildings_total: int = 0
    commits: int = 0
    """Commits of this run."""
    first_at: float = 0.0
    """Time of the first commit; the time that is left is guessed from the commits after it."""
    first_done: int = 0
    km2_here: float = 0.0
    """Ground that this run scored."""
    clock: MapClock = field(default_factory=MapClock)

    def add(self, event: Event) -> None:
        self.clock(event)
        if isinstance(event, PlanReady):
            self.cells, self.done = event.cells, event.cells_done
            self.km2_total, self.km2 = event.km2, event.km2_done
            self.buildings_total, self.buildings = event.buildings, event.buildings_done
        elif isinstance(event, GroupCommitted):
            self.done += event.cells
            self.km2 += event.km2
            self.km2_here += event.km2
            self.buildings += event.buildings
            self.commits += 1
            if self.commits == 1:
                self.first_at = time.monotonic()
                self.first_done = self.done

    def line(self) -> str:
        """`12 of 40 cells, 1.80 of 6.10 km² scored, 96 of 447 buildings, 412 km²/h, 0:38 left`."""
        text = (
            f"{self.done:,} of {counted(self.cells, 'cell')}, {self.km2:.2f} of "
            f"{self.km2_total:.2f} km² scored, {self.buildings:,} of "
            f"{counted(self.buildings_total, 'building')}"
        )
        elapsed = time.monotonic() - self.first_at
        since_first = self.done - self.first_done
        map_s = self.clock.seconds
        if map_s and self.km2_here and (self.commits >= STEADY_COMMITS or self.done >= self.cells):
            text += f", {self.km2_here / map_s * 3600:,.0f} km²/h"
        if self.commits < STEADY_COMMITS or not since_first or elapsed <= 0:
            return text
        left_s = (self.cells - self.done) * elapsed / since_first
        return text + (f", about {_clock(left_s)} left" if self.done < self.cells else "")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def progress_observer(*, quiet: bool, verbose: bool) -> Iterator[list[Observer]]:
    """Observers for a run: a bar on a terminal, one line every 10 s otherwise, or nothing."""
    if quiet:
        yield []
    elif stderr.is_terminal:
        with _Bar(verbose) as bar:
            yield [bar]
    else:
        yield [_Plain(verbose)]


class _Plain:
    """Progress as lines, for logs."""

    def __init__(self, verbose: bool) -> None:
        self._state, self._verbose, self._last = ProgressState(), verbose, time.monotonic()

    def __call__(self, event: Event) -> None:
        self._state.add(event)
        if isinstance(event, StageStarted):
            if self._state.cells and event.name == "map":
                stderr.print(f"{event.name}: {self._state.line()}")
            elif self._verbose:
                stderr.print(f"{event.name}:")
        elif isinstance(event, OutputNotice):
            stderr.print(redacted(event.text))
        elif isinstance(event, InputQuarantined) and self._verbose:
            stderr.print(f"quarantined {fault_line(event.kind, event.subject, event.cause)}")
        elif isinstance(event, MapPublished):
            stderr.print(f"published: {self._state.line()}; snapshot {event.snapshot}")
        elif time.monotonic() - self._last >= PLAIN_EVERY_S:
            self._last = time.monotonic()
            stderr.print(self._state.line())


class _Bar:
    """Progress as a bar, for terminals."""

    def __init__(self, verbose: bool) -> None:
        self._state, self._verbose = ProgressState(), verbose
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("[bold]{task.description:<8}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[line]}"),
            TimeElapsedColumn(),
            console=stderr,
            transient=False,
        )
        self._task = self._progress.add_task("plan", total=None, line="")

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        self._state.add(event)
        if isinstance(event, StageStarted):
            self._progress.update(self._task, description=event.name)
        if isinstance(event, InputQuarantined) and self._verbose:
            self._progress.console.print(
                f"quarantined {fault_line(event.kind, event.subject, event.cause)}"
            )
        if isinstance(event, OutputNotice):
            self._progress.console.print(redacted(event.text))
        if self._state.cells:
            self._progress.update(
                self._task,
                total=self._state.cells,
                completed=self._state.done,
                line=self._state.line(),
            )


def warn_of_other_products(store: "Store") -> None:
    """Says which products at their fixed names are not those that run.json names.

    Commands read the snapshot; people and other programs open the fixed names.
    """
    from quakestream.outputs.fixed_names import other_products

    try:
        run = json.loads(store.get("run.json"))
        names = other_products(store, run)
    except (StorageError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return  # no map yet, or a damaged run.json, of which the command itself speaks
    if names:
        verb = "is not the product" if len(names) == 1 else "are not the products"
        stderr.print(
            redacted(
                f"{store.uri}: {', '.join(names)} {verb} that run.json names; "
                f"snapshots/{run['snapshot']} holds them, and the same `quakestream map` again "
                "writes them anew"
            )
        )


def warn_of_removed(formats: Sequence[str], out: str) -> None:
    """Says on stderr which files of an earlier map were removed, and what writes them again.

    Args:
        formats: names in `EXPORTS`, or other optional products.
        out: the output of the map.
    """
    if not formats:
        return
    from quakestream.outputs.exports import EXPORTS
    from quakestream.outputs.table import OPTIONAL

    names = ", ".join(OPTIONAL[one].prefix for one in formats)
    again = [one for one in formats if one in EXPORTS]
    how = f": `quakestream export {out.rstrip('/')} {' '.join(again)}` writes them again"
    stderr.print(redacted(f"removed, as of an earlier map: {names}{how if again else ''}"))
