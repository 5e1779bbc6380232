"""`python -m training.evaluate MODEL...`: held-out figures, intervals, and what models differ by.

A MODEL is a checkpoint of any kind, or a bundle of buildings or hazard values. One JSON object a
model; with several of classes one more that compares them on the same buildings.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from quakestream.bundles import load_bundle
from quakestream.errors import QuakestreamError, RequestError
from training.calibrate import calibrate
from training.checkpoints import Checkpoint, load_checkpoint
from training.config import TrainConfig, from_json
from training.data.sources import load_pairs
from training.judging import Judged, apart, class_report, over_seeds, plain
from training.lessons.pairs import held_out_logits
from training.manifests import TASKS, class_graph, class_spec
from training.metrics import STATISTICS, class_figures
from training.models import Model, bundle_model, graph_model
from training.pair_report import differences, report
from training.rows import HeldOut, all_rows, held_out

__all__ = ["Question", "differences", "judge_classes", "judge_pairs", "main", "report"]

ALL = "all"
"""Masks every hazard value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """On which buildings models are judged, and what is kept from them."""

    source: str = ""
    """Where the data lie now, if not where the model was trained on them."""
    everything: bool = False
    """All rows of the source, held out or not: for data a model was never trained on."""
    regions: tuple[str, ...] = ()
    """Held-out rows of these regions alone; empty for all."""
    masks: tuple[tuple[str, ...], ...] = ()
    """Sets of hazard values made missing, each a run of its own beside the plain one."""
    draws: int = 1000


def judge_pairs(checkpoint: Checkpoint, question: Question) -> dict[str, Any]:
    """Figures of a network that compares pairs.

    Raises:
        RequestError: if nothing is held out in the regions asked for.
    """
    pairs = [
        pair
        for pair in load_pairs(checkpoint.config, held_only=True)
        if not question.regions or pair.region in question.regions
    ]
    scored = held_out_logits(checkpoint.config, pairs, checkpoint.network())
    if not scored:
        raise RequestError(
            f"no held-out building in {', '.join(question.regions) or 'any region'}; "
            "see held_regions and fold of the checkpoint"
        )
    return {"step": checkpoint.step, **report(scored, pairs, calibrate(scored))}


def class_model(place: str) -> tuple[Model, TrainConfig]:
    """A building or hazard model and what it was trained by.

    Args:
        place: a checkpoint's file, or a bundle's folder, zip or name.

    Raises:
        RequestError: if it is neither.
    """
    if _is_checkpoint(place):
        checkpoint = load_checkpoint(Path(place))
        spec = class_spec(checkpoint, checkpoint.config.recipe)
        return graph_model(class_graph(checkpoint, spec), spec), checkpoint.config
    bundle = load_bundle(place)
    spec = bundle.spec
    if spec.task not in TASKS.values() or "config" not in spec.training:
        raise RequestError(
            f"{place}: a {spec.task} bundle; judged are checkpoints, and bundles of buildings or "
            "hazard values that were exported from one"
        )
    return bundle_model(bundle), from_json(spec.training["config"])


def rows_of(config: TrainConfig, question: Question) -> HeldOut:
    """The rows a question is about.

    Raises:
        RequestError: if there are none.
    """
    if question.everything:
        return all_rows(question.source or config.source, regions=question.regions)
    return held_out(
        replace(config, source=question.source or config.source), regions=question.regions
    )


def answers(model: Model, held: HeldOut, question: Question) -> Iterator[tuple[str, Judged]]:
    """A model's answers on held-out rows: plain, and once for each mask.

    Raises:
        RequestError: if a mask names a value the model does not take.
    """
    yield "", held.judged(model.as_probabilities(held.logits(model)))
    for mask in question.masks:
        names = [h.name for h in model.spec.hazard] if mask == (ALL,) else list(mask)
        if not model.spec.hazard:
            continue  # nothing to hide: the model is its own masked one
        logit_NK = held.logits(model, masked=names)
        yield ",".join(mask), held.judged(model.as_probabilities(logit_NK))


def judge_classes(places: Sequence[str], question: Question) -> Iterator[dict[str, Any]]:
    """Figures of each model, then what they differ by.

    Raises:
        RequestError: if one is no such model, or its data are not there.
    """
    runs: list[Run] = []
    for place in places:
        model, config = class_model(place)
        held = rows_of(config, question)
        for mask, judged in answers(model, held, question):
            told = class_report(judged, draws=question.draws)
            if mask:
                plain_run = next(r.judged for r in reversed(runs) if not r.mask)
                told["less_than_plain"] = apart(plain_run, judged, draws=question.draws)
            runs.append(Run(place=place, kind=_kind(config, mask), mask=mask, judged=judged))
            yield {"model": place, "rows": held.name, "masked": mask, **told}
    yield from compared(runs, question.draws)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """One model's answers with one mask."""

    place: str
    kind: str
    """What runs that differ in nothing but their seed have in common."""
    mask: str
    judged: Judged


def compared(runs: Sequence[Run], draws: int) -> Iterator[dict[str, Any]]:
    """Kinds of model over their seeds, and each kind against the first one's.

    Runs of two kinds are paired in the order they were named: name the seeds in the same order.
    """
    kinds: dict[str, list[Run]] = {}
    for run in runs:
        kinds.setdefault(run.kind, []).append(run)
    if len(runs) < 2:
        return
    first = runs[0].kind
    for kind, members in kinds.items():
        figures = [_macro(run.judged) for run in members]
        told: dict[str, Any] = {
            "kind": kind,
            "runs": len(members),
            "over_seeds": over_seeds(figures),
        }
        if kind != first and len(members) == len(kinds[first]):
            told["less"] = {"kind": first} | _gap(members, kinds[first], draws)
        yield told


def _gap(members: Sequence[Run], others: Sequence[Run], draws: int) -> dict[str, Any]:
    """What one kind has over another: over seeds, and for the first pair of runs over blocks."""
    figures = [(_macro(a.judged), _macro(b.judged)) for a, b in zip(members, others, strict=True)]
    gaps = [{name: a[name] - b[name] for name in a} for a, b in figures]
    told: dict[str, Any] = {"over_seeds": over_seeds(gaps)}
    a, b = members[0].judged, others[0].judged
    if np.array_equal(a.row_N, b.row_N):
        told["first_run"] = apart(a, b, draws=draws)
    return told


def _macro(judged: Judged) -> dict[str, float]:
    whole = asdict(class_figures(judged.p_NC, judged.label_N))
    return {name: whole[name] for name in STATISTICS}


def _kind(config: TrainConfig, mask: str) -> str:
    name = f"{config.recipe} ({config.network})"
    return f"{name} without {mask}" if mask else name


def _is_checkpoint(place: str) -> bool:
    path = Path(place)
    return path.suffix == ".pt" or (path.is_file() and path.suffix != ".zip")


def _judged(places: Sequence[str], question: Question) -> Iterator[dict[str, Any]]:
    """Every model in the order it was named, pairs first."""
    pairs = [
        place
        for place in places
        if _is_checkpoint(place) and load_checkpoint(Path(place)).config.lesson not in TASKS
    ]
    for place in pairs:
        yield {"model": place, **judge_pairs(load_checkpoint(Path(place)), question)}
    yield from judge_classes([p for p in places if p not in pairs], question)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints one JSON object a line; 2 if the request is wrong."""
    options = _parser().parse_args(arguments)
    question = Question(
        source=options.source,
        everything=options.all_rows,
        regions=_names(options.regions),
        masks=tuple(_names(mask) for mask in options.mask),
        draws=options.draws,
    )
    lines = []
    try:
        for answer in _judged(options.models, question):
            lines.append(json.dumps(plain(answer)))
            print(lines[-1], flush=True)
    except QuakestreamError as error:
        print(error, file=sys.stderr)
        return 2
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate",
        description=__doc__,
        epilog="example: python -m training.evaluate runs/qmf/checkpoint.pt --mask all "
        "--mask dpm,sar_vv,sar_vh --regions kahramanmaras",
    )
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument(
        "--source", default="", help="where the store or the points lie now; bundles need it"
    )
    parser.add_argument(
        "--all-rows", action="store_true", help="of a store no model was trained on"
    )
    parser.add_argument("--regions", default="", metavar="A,B", help="held-out rows of these")
    parser.add_argument(
        "--mask",
        action="append",
        default=[],
        metavar="NAMES",
        help="judge also with these hazard values missing; `all` for every one",
    )
    parser.add_argument("--draws", type=int, default=1000, help="bootstrap draws")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="JSON lines, beside stdout")
    return parser


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


if __name__ == "__main__":
    raise SystemExit(main())
