"""`quakestream score`: verdicts against reference points or polygons."""

import json
import math
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from quakestream.cli.common import (
    Json,
    S3Anon,
    S3Endpoint,
    counted,
    s3_options,
    warn_of_other_products,
)
from quakestream.errors import RequestError
from quakestream.outputs.expected import amount
from quakestream.outputs.readback import current_run
from quakestream.outputs.scores import Score, ScoreOptions
from quakestream.outputs.slide_scores import LEAST_M2, SlideScore, score_map
from quakestream.outputs.truth import TruthRequest, if_all_destroyed
from quakestream.redaction import redacted
from quakestream.reduce.metrics import Interval
from quakestream.storage import Store, open_store

Layer = Annotated[str | None, typer.Option(help="Layer of --truth, where it holds several.")]
PositiveFile = Annotated[
    str | None,
    typer.Option(help="Polygons of severe damage; --truth then gives the harmless buildings only."),
]
PositiveLayer = Annotated[
    str | None, typer.Option(help="Layer of --positive-file, where it holds several.")
]
Distance = Annotated[
    float, typer.Option(help="Largest distance of a point to its footprint, metres.")
]
LabelColumn = Annotated[
    str | None, typer.Option(help="Column of the reference that holds the damage.")
]
Block = Annotated[
    float, typer.Option(help="Side of the resampled squares, metres; 0: single buildings.")
]
Landslides = Annotated[
    bool,
    typer.Option(
        help="Compares landslides with the outlines in --truth. Maps without damage do so."
    ),
]


def score(
    out: Annotated[str, typer.Argument(help="The finished map: a folder or URI.")],
    truth: Annotated[str, typer.Option("--truth", help="Reference points, polygons or ids.")],
    layer: Layer = None,
    positive_file: PositiveFile = None,
    positive_layer: PositiveLayer = None,
    distance: Distance = 5.0,
    label_column: LabelColumn = None,
    positive: Annotated[str, typer.Option(help="Values for severe damage: A,B.")] = "",
    negative: Annotated[str, typer.Option(help="Values for no damage: C,D.")] = "",
    bootstrap: Annotated[int, typer.Option(help="Resamples for the intervals.")] = 1000,
    block: Block = 200.0,
    seed: Annotated[int, typer.Option(help="Seed of the resampling.")] = 0,
    landslides: Landslides = False,
    endpoint_url: S3Endpoint = None,
    anon: S3Anon = False,
    as_json: Json = False,
) -> None:
    """Score a map against reference damage, or its landslides against known outlines.

    Reads Copernicus damage_gra, xBD subtypes, EMS-98 grades and the bundle's own labels.
    Severe damage (Destroyed, Damaged) is compared with none; `compare` counts Destroyed alone.
    Each says so in the same words. Grades in between are left out and counted. Buildings that
    were not assessed never count as undamaged.

    Example: quakestream score out/ --truth builtUpP.json --positive-file osm_destroyed.geojson
    """
    _check_pair(truth, positive, negative)
    store = open_store(out, s3_options(endpoint_url, anon))
    warn_of_other_products(store)
    run = current_run(store)
    request = TruthRequest(
        uri=truth,
        layer=layer,
        column=label_column,
        positive=_words(positive),
        negative=_words(negative),
    )
    options = ScoreOptions(distance_m=distance, resamples=bootstrap, block_m=block, seed=seed)
    polygons = TruthRequest(uri=positive_file, layer=positive_layer) if positive_file else None
    result = score_map(store, request, options, polygons, landslides=landslides)
    notes = [] if isinstance(result, SlideScore) else flattered_by(run)
    if as_json:
        more = {} if isinstance(result, SlideScore) else {"notes": notes}
        content = _head(store, truth, run) | more | result.to_json()
        typer.echo(json.dumps(content, indent=2))
    elif isinstance(result, SlideScore):
        _show_slides(result, _console())
    else:
        _show(result, notes, _console())


def flattered_by(run: Mapping[str, Any]) -> list[str]:
    """Why a map may agree with a reference by more than its model deserves."""
    notes = []
    if run.get("bundle", {}).get("adapted_to") == run["event"]["id"]:
        notes.append(
            "the bundle was adapted to labels of this event: against those labels the figures "
            "flatter it; its card has figures on left-out blocks"
        )
    if run.get("verification"):
        notes.append(
            "verdicts that people checked are theirs, and the others were restated by them: the "
            "figures are not those of the model alone"
        )
    return notes


def _head(store: Store, truth: str, run: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "out": redacted(store.uri),
        "truth": redacted(truth),
        "snapshot": run["snapshot"],
    }


def _console() -> Console:
    return Console(markup=False, emoji=False, highlight=False)


def _show_slides(result: SlideScore, console: Console) -> None:
    console.print("Landslides against known outlines", style="bold")
    console.print(
        f"{counted(result.truth, 'known slide')} ({result.truth_km2:.3f} km²) and "
        f"{counted(result.found, 'slide')} of the map ({result.found_km2:.3f} km²) on ground that "
        f"was looked at.{_left_out(result)}"
    )
    console.print(_slide_table(result))


def _left_out(result: SlideScore) -> str:
    """The slides of both sides that are not compared."""
    small = f"smaller than {LEAST_M2:g} m²"
    parts = [
        f"{counted(number, name)} {why}"
        for number, name, why in (
            (result.truth_elsewhere, "known slide", "elsewhere"),
            (result.truth_small, "known slide", small),
            (result.found_elsewhere, "slide", "of the map elsewhere"),
            (result.found_small, "slide", f"of the map {small}"),
        )
        if number
    ]
    return f" Left out: {', '.join(parts)}." if parts else ""


def _slide_table(result: SlideScore) -> Table:
    ground = f"blocks of {result.block_m:g} m" if result.block_m > 0 else "groups of slides"
    caption = (
        f"Slides agree where they share {result.polygon_iou:.0%} of the ground of both. "
        f"95 % intervals: bootstrap over {result.blocks} {ground}"
    )
    known = result.intervals
    table = Table(title="Landslides", caption=caption)
    for name in ("figure", "of ground", "of slides"):
        table.add_column(name, justify="left" if name == "figure" else "right")
    table.add_row("precision", _interval(known.precision), _interval(known.polygon_precision))
    table.add_row("recall", _interval(known.recall), _interval(known.polygon_recall))
    table.add_row("F1", _interval(known.f1), "")
    table.add_row("IoU", _interval(known.iou), "")
    return table


def _check_pair(truth: str, positive: str, negative: str) -> None:
    if bool(positive) != bool(negative):
        missing = "--negative" if positive else "--positive"
        alone = f"; {if_all_destroyed(truth)}" if positive else ""
        raise RequestError(
            "--positive and --negative go together",
            expected="both",
            got=f"no {missing}",
            remedy=f"give the values of {missing} too{alone}",
        )


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _show(result: Score, notes: list[str], console: Console) -> None:
    c = result.coverage
    console.print(f"{result.positive} against {result.negative}", style="bold")
    console.print(result.rule)
    console.print(f"Matched {result.how}.")
    console.print(
        f"{counted(c.footprints_compared, 'building')} compared ({result.n_positive} severe, "
        f"{result.n_negative} harmless) of {counted(c.items, 'reference item')}. "
        f"Left out, never counted as undamaged: "
        f"{counted(c.items_unmatched, 'item')} without a footprint, "
        f"{counted(c.footprints_conflicting, 'footprint')} with contradicting items, "
        f"{c.footprints_ignored} graded in between, "
        f"{c.footprints_not_assessed} not assessed ({c.footprints_not_assessed_severe} of them "
        "severe)."
    )
    expects = "" if result.n_expected is None else f" and expects {amount(result.n_expected)}"
    console.print(
        f"Of these buildings the map declares {result.n_declared} severe{expects}; "
        f"in the reference it is {result.n_positive}."
    )
    console.print(_severe_table(result))
    if sum(map(sum, result.confusion)):
        console.print(_class_table(result))
        console.print(_confusion_table(result))
    for note in notes:
        console.print(f"note: {note}")


def _severe_table(result: Score) -> Table:
    blocks = (
        f"{result.blocks} blocks of {result.block_m:g} m" if result.block_m > 0 else "buildings"
    )
    table = Table(title="Severe damage", caption=f"95 % intervals: bootstrap over {blocks}")
    table.add_column("figure")
    for name in ("model", "pre/post difference", "class prior"):
        table.add_column(name, justify="right")
    base = result.baseline
    table.add_row(
        "ROC-AUC",
        _interval(result.auc),
        _interval(base.auc) if base else "not in this map",
        _figure(result.prior_auc),
    )
    if base:
        table.add_row("AUC gain over the difference", _interval(base.auc_gain), "", "")
    table.add_row(
        "average precision",
        _interval(result.average_precision),
        "",
        _figure(result.prior_average_precision),
    )
    table.add_row("F1 as declared", _interval(result.f1), "", "")
    table.add_row("precision", _figure(result.severe.precision), "", "")
    table.add_row("recall", _figure(result.severe.recall), "", "")
    table.add_row("calibration error (ECE)", _figure(result.calibration_error), "", "")
    prior = result.prior_average_precision
    table.add_row("Brier", _figure(result.brier), "", _figure(prior * (1 - prior)))
    return table


def _class_table(result: Score) -> Table:
    table = Table(title="Per class", caption=f"macro F1 {_figure(result.macro_f1)}")
    table.add_column("class")
    for name in ("precision", "recall", "F1", "n"):
        table.add_column(name, justify="right")
    for label, one in zip(result.labels, result.classes, strict=True):
        figures: list[Any] = [_figure(v) for v in (one.precision, one.recall, one.f1)]
        table.add_row(label, *figures, str(one.support))
    return table


def _confusion_table(result: Score) -> Table:
    table = Table(title="Confusion (rows: reference, columns: verdict)")
    table.add_column("")
    for label in result.labels:
        table.add_column(label, justify="right")
    for label, row in zip(result.labels, result.confusion, strict=True):
        table.add_row(label, *(str(v) for v in row))
    return table


def _interval(value: Interval) -> str:
    if math.isnan(value.low):
        return _figure(value.value)
    return value.as_text()


def _figure(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"
