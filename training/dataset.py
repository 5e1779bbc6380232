"""`python -m training.dataset RUN.yaml --labels FILE -o STORE`: makes a store of building chips."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from quakestream.config import open_run
from quakestream.errors import MissingExtraError, QuakestreamError, RequestError
from quakestream.storage import StorageOptions
from training.data.filters import TileFilter
from training.data.labels import (
    CONFLICTS,
    SCALES,
    XBD,
    LabelRequest,
    parse_scale,
    recognised,
)
from training.data.pair_store import PairStoreOptions
from training.data.run_store import (
    LocalShardWorkers,
    RunSource,
    ShardWorkers,
    StoreReport,
    StoreRequest,
    write_run_store,
)
from training.data.xbd import xbd_store

EXIT_ATTENTION, EXIT_REQUEST, EXIT_FAILED = 1, 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes one store.

    Returns:
        0 when done, 1 when done but inputs need attention, 2 if the request is wrong, 3 if it
        failed.
    """
    options = _parser().parse_args(arguments)
    try:
        report = _from_xbd(options) if options.xbd else _from_run(options)
    except QuakestreamError as error:
        for problem in error.problems:
            print(f"error: {' '.join(str(problem).split())}", file=sys.stderr)
        return EXIT_REQUEST if isinstance(error, RequestError) else EXIT_FAILED
    _show(report, options)
    return EXIT_ATTENTION if report.issues else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.dataset",
        description="Cuts building chips with hazard values out of a run or an xBD folder.",
        epilog="example: python -m training.dataset run.yaml --labels grading.json "
        "--classes copernicus --match-m 5 -o chips",
    )
    parser.add_argument("run", nargs="?", help="run file, a path or URI")
    parser.add_argument("-o", "--out", required=True, metavar="STORE", help="a path or URI")
    parser.add_argument("--xbd", type=Path, metavar="FOLDER", help="xBD folder, instead of a run")
    _add_labels(parser.add_argument_group("labels"))
    _add_chips(parser.add_argument_group("chips"))
    where = parser.add_argument_group("where it runs")
    where.add_argument("--backend", choices=("local", "ray"), default="local")
    where.add_argument("--address", help="address of a Ray cluster (default: this machine)")
    where.add_argument("--fresh", action="store_true", help="replace a finished store")
    where.add_argument("--json", action="store_true", help="print the report as JSON")
    where.add_argument("--quiet", action="store_true", help="print no progress")
    return parser


def _add_labels(group: Any) -> None:
    group.add_argument("--labels", metavar="FILE", help="points, polygons, or a table with ids")
    group.add_argument("--label-column", metavar="COLUMN", help="default: recognised by its values")
    group.add_argument(
        "--label-id",
        default="building_id",
        metavar="COLUMN",
        help="column of ids to join by (default building_id); without it, labels join by place",
    )
    group.add_argument("--all-are", metavar="LABEL", help="class of every item of the file")
    group.add_argument(
        "--classes",
        nargs="+",
        default=[],
        metavar="LABEL[=VALUE,...]",
        help=f"mildest first, or one of {', '.join(SCALES)} (default: the one of these that fits)",
    )
    group.add_argument(
        "--ignore", nargs="+", default=[], metavar="VALUE", help="values of unknown state"
    )
    group.add_argument(
        "--match-m", type=float, default=5.0, help="largest distance of a point, metres"
    )
    group.add_argument(
        "--conflict",
        choices=CONFLICTS,
        default="ignore",
        help="which label counts if those of a footprint disagree (default: none)",
    )
    group.add_argument(
        "--allow-empty-class", action="store_true", help="accept classes without an example"
    )
    group.add_argument(
        "--unlabelled", action="store_true", help="store buildings of unknown state too"
    )


def _add_chips(group: Any) -> None:
    group.add_argument(
        "--crop-px", type=int, default=128, help="side of a stored chip, including the margin"
    )
    group.add_argument("--gsd-m", type=float, default=0.5, help="pixel size, metres")
    group.add_argument("--epochs", choices=("post", "pre,post"), default="pre,post")
    group.add_argument(
        "--per-event",
        action="store_true",
        help="store the shaking of each ShakeMap, for models of aftershocks",
    )
    group.add_argument("--filter", metavar="RULES", help="epfl, or black=0.05,snow=500,...")
    group.add_argument("--region", default="", help="name for splits (default: the event's id)")
    group.add_argument("--source", default="", help="name for splits (default: the event's id)")


def _from_run(options: argparse.Namespace) -> StoreReport:
    if not options.run or not options.labels:
        raise RequestError(
            "no input named", remedy="name a run file and its --labels, or a folder with --xbd"
        )
    run = open_run(options.run)
    labels = _label_request(options, run.storage_options)
    source = RunSource(run=run, labels=labels, region=options.region, source=options.source)
    with _shard_workers(options) as workers:
        _, report = write_run_store(
            options.out,
            [source],
            _store_request(options),
            workers=workers,
            replace_store=options.fresh,
            on_progress=lambda line: None if options.quiet else print(line, file=sys.stderr),
        )
    return report


def _from_xbd(options: argparse.Namespace) -> StoreReport:
    if options.run or options.labels:
        raise RequestError(
            "an xBD folder has its own labels",
            "--xbd",
            remedy="leave the run file and --labels out",
        )
    request = _store_request(options)
    scale = parse_scale(options.classes, options.ignore) if options.classes else XBD
    cutting = PairStoreOptions(
        classes=scale.labels,
        gsd_m=request.gsd_m,
        crop_px=request.crop_px,
        epochs=request.epochs,
        tile_filter=request.tile_filter,
        provenance={"xbd": str(options.xbd)},
    )
    store, issues = xbd_store(options.out, options.xbd, cutting, scale, replace=options.fresh)
    report = StoreReport(chips=len(store), issues=issues)
    report.dropped.update(store.meta.provenance["dropped"])
    report.candidates = report.chips + report.dropped.total()
    label = store.table["label"]
    report.classes = {name: int((label == n).sum()) for n, name in enumerate(scale.labels)}
    report.classes["unknown"] = int((label < 0).sum())
    return report


def _store_request(options: argparse.Namespace) -> StoreRequest:
    if options.crop_px < 8 or options.gsd_m <= 0:
        raise RequestError(
            "impossible chip size",
            f"--crop-px {options.crop_px} --gsd-m {options.gsd_m:g}",
            expected="8 px or more and a positive pixel size",
        )
    return StoreRequest(
        crop_px=options.crop_px,
        gsd_m=options.gsd_m,
        epochs=tuple(options.epochs.split(",")),
        tile_filter=TileFilter.parse(options.filter) if options.filter else None,
        unlabelled=options.unlabelled,
        empty_classes=options.allow_empty_class,
        per_event=options.per_event,
    )


def _label_request(options: argparse.Namespace, storage: StorageOptions) -> LabelRequest:
    if options.match_m < 0:
        raise RequestError(
            "negative distance", "--match-m", expected="0 or more", got=f"{options.match_m:g}"
        )
    if options.all_are and not options.classes:
        raise RequestError(
            "no classes named", "--all-are", remedy="name them with --classes, mildest first"
        )
    column = options.label_column
    return LabelRequest(
        uri=options.labels,
        scale=parse_scale(options.classes, options.ignore)
        if options.classes
        else recognised(options.labels, column, options.ignore, storage),
        column=column,
        constant=options.all_are,
        id_column=options.label_id,
        match_m=options.match_m,
        conflict=options.conflict,
    )


@contextmanager
def _shard_workers(options: argparse.Namespace) -> Iterator[ShardWorkers]:
    if options.backend == "local":
        yield LocalShardWorkers()
        return
    try:
        from training.data.ray_shards import RayShardWorkers
    except ImportError as error:
        raise MissingExtraError(
            f"Ray is not installed ({error})", remedy="pip install 'quakestream[ray]'"
        ) from error
    with RayShardWorkers(options.address) as workers:
        yield workers


def _show(report: StoreReport, options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps({"store": options.out, **asdict(report)}, indent=1))
        return
    classes = ", ".join(f"{name} {count}" for name, count in report.classes.items())
    print(f"{report.chips} chips of {report.candidates} footprints: {classes}")
    for reason, count in report.dropped.most_common():
        print(f"  footprints without a chip, {reason}: {count}")
    for name, count in report.hazard_missing.items():
        print(f"  chips without {name}: {count}")
    for labels in report.labels:
        print(
            f"  labels {labels['how']}: {labels['items']} items, {labels['items_ignored']} of "
            f"unknown state, {labels['items_unmatched']} without a footprint, "
            f"{labels['conflicting']} footprints with labels that disagree"
        )
    for line in report.notes:
        print(f"note: {line}")
    for issue in report.issues:
        print(f"attention: {issue.kind} {issue.subject}: {issue.cause}", file=sys.stderr)
    print(options.out)


if __name__ == "__main__":
    raise SystemExit(main())
