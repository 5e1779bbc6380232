"""`quakestream demo`: a synthetic earthquake with a known answer, end to end."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from quakestream.cli.common import Json, counted, print_json, progress_observer, stdout
from quakestream.cli.map import Quiet
from quakestream.config import open_run
from quakestream.outputs.expected import expected
from quakestream.outputs.left_out import left_out_line
from quakestream.outputs.scores import Score, score_stored
from quakestream.outputs.slide_scores import SlideScore, score_slides_stored
from quakestream.outputs.truth import TruthRequest
from quakestream.pipeline.backends.local import LocalBackend
from quakestream.pipeline.run import Result, map_run
from quakestream.synthetic import DEMO, HILLS, make_earthquake

DEMO_SEED = 7


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the earthquake and its map.")] = Path(
        "demo-out"
    ),
    seed: Annotated[
        int, typer.Option(help="Seed; each seed gives another earthquake.")
    ] = DEMO_SEED,
    landslides: Annotated[
        bool,
        typer.Option(help="Adds hills with landslides and their prior; takes about twice as long."),
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a synthetic earthquake, map it, and score the map against the known truth.

    Example: quakestream demo --out demo-out
    """
    began = time.perf_counter()
    if not (quiet or as_json):
        stdout.print(f"making a synthetic earthquake (seed {seed}) under {out}")
    earthquake = make_earthquake(out, seed=seed, size=HILLS if landslides else DEMO)
    run = open_run(earthquake.run_file)
    with progress_observer(quiet=quiet or as_json, verbose=False) as observers:
        backend = LocalBackend(readers=run.profile_settings.readers)
        result = map_run(run, backend=backend, fresh=True, observers=observers)
    score = score_result(result, earthquake.truth)
    slides = None
    if earthquake.slides is not None:
        slides = score_slides_stored(result.store, TruthRequest(uri=str(earthquake.slides)))
    seconds = time.perf_counter() - began
    if as_json:
        scores = {"score": score.to_json()}
        scores |= {} if slides is None else {"landslide_score": slides.to_json()}
        print_json({"out": result.out, "seconds": seconds, **scores, **result.run})
    else:
        _show(result, score, slides, seconds)


def score_result(result: Result, truth: Path) -> Score:
    """Scores the map against the known truth."""
    return score_stored(result.store, TruthRequest(uri=str(truth)))


def _show(result: Result, score: Score, slides: SlideScore | None, seconds: float) -> None:
    counts: dict[str, Any] = result.run["counts"]
    reasons = ", ".join(f"{n} {reason}" for reason, n in counts["reasons"].items())
    stdout.print(
        f"{counted(counts['footprints'], 'footprint')}: {counts['assessed']:,} assessed; "
        f"not assessed: {reasons or 'none'}"
    )
    if found := expected(result.run):
        known = f"; known: {score.n_positive:,}"
        stdout.print(f"{found.line}{known}")
    stdout.print(
        f"against the known truth: ROC-AUC {score.auc.value:.3f} "
        f"({score.auc.low:.3f} to {score.auc.high:.3f}), F1 {score.severe.f1:.3f}"
    )
    if score.baseline is not None:
        stdout.print(f"the pre/post difference alone: ROC-AUC {score.baseline.auc.value:.3f}")
    if slides is not None:
        counted_slides = counted(counts["landslides"]["slides"], "landslide")
        stdout.print(f"{counted_slides}; known: {slides.truth}")
        if left := left_out_line(result.run):
            stdout.print(f"  {left}", style="dim")
        stdout.print(
            f"against their outlines: F1 of the ground {slides.f1:.3f}, "
            f"{slides.polygon_recall:.0%} of the known slides found, "
            f"{slides.polygon_precision:.0%} of the map's true"
        )
    stdout.print(f"done in {seconds:.0f} s; open {result.out.rstrip('/')}/index.html")
