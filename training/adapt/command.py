"""`quakestream adapt`: a bundle of this event out of labels of its buildings."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import geopandas as gpd
import numpy as np
import typer
from numpy.typing import NDArray

from quakestream.bundles import Bundle, load_bundle
from quakestream.cli.common import (
    EXIT_REQUEST,
    Json,
    S3Anon,
    S3Endpoint,
    counted,
    print_json,
    s3_options,
    stdout,
)
from quakestream.cli.failures import print_problems
from quakestream.cli.folders import check_folder
from quakestream.config import RunFile
from quakestream.domain import BundleSpec
from quakestream.errors import BundleError, RequestError
from quakestream.outputs.figures import card_warnings
from quakestream.outputs.readback import current_buildings, current_run, scale_of
from quakestream.outputs.truth import TruthRequest
from quakestream.storage import open_store
from training.adapt.bundle import Origin, write_adapted
from training.adapt.crops import CropRequest, LabelledCrops, crops_of, recorded_run
from training.adapt.doubts import as_plain, doubt, labels_to_check
from training.adapt.graph import CropGraph, can_fold
from training.adapt.head import Examples, fit_head
from training.adapt.judging import BLOCK_M, Judgement, judge
from training.adapt.labels import EventLabels, check_enough, read_event_labels
from training.adapt.scores import old_scores
from training.support import LabelCheck

AUC_NAME = "ROC-AUC over the map"
"""Of labels weighted so that their scores are distributed as those of the whole map: it decides."""

Labels = Annotated[str, typer.Argument(help="Labels: an answer sheet, or points, polygons or ids.")]


def adapt(
    out: Annotated[str, typer.Argument(help="The finished map: a folder or URI.")],
    labels: Labels,
    bundle: Annotated[
        Path,
        typer.Option("-o", "--out", help="Folder of the new bundle; its name is the bundle's."),
    ],
    run: Annotated[
        str | None, typer.Option(help="Run file of the map, where run.json does not record it.")
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="Layer of LABELS, where it has several.")
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(help="Column of LABELS that holds the damage.")
    ] = None,
    positive: Annotated[str, typer.Option(help="Values for destroyed: A,B.")] = "",
    negative: Annotated[str, typer.Option(help="Values for not destroyed: C,D.")] = "",
    distance: Annotated[
        float, typer.Option(help="Largest distance of a point to its footprint, metres.")
    ] = 5.0,
    force: Annotated[
        bool, typer.Option("--force", help="Write it although it is not shown to be better.")
    ] = False,
    endpoint_url: S3Endpoint = None,
    anon: S3Anon = False,
    as_json: Json = False,
) -> None:
    """Make a bundle of this event out of 50 to 500 labels of its buildings, in minutes.

    It is refused where left-out labels do not show that it ranks buildings better than the map's
    own model. Then name it in the run file, `models: {damage: BUNDLE}`, and map again.

    Example: quakestream adapt out/ answers.csv -o event-bundle
    """
    began = time.perf_counter()
    request = TruthRequest(
        uri=labels,
        layer=layer,
        column=label_column,
        positive=_words(positive),
        negative=_words(negative),
        beside=False,
    )
    options = s3_options(endpoint_url, anon)
    check_folder(bundle)
    event = _labelled_map(out, request, run, distance, options)
    adaptation = _adapted(event)
    better = adaptation.judgement.better
    head = fit_head(adaptation.examples)
    checks = labels_to_check(
        adaptation.building_id_N, adaptation.examples, head, adaptation.judgement.p_N
    )
    if not (better or force):
        _refuse(_refusal(adaptation, labels), checks, as_json=as_json)
    origin = event.origin(adaptation.counts, forced=not better)
    spec = write_adapted(bundle, adaptation.graph, head, adaptation.judgement, origin)
    _report(spec, bundle, checks, time.perf_counter() - began, as_json=as_json)


def _refuse(refusal: RequestError, checks: list[LabelCheck], *, as_json: bool) -> NoReturn:
    """Says why no bundle was written, and which labels to look at again."""
    if as_json:
        raise refusal
    print_problems(refusal.problems)
    _show_checks(checks)
    raise typer.Exit(EXIT_REQUEST)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _LabelledMap:
    """A finished map with labels of its buildings."""

    run: RunFile
    record: dict[str, Any]
    buildings: gpd.GeoDataFrame
    labels: EventLabels
    uri: str
    parent: Bundle
    """The bundle that made the map."""

    def origin(self, counts: dict[str, Any], *, forced: bool) -> Origin:
        return Origin(
            event=self.run.event.id,
            parent=self.parent.spec.name,
            parent_digest=self.parent.digest,
            gsd_m=self.parent.spec.gsd_m,
            counts=counts,
            caution=_caution(self.parent),
            forced=forced,
        )


def _caution(parent: Bundle) -> str:
    """What the parent's card says that it is not for, in its own words."""
    card = (parent.file("card.md") or b"").decode("utf-8", "replace")
    own = ("Expect ", "Not shown ")  # these speak of the parent's figures and of its making
    return " ".join(s for s in card_warnings(card) if not s.startswith(own))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Adaptation:
    """Examples of an event and what left-out ones say of a head on them."""

    graph: CropGraph
    building_id_N: NDArray[np.object_]
    examples: Examples
    judgement: Judgement
    counts: dict[str, Any]


def _labelled_map(
    out: str, request: TruthRequest, run_path: str | None, distance_m: float, options: Any
) -> _LabelledMap:
    """Reads the map and its labels; nothing of the imagery yet."""
    store = open_store(out, options)
    record = current_run(store)
    if "bundle" not in record:
        raise RequestError("the map judges no damage", out, remedy="map with a damage bundle first")
    buildings = current_buildings(store, record)
    labels = read_event_labels(
        request, buildings, scale_of(record), distance_m=distance_m, storage=store.options
    )
    check_enough(labels.destroyed_N, labels.counts, request.uri)
    run = recorded_run(record, run_path, options)
    return _LabelledMap(
        run=run,
        record=record,
        buildings=buildings,
        labels=labels,
        uri=request.uri,
        parent=_parent(record, run),
    )


def _parent(record: dict[str, Any], run: RunFile) -> Bundle:
    """The bundle of the map, by the name or URI that the run gave."""
    bundle = load_bundle(str(run.models.damage), run.storage_options)
    if bundle.digest != record["bundle"]["digest"]:
        raise BundleError(
            "the map was made with another version of its bundle",
            bundle.uri,
            expected=f"digest {record['bundle']['digest'][:12]}…",
            got=f"{bundle.digest[:12]}…",
            remedy="map again, then adapt",
        )
    return bundle


def _adapted(event: _LabelledMap) -> _Adaptation:
    epochs = ("post",) if event.run.imagery.pre is None else ("pre", "post")
    spec = event.parent.spec
    folds_in = can_fold(spec, epochs)
    graph = CropGraph(epochs=epochs, old=event.parent if folds_in else None)
    id_N = event.buildings["building_id"].astype(str).to_numpy()
    row_N = event.labels.row_N
    destroyed_of = dict(zip(id_N[row_N], event.labels.destroyed_N.tolist(), strict=True))
    crops = crops_of(
        event.run,
        destroyed_of,
        CropRequest(crop_px=graph.crop_px, gsd_m=spec.gsd_m, epochs=epochs),
        graph.features_model(),
    )
    counts = event.labels.counts
    counts.unreadable = dict(crops.dropped)
    counts.used, counts.destroyed = len(crops.destroyed_N), int(crops.destroyed_N.sum())
    check_enough(crops.destroyed_N, counts, event.uri)
    examples = Examples(
        feature_ND=crops.feature_ND,
        destroyed_N=crops.destroyed_N,
        block_N=_blocks(crops),
        trusted=graph.old_features,
    )
    score_N = old_scores(event.buildings, event.record)
    old_of = dict(zip(id_N, score_N, strict=True))
    old_N = np.array([old_of[i] for i in crops.building_id_N], np.float64)
    judgement = judge(examples, old_N, score_N)
    return _Adaptation(
        graph=graph,
        building_id_N=crops.building_id_N,
        examples=examples,
        judgement=judgement,
        counts=counts.to_json(),
    )


def _blocks(crops: LabelledCrops) -> NDArray[np.int64]:
    square_N2 = np.floor(crops.xy_m_N2 / BLOCK_M).astype(np.int64)
    key_N3 = np.column_stack([crops.epsg_N, square_N2])
    return np.unique(key_N3, axis=0, return_inverse=True)[1].reshape(-1)


def _refusal(adaptation: _Adaptation, labels: str) -> RequestError:
    figures = adaptation.judgement.figures
    value, low, high = figures["gain_auc"]
    got = "no figure: the labelled buildings of one state lie in too few blocks"
    if value is not None and low is not None:
        before, after = (figures["event_auc"][k] for k in ("before", "adapted"))
        got = f"{value:+.3f} ({low:+.3f} to {high:+.3f}): {AUC_NAME} {before:.3f} -> {after:.3f}"
    return RequestError(
        "the adapted model is not shown to be better, so no bundle was written",
        f"{figures['labels']} labels of {labels}",
        expected="a gain of AUC on left-out blocks whose 95 % interval lies above 0",
        got=got,
        remedy="label more (`quakestream suggest`), or write it all the same with --force",
    )


def _report(
    spec: BundleSpec, folder: Path, checks: list[LabelCheck], seconds: float, *, as_json: bool
) -> None:
    if as_json:
        facts = {**_facts(spec), "check_first": as_plain(checks)}
        print_json({"bundle": str(folder), "seconds": round(seconds, 1), **facts})
    else:
        _show(spec, folder, seconds)
        _show_checks(checks)


def _facts(spec: BundleSpec) -> dict[str, Any]:
    return {"metrics": spec.metrics, "adapted": spec.training["adapted"]}


def _show(spec: BundleSpec, folder: Path, seconds: float) -> None:
    metrics, counts = spec.metrics, spec.training["adapted"]["labels"]
    unread = sum(counts["unreadable"].values())
    if spec.training["adapted"]["forced"]:
        stdout.print("Not shown to be better: written because of --force, and its card says so.")
    stdout.print(
        f"{counted(metrics['labels'], 'label')} used, {metrics['destroyed']} destroyed, in "
        f"{counted(metrics['blocks'], 'block')} of {BLOCK_M:g} m. Left out: "
        f"{counts['unmatched']} on no building of the map, {counts['contradicting']} "
        f"contradicting, {counts['cannot_tell']} cannot tell, {unread} whose pixels cannot be used."
    )
    event = metrics["event_auc"]
    if event["before"] is not None:
        stdout.print(f"  {AUC_NAME:<26}{event['before']:.3f} -> {event['adapted']:.3f}")
    for key, title in (
        ("average_precision", "average precision"),
        ("recall_at_90_precision", "recall at 90 % precision"),
        ("calibration_error", "calibration error"),
    ):
        old = metrics["before"][key][0] if metrics["before"] else None
        before = "–" if old is None else f"{old:.3f}"
        stdout.print(f"  {title:<26}{before} -> {metrics['adapted'][key][0]:.3f}")
    value, low, high = metrics["gain_auc"]
    if value is not None and low is not None:
        stdout.print(f"  {'its gain':<26}{value:+.3f} ({low:+.3f} to {high:+.3f})")
    stdout.print(f"{folder} ({seconds:.0f} s); use it with `models: {{damage: {folder}}}`")


def _show_checks(checks: list[LabelCheck]) -> None:
    if checks:
        stdout.print("Check these labels first:")
    for check in checks:
        stdout.print(f"  {check.item}: {doubt(check)}")


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())
