"""`quakestream map`: the main job."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from quakestream.cli.common import (
    EXIT_ATTENTION,
    Json,
    S3Anon,
    S3Endpoint,
    counted,
    fault_line,
    left_out_hint,
    print_json,
    progress_observer,
    s3_options,
    stderr,
    stdout,
    warn_of_removed,
)
from quakestream.cli.signals import COMMITTED, watch_signals
from quakestream.config import RunFile, open_run
from quakestream.events import Observer
from quakestream.outputs.expected import expected
from quakestream.outputs.left_out import left_out_line
from quakestream.outputs.metrics import MetricsFile
from quakestream.outputs.numerals import models_text
from quakestream.pipeline.backends import open_backend
from quakestream.pipeline.run import Result, map_run
from quakestream.redaction import redacted

WHERE_TO_LOOK = "check the AOI, the dates and the images"
ISSUES_SHOWN = 5
"""Inputs with problems that are named on the console; quarantine.parquet names all."""

RunArgument = Annotated[str, typer.Argument(help="The run file, a path or URI.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Also list quarantined inputs.")]


Out = Annotated[str | None, typer.Option(help="Where the map is written, a path or URI.")]
BackendName = Annotated[str | None, typer.Option("--backend", help="local or ray.")]
Address = Annotated[str | None, typer.Option(help="Address of a Ray cluster.")]
MetricsPath = Annotated[
    Path | None,
    typer.Option(
        envvar="QUAKESTREAM_METRICS_FILE", help="Metrics for Prometheus, kept up to date."
    ),
]


def map_command(
    run_file: RunArgument,
    out: Out = None,
    backend: BackendName = None,
    address: Address = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Discard what earlier runs committed.")
    ] = False,
    metrics_file: MetricsPath = None,
    endpoint_url: S3Endpoint = None,
    anon: S3Anon = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make the map: one verdict per building. Run it again and it resumes.

    Example: quakestream map run.yaml --out s3://bucket/runs/kahramanmaras --backend ray
    """
    run = open_run(run_file, s3_options(endpoint_url, anon))
    where = MapPlace(
        out=out,
        backend=backend,
        address=address,
        metrics=metrics_file,
        quiet=quiet,
        verbose=verbose,
    )
    result = where.map(run, fresh=fresh)
    report_result(result, as_json=as_json)
    end_of_map(result)


@dataclass(frozen=True, slots=True, kw_only=True)
class MapPlace:
    """Where a command maps and writes, and what it shows meanwhile."""

    out: str | None
    backend: str | None
    address: str | None
    metrics: Path | None
    quiet: bool
    verbose: bool = False

    def map(self, run: RunFile, *, fresh: bool = False, only_new: bool = False) -> Result:
        """Makes the map of a run."""
        metrics: list[Observer] = [MetricsFile(self.metrics)] if self.metrics else []
        with (
            open_backend(run, self.backend, self.address) as opened,
            progress_observer(quiet=self.quiet, verbose=self.verbose) as observers,
        ):
            watch_signals()  # Ray has taken them
            observers = [*observers, *metrics, COMMITTED]
            return map_run(
                run,
                backend=opened,
                out=self.out,
                fresh=fresh,
                only_new=only_new,
                observers=observers,
            )


def end_of_map(result: Result) -> None:
    """Says on stderr what a map lacks, and ends with exit code 1 if it needs attention."""
    tell_of_map(result)
    if why := attention(result):
        stderr.print(f"needs attention (exit {EXIT_ATTENTION}): {'; '.join(why)}")
        raise typer.Exit(EXIT_ATTENTION)


def tell_of_map(result: Result) -> None:
    """Says on stderr which exported files are gone, and which answers are not applied."""
    warn_of_removed(result.removed, result.out)
    warn_of_kept_answers(result)


def attention(result: Result) -> list[str]:
    """Why a map needs attention: what failed, is unseen, contradicted or waits."""
    found, counts = expected(result.run), result.run["counts"]
    causes = len(set(result.issues))
    why = []
    if "bundle" in result.run:
        if not counts["assessed"]:
            reasons = ", ".join(f"{n:,} {reason}" for reason, n in counts["reasons"].items())
            why.append(f"no building was assessed ({reasons}); {WHERE_TO_LOOK}")
    elif not counts["cells"]:
        why.append(f"no ground was looked at; {WHERE_TO_LOOK}")
    if causes:
        why.append(f"{counted(causes, 'problem')} of inputs, in quarantine.parquet")
    if found and found.warnings:
        why.append("a warning stands beside the expected number")
    if "answers_not_applied" in result.run:
        why.append("kept answers are not applied")
    return why


def needs_attention(result: Result) -> bool:
    """True if inputs failed, nothing was looked at, a share is contradicted, or answers wait."""
    return bool(attention(result))


def warn_of_kept_answers(result: Result) -> None:
    """Says on stderr that answers of spot checks do not correct this map, and what applies them."""
    if kept := result.run.get("answers_not_applied"):
        stderr.print(
            redacted(
                "the numbers of this map are not verified: answers of an earlier one are kept in "
                f"{kept}; `quakestream verify {result.out.rstrip('/')}` applies them"
            )
        )


def report_result(result: Result, *, as_json: bool) -> None:
    """Prints counts and the path of the map."""
    if as_json:
        print_json({"out": result.out, **result.run})
        return
    counts: dict[str, Any] = result.run["counts"]
    stdout.print(f"map with {models_text(result.run)}")
    if "bundle" in result.run:
        stdout.print(f"{counted(counts['footprints'], 'building')}: {assessed(counts)}")
    if slides := counts.get("landslides"):
        stdout.print(f"{counted(slides['slides'], 'landslide')}, {slides['km2']:.3f} km²")
        if not counts["cells"] and not slides["slides"]:
            stdout.print("  no ground was looked at for landslides: `quakestream plan` says why")
        if left := left_out_line(result.run):
            stdout.print(f"  {left}", style="dim")
    if found := expected(result.run):
        stdout.print(found.line)
        for sentence in found.beside_it:
            stdout.print(sentence)
    adapted_to = result.run.get("bundle", {}).get("adapted_to")
    if adapted_to not in (None, result.run["event"]["id"]):
        stdout.print(f"note: the bundle was adapted to event {adapted_to}, which is another one")
    if result.run.get("bundle", {}).get("forced"):
        stdout.print(
            "note: the bundle was not shown to be better than the map it was made from; the number "
            "of destroyed buildings may be too low"
        )
    for doubt in result.run.get("footprint_doubts", ()):
        stdout.print(f"note: {doubt}")
    for label, number in counts["damage"].items():
        stdout.print(f"  {label:<20}{number:>9,}")
    for reason, number in counts["reasons"].items() if "bundle" in result.run else ():
        hint = left_out_hint(reason, (i.kind for i in result.issues))
        stdout.print(f"  not assessed: {reason:<20}{number:>9,}{hint}", style="dim")
    if counts["outside_aoi"]:
        stdout.print(outside_aoi(counts["outside_aoi"]), style="dim")
    _show_issues(result)
    stdout.print(redacted(f"map: {result.out.rstrip('/')}/index.html"))


def outside_aoi(number: int) -> str:
    """What became of footprints outside the AOI."""
    verb = "lies" if number == 1 else "lie"
    return f"{counted(number, 'footprint')} of the file {verb} outside the AOI: not on the map"


def assessed(counts: Mapping[str, Any]) -> str:
    """`all assessed`, `none assessed` or `430 assessed, 17 not`."""
    if not counts["not_assessed"]:
        return "all assessed"
    if not counts["assessed"]:
        return "none assessed"
    return f"{counts['assessed']:,} assessed, {counts['not_assessed']:,} not"


def _show_issues(result: Result) -> None:
    """The inputs that need attention: the first ones by name and cause, the others by number."""
    issues = list(dict.fromkeys((i.kind, i.subject, i.cause) for i in result.issues))
    if not issues:
        return
    needs = "input needs attention" if len(issues) == 1 else "inputs need attention"
    stdout.print(f"{len(issues):,} {needs}:")
    for kind, subject, cause in issues[:ISSUES_SHOWN]:
        stdout.print(f"  {fault_line(kind, subject, cause)}")
    if len(issues) > ISSUES_SHOWN:
        stdout.print(f"  and {len(issues) - ISSUES_SHOWN:,} more: all are in quarantine.parquet")
