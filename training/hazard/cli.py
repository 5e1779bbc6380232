"""`python -m training.hazard fit|table`: fits a hazard bundle, or compares models."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from shapely.geometry.base import BaseGeometry

from quakestream.errors import QuakestreamError, RequestError
from training.data.turkiye import default_data_dir
from training.data.vectors import FIELD_CLASSES
from training.hazard.bundle import AUTO, PointsProvenance, fit, write
from training.hazard.comparison import Scope, compare
from training.hazard.families import FAMILIES, SHIPPED
from training.hazard.points import FIELD, HazardPoints, read_ground, read_points
from training.hazard.sources import source_of
from training.hazard.surveyed import read_surveyed, surveyed_figures
from training.hazard.table import markdown
from training.judging import plain

QUICK = 4
"""`--quick` uses every fourth point."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command. Returns 0 when done, 2 if the request is wrong, 3 if it failed."""
    options = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], str] = options.run
    try:
        print(run(options))
    except QuakestreamError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, RequestError) else 3
    return 0


def _fit(options: argparse.Namespace) -> str:
    points = _points(options)
    excluded = ""
    if options.exclude_near:
        ground = read_ground(options.exclude_near)
        whole, points = len(points), points.away_from(ground, options.exclude_km)
        excluded = _excluded(ground, options.exclude_km, whole - len(points))
    for name, count in points.missing.items():
        _say(f"{name}: missing at {count:,} of {len(points):,} points")
    fitted = fit(points, options.model, seed=options.seed, on_progress=_say)
    source: PointsProvenance = source_of(options.points, excluded)
    spec = write(fitted, points, source, options.out)
    low, high = spec.metrics["macro_auc_95"]
    return (
        f"{options.out}: {spec.training['recipe']}, macro AUC {spec.metrics['macro_auc']:.3f} "
        f"({low:.3f} to {high:.3f}) on held-out blocks"
    )


def _table(options: argparse.Namespace) -> str:
    points = _points(options)
    if options.quick:
        points = points.take(np.arange(len(points)) % QUICK == 0)
    scope = Scope(seed=options.seed)
    if options.quick:
        scope = replace(scope, encoders=(), context=False)
    result = compare(points, scope, _say)
    if options.points == FIELD:
        buildings = read_surveyed(options.data or default_data_dir())
        result["surveyed"] = surveyed_figures(buildings)
    return json.dumps(plain(result), indent=2) if options.json else markdown(result)


def _points(options: argparse.Namespace) -> HazardPoints:
    return read_points(
        options.points,
        features=_listed(options.features),
        classes=_listed(options.classes),
        data_dir=options.data,
    )


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _excluded(ground: BaseGeometry, km: float, count: int) -> str:
    west, south, east, north = ground.bounds
    return (
        f"{count:,} points within {km:g} km of {west:.4f}–{east:.4f} E, {south:.4f}–{north:.4f} N "
        "were left out of fitting, of choosing and of the figures."
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.hazard",
        description="Class likelihoods from hazard values, without an image.",
    )
    commands = parser.add_subparsers(required=True, metavar="fit|table")
    fits = commands.add_parser(
        "fit",
        help="fits a model and writes it as a bundle",
        epilog="example: python -m training.hazard fit --points field "
        "--exclude-near 'POLYGON ((...))' --exclude-km 1 -o hazard-here",
    )
    fits.add_argument(
        "--model",
        default="+".join(SHIPPED),
        help=f"{', '.join(FAMILIES)}; several joined by + for their mean; or {AUTO} for the best "
        "on inner folds (default: %(default)s)",
    )
    fits.add_argument("--exclude-near", metavar="WKT|FILE", help="leave out points near this")
    fits.add_argument("--exclude-km", type=float, default=1.0, metavar="KM", help="default: 1")
    fits.add_argument("-o", "--out", type=Path, required=True, metavar="BUNDLE")
    fits.set_defaults(run=_fit)
    tables = commands.add_parser(
        "table",
        help="compares models with the random forest of the literature, on the same folds",
        epilog="example: python -m training.hazard table > table.md",
    )
    tables.add_argument(
        "--quick", action="store_true", help="use a quarter of the points and no networks"
    )
    tables.add_argument(
        "--json", action="store_true", help="print one JSON object instead of a table"
    )
    tables.set_defaults(run=_table)
    for command in (fits, tables):
        _add_points(command)
    return parser


def _add_points(command: Any) -> None:
    command.add_argument(
        "--points",
        default=FIELD,
        metavar="field|FILE",
        help="the field points of Kahramanmaraş, or CSV (lon, lat, label) or a vector file with "
        "a column label (default: field)",
    )
    command.add_argument("--features", default="", metavar="A,B", help="hazard values to use")
    command.add_argument(
        "--classes", default=",".join(FIELD_CLASSES), metavar="A,B", help="labels, mildest first"
    )
    command.add_argument("--data", type=Path, metavar="DIR", help="folder of real data")
    command.add_argument("--seed", type=int, default=0, help="seed of the folds (default: 0)")
