"""`python -m training.evaluate MODEL...`: held-out figures, intervals, and differences of models.

A MODEL is a checkpoint of any kind, or a bundle of task building or hazard. Prints one JSON object
a model. Several models of classes get one more, which compares them on the same buildings.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from quakestream.bundles import load_bundle
from quakestream.errors import QuakestreamError, RequestError
from training.calibrate import calibrate
from training.checkpoints import Checkpoint, load_checkpoint
from training.chip_standing import chip_standing
from training.config import ChipsConfig, GradesConfig, PairsConfig
from training.data.sources import load_pairs
from training.evaluation_set import EvaluationSet, all_rows, evaluation_set
from training.judging import ScoredRows, apart, class_report, over_seeds, plain
from training.lessons.pairs import held_out_logits
from training.manifests import TASKS, class_graph, class_spec
from training.metrics import STATISTICS, arrays, class_figures, figures
from training.models import Model, bundle_model, graph_model
from training.pair_report import differences, report
from training.settings import from_json, with_settings
from training.standing import SQUARE_M, standing_figures

__all__ = ["EvaluationRequest", "differences", "judge_classes", "judge_pairs", "main", "report"]

ALL = "all"
"""Masks every hazard value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRequest:
    """The buildings that models are evaluated on, and the inputs that are hidden from them."""

    source: str = ""
    """Place of the data now, if it is not where the model was trained on them."""
    everything: bool = False
    """Use all rows of the source, for data that a model was never trained on."""
    regions: tuple[str, ...] = ()
    """Use held-out rows of these regions alone; empty for all."""
    masks: tuple[tuple[str, ...], ...] = ()
    """Sets of hazard values to make missing; each is evaluated in addition to the full inputs."""
    draws: int = 1000
    """Bootstrap draws of an interval."""


def judge_pairs(checkpoint: Checkpoint, request: EvaluationRequest) -> dict[str, Any]:
    """Figures of a network that compares pairs.

    Raises:
        RequestError: if nothing is held out in these regions.
    """
    network, config = checkpoint.network(), checkpoint.config_as(PairsConfig)
    pairs = [
        pair
        for pair in load_pairs(config, held_only=True)
        if not request.regions or pair.region in request.regions
    ]
    scored = held_out_logits(config, pairs, network)
    if not scored:
        raise RequestError(
            f"no held-out building in {', '.join(request.regions) or 'any region'}",
            config.recipe,
            remedy="see held_regions and fold of the checkpoint",
        )
    squares = held_out_logits(with_settings(config, [f"judge_square_m={SQUARE_M}"]), pairs, network)
    return {
        "step": checkpoint.step,
        **report(scored, pairs, calibrate(scored)),
        "standing": {
            **standing_figures(scored, pairs),
            f"this model in {SQUARE_M:g} m squares": figures(*arrays(squares)),
        },
    }


def class_model(place: str) -> tuple[Model, GradesConfig]:
    """A building or hazard model and its training configuration.

    Args:
        place: file of a checkpoint, or folder, zip or name of a bundle.

    Raises:
        RequestError: if it is neither.
    """
    if _is_checkpoint(place):
        checkpoint = load_checkpoint(Path(place))
        spec = class_spec(checkpoint, checkpoint.config.recipe)
        graph = class_graph(checkpoint, spec)
        return graph_model(graph, spec), checkpoint.config_as(GradesConfig)
    bundle = load_bundle(place)
    spec = bundle.spec
    if spec.task in TASKS.values() and "config" in spec.training:
        config = from_json(spec.training["config"])
        if isinstance(config, GradesConfig):
            return bundle_model(bundle), config
    raise RequestError(
        f"cannot evaluate a {spec.task} bundle",
        place,
        expected="a checkpoint, or a building or hazard bundle exported from one",
    )


def rows_of(config: GradesConfig, request: EvaluationRequest) -> EvaluationSet:
    """The rows that a request is about.

    Raises:
        RequestError: if there are none.
    """
    if request.source:
        config = with_settings(config, [f"source={request.source}"])
    if not request.everything:
        return evaluation_set(config, regions=request.regions)
    if not isinstance(config, ChipsConfig):
        raise RequestError("points have no store to read all rows of", "--all-rows")
    return all_rows(*config.source, regions=request.regions)


def masked_scores(
    model: Model, held: EvaluationSet, request: EvaluationRequest
) -> Iterator[tuple[str, ScoredRows]]:
    """Scores of a model on held-out rows, with all inputs and once for each mask.

    Raises:
        RequestError: if a mask names a value that the model does not take.
    """
    yield "", held.scored(model.as_probabilities(held.logits(model)))
    for mask in request.masks:
        names = [h.name for h in model.spec.hazard] if mask == (ALL,) else list(mask)
        if not model.spec.hazard:
            continue  # A model without hazard values has nothing to hide.
        logit_NK = held.logits(model, masked=names)
        yield ",".join(mask), held.scored(model.as_probabilities(logit_NK))


def judge_classes(places: Sequence[str], request: EvaluationRequest) -> Iterator[dict[str, Any]]:
    """Figures of each model, then their differences.

    Raises:
        RequestError: if a model cannot be evaluated, or its data are missing.
    """
    runs: list[EvaluationRun] = []
    stood: set[str] = set()
    for place in places:
        model, config = class_model(place)
        held = rows_of(config, request)
        if held.name not in stood and (standing := chip_standing(held)):
            yield {"standing": standing, "rows": held.name}
        stood.add(held.name)
        for mask, scored in masked_scores(model, held, request):
            figures = class_report(scored, draws=request.draws)
            if mask:
                full = next(r.scored for r in reversed(runs) if not r.mask)
                figures["less_than_plain"] = apart(full, scored, draws=request.draws)
            kind = _kind(config, mask)
            runs.append(EvaluationRun(place=place, kind=kind, mask=mask, scored=scored))
            yield {"model": place, "rows": held.name, "masked": mask, **figures}
    yield from compared(runs, request.draws)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EvaluationRun:
    """Scores of one model with one mask."""

    place: str
    kind: str
    """Recipe, network and mask; runs of one kind differ in their seed alone."""
    mask: str
    scored: ScoredRows


def compared(runs: Sequence[EvaluationRun], draws: int) -> Iterator[dict[str, Any]]:
    """Figures of each kind of model over its seeds, and their differences from the first kind.

    Runs of two kinds are paired in the order in which they were named, so seeds have to be named
    in the same order.
    """
    kinds: dict[str, list[EvaluationRun]] = {}
    for run in runs:
        kinds.setdefault(run.kind, []).append(run)
    if len(runs) < 2:
        return
    first = runs[0].kind
    for kind, members in kinds.items():
        figures = [_macro(run.scored) for run in members]
        comparison: dict[str, Any] = {
            "kind": kind,
            "runs": len(members),
            "over_seeds": over_seeds(figures),
        }
        if kind != first and len(members) == len(kinds[first]):
            comparison["less"] = {"kind": first} | _gap(members, kinds[first], draws)
        yield comparison


def _gap(
    members: Sequence[EvaluationRun], others: Sequence[EvaluationRun], draws: int
) -> dict[str, Any]:
    """Differences of two kinds: over seeds, and over blocks for the first pair of runs."""
    figures = [(_macro(a.scored), _macro(b.scored)) for a, b in zip(members, others, strict=True)]
    gaps = [{name: a[name] - b[name] for name in a} for a, b in figures]
    gap: dict[str, Any] = {"over_seeds": over_seeds(gaps)}
    a, b = members[0].scored, others[0].scored
    if np.array_equal(a.row_N, b.row_N):
        gap["first_run"] = apart(a, b, draws=draws)
    return gap


def _macro(scored: ScoredRows) -> dict[str, float]:
    figures = asdict(class_figures(scored.p_NC, scored.label_N))
    return {name: figures[name] for name in STATISTICS}


def _kind(config: GradesConfig, mask: str) -> str:
    name = f"{config.recipe} ({config.network})"
    return f"{name} without {mask}" if mask else name


def _is_checkpoint(place: str) -> bool:
    path = Path(place)
    return path.suffix == ".pt" or (path.is_file() and path.suffix != ".zip")


def _figures(places: Sequence[str], request: EvaluationRequest) -> Iterator[dict[str, Any]]:
    """Figures of every model in the order in which they were named, pair models first."""
    pairs = [
        place
        for place in places
        if _is_checkpoint(place) and load_checkpoint(Path(place)).config.lesson not in TASKS
    ]
    for place in pairs:
        yield {"model": place, **judge_pairs(load_checkpoint(Path(place)), request)}
    yield from judge_classes([p for p in places if p not in pairs], request)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints one JSON object a line. Returns 0 when done, 2 on an error."""
    options = _parser().parse_args(arguments)
    request = EvaluationRequest(
        source=options.source,
        everything=options.all_rows,
        regions=names(options.regions),
        masks=tuple(names(mask) for mask in options.mask),
        draws=options.draws,
    )
    lines = []
    try:
        for figures in _figures(options.models, request):
            lines.append(json.dumps(plain(figures)))
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
        "--source", default="", help="place of the store or the points now; bundles need it"
    )
    parser.add_argument(
        "--all-rows", action="store_true", help="use all rows; for stores not trained on"
    )
    parser.add_argument("--regions", default="", metavar="A,B", help="use these regions alone")
    parser.add_argument(
        "--mask",
        action="append",
        default=[],
        metavar="NAMES",
        help="evaluate also with these hazard values missing; `all` hides every one",
    )
    parser.add_argument("--draws", type=int, default=1000, help="number of bootstrap draws")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="write the lines here too")
    return parser


def names(text: str) -> tuple[str, ...]:
    """Names out of `A,B`."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


if __name__ == "__main__":
    raise SystemExit(main())
