"""`python -m training.regions RECIPE -o DIR`: leaves each region out in turn, and evaluates on it.

This measures how well a model works in a town that it was not trained on. One run is trained for
each region on all other regions. Its last state is used, because choosing a state by the left-out
region would be peeking. The scores of all left-out buildings are pooled, because most regions have
too few destroyed buildings for figures of their own. `--compare DIR DIR...` compares finished
experiments on the same buildings.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.metrics import f1_score, roc_auc_score

from quakestream.errors import QuakestreamError, RequestError
from training.calibrate import choose_thresholds
from training.checkpoints import Checkpoint, load_checkpoint
from training.config import ChipsConfig, ImagePairsConfig, PairsConfig, PretrainConfig, TrainConfig
from training.data.pairs import LabelledPair
from training.data.sources import load_pairs
from training.data.store import BuildingChips, ChipStore
from training.evaluation_set import evaluation_set
from training.lessons import open_lesson
from training.lessons.base import Lesson
from training.lessons.pairs import held_out_logits
from training.loop import run
from training.manifests import class_graph, class_spec
from training.metrics import MIN_PER_STATE, block_interval, blocks_of, difference, figures
from training.models import graph_model
from training.pair_report import differences
from training.recipes import recipe
from training.reporting import LogReporter
from training.run_log import RunLog
from training.scoring import BuildingLogits
from training.settings import with_settings, with_values
from training.standing import AREA, SQUARE_M, standing_scores, standing_table

BLOCK_M = 150.0
"""Side of a bootstrap block, metres."""
ANSWERS = "answers.parquet"
IN_SQUARES = "p_square"
"""Column with the probability inside a square of `training.standing.SQUARE_M`."""
TEMPERATURE = 0.5
"""Temperature of the pixel probabilities; every run so far was calibrated to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionExperiment:
    """The configurations that are trained for each left-out region."""

    config: PairsConfig | ChipsConfig
    pretrain: PretrainConfig | None = None
    """Pre-training of the encoder that `config` starts from, with the same region left out."""

    @staticmethod
    def of(config: TrainConfig, pretrain: TrainConfig | None = None) -> "RegionExperiment":
        """The experiment of two recipes.

        Raises:
            RequestError: if a recipe's lesson cannot leave regions out.
        """
        if not isinstance(config, PairsConfig | ChipsConfig):
            raise RequestError(
                "recipe has no regions to leave out",
                config.recipe,
                expected="lesson pairs or chips",
            )
        if pretrain is None or isinstance(pretrain, PretrainConfig):
            return RegionExperiment(config=config, pretrain=pretrain)
        raise RequestError(
            "recipe is no pre-training", "--pretrain", "lesson pretrain", pretrain.recipe
        )


def leave_each_out(experiment: RegionExperiment, out: Path) -> pd.DataFrame:
    """Trains one run per region and scores the left-out buildings.

    Returns:
        A row per building, columns `region, building_id, destroyed, x_m, y_m, epsg, p, difference`.
    """
    regions = _regions(experiment.config)
    parts = [_left_out(experiment, region, out / region) for region in regions]
    answers = pd.concat(parts, ignore_index=True)
    answers.to_parquet(out / ANSWERS)
    return answers


def left_out_logits(folder: Path) -> tuple[list[BuildingLogits], list[LabelledPair]]:
    """Left-out buildings of a finished experiment as its runs scored them, and their pairs.

    Raises:
        RequestError: if the run of a region is missing.
    """
    pairs: list[LabelledPair] = []
    scored: list[BuildingLogits] = []
    for region in sorted(_answers(folder)["region"].unique()):
        checkpoint = load_checkpoint(folder / region / "checkpoint.pt")
        config = checkpoint.config_as(PairsConfig)
        pairs = pairs or load_pairs(config, held_only=True)
        here = [pair for pair in pairs if pair.region == region]
        scored += held_out_logits(config, here, checkpoint.network())
    return scored, pairs


def compare(runs: dict[str, pd.DataFrame], *, draws: int = 1000) -> dict[str, Any]:
    """Figures of each experiment and of the standing rows, and gains over the plain difference.

    The standing rows (see `training.standing`), and those in squares, are there for experiments on
    pairs; experiments of earlier versions have the plain difference alone.

    Raises:
        RequestError: if two experiments did not score the same buildings.
    """
    tables = [t.sort_values("building_id", ignore_index=True) for t in runs.values()]
    first = tables[0]
    for name, table in zip(runs, tables, strict=True):
        if not table["building_id"].equals(first["building_id"]):
            raise RequestError(f"has other buildings than {next(iter(runs))}", name)
    scores = {"pre/post difference": first["difference"].to_numpy()}
    if AREA in first.columns:
        scores |= standing_scores(first)
    for name, table in zip(runs, tables, strict=True):
        scores[name] = table["p"].to_numpy()
        if IN_SQUARES in table.columns:
            scores[f"{name} in {SQUARE_M:g} m squares"] = table[IN_SQUARES].to_numpy()
    baseline = scores["pre/post difference"]
    return {name: _figures(p_N, baseline, first, draws) for name, p_N in scores.items()}


def left_out_thresholds(answers: pd.DataFrame, p_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """Threshold of each building: the balanced threshold on the buildings of all other regions."""
    destroyed_N = answers["destroyed"].to_numpy(bool)
    region_N = answers["region"].to_numpy()
    threshold_N = np.empty(len(answers))
    for region in np.unique(region_N):
        here_N = region_N == region
        chosen = choose_thresholds(p_N[~here_N], destroyed_N[~here_N])
        threshold_N[here_N] = chosen.balanced
    return threshold_N


def _regions(config: ImagePairsConfig | ChipsConfig) -> list[str]:
    if isinstance(config, ChipsConfig):
        table = ChipStore.open(*config.source).table
        return sorted(table.loc[table["label"] >= 0, "region"].unique())
    real = config.source.startswith("turkiye")  # towns beside real pairs are never left out
    return sorted({pair.region for pair in load_pairs(config, held_only=real)})


def _left_out(experiment: RegionExperiment, region: str, out: Path) -> pd.DataFrame:
    if isinstance(experiment.config, ChipsConfig):
        return _left_out_chips(experiment.config, region, out)
    return _left_out_pairs(experiment.config, experiment.pretrain, region, out)


def _left_out_pairs(
    config: PairsConfig, pretrain: PretrainConfig | None, region: str, out: Path
) -> pd.DataFrame:
    config = with_values(config, held_regions=(region,))
    if pretrain is not None:
        folder = out / "pretrain"
        encoder = _trained(with_values(pretrain, held_regions=(region,)), folder)
        encoder.save(folder / "checkpoint.pt")
        config = replace(config, init=str(folder / "checkpoint.pt"))
    checkpoint = _trained(config, out)
    checkpoint.save(out / "checkpoint.pt")
    pairs = [pair for pair in load_pairs(config, held_only=True) if pair.region == region]
    network = checkpoint.network()
    scored = held_out_logits(config, pairs, network)
    squares = held_out_logits(with_values(config, judge_square_m=SQUARE_M), pairs, network)
    square_p = {s.building.id: s.probability(temperature=TEMPERATURE) for s in squares}
    centres = [s.building.geometry.centroid for s in scored]
    epsg_of = {pair.name: pair.grid.epsg for pair in pairs}
    answers = pd.DataFrame(
        {
            "region": region,
            "building_id": [s.building.id for s in scored],
            "destroyed": [s.building.destroyed for s in scored],
            "x_m": [c.x for c in centres],
            "y_m": [c.y for c in centres],
            "epsg": [epsg_of[s.pair] for s in scored],
            "p": [s.probability(temperature=TEMPERATURE) for s in scored],
            "difference": differences(scored, pairs),
            IN_SQUARES: [square_p[s.building.id] for s in scored],
        }
    )
    return answers.merge(standing_table(pairs), on="building_id", how="left", validate="1:1")


def _left_out_chips(config: ChipsConfig, region: str, out: Path) -> pd.DataFrame:
    """A building model of two classes; its state is chosen on blocks of the other regions."""
    config = replace(config, rows=replace(config.rows, split="regions", held=(region,)))
    checkpoint = _trained(config, out)
    checkpoint.save(out / "checkpoint.pt")
    spec = class_spec(checkpoint, config.recipe)
    if len(spec.classes) != 2:
        raise RequestError(
            "store has another number of classes",
            ", ".join(config.source),
            expected="two classes",
            got=", ".join(spec.labels),
        )
    held, store = evaluation_set(config), ChipStore.open(*config.source)
    row_N = held.rows["test"]
    table = store.table.iloc[row_N]
    logits_NK = held.logits(graph_model(class_graph(checkpoint, spec), spec))
    return pd.DataFrame(
        {
            "region": region,
            "building_id": table["building_id"].to_numpy(object),
            "destroyed": table["label"].to_numpy() == 1,
            "x_m": table["x_m"].to_numpy(),
            "y_m": table["y_m"].to_numpy(),
            "epsg": table["epsg"].to_numpy(),
            "p": softmax(logits_NK.astype(np.float64), axis=1)[:, 1],
            "difference": [_difference(store.read(row_N[i : i + 1])) for i in range(len(row_N))],
        }
    )


def _difference(chip: BuildingChips) -> float:
    """Mean |post - pre| of a chip inside its footprint, counts."""
    if chip.pre_NBYX is None:
        return 0.0
    apart_BYX = np.abs(chip.post_NBYX[0].astype(np.int16) - chip.pre_NBYX[0])
    return float(apart_BYX[:, chip.inside_NYX[0]].mean())


def _trained(config: TrainConfig, out: Path) -> Checkpoint:
    lesson: Lesson = open_lesson(config)
    return run(config, lesson, LogReporter(RunLog(out)))


def _figures(
    p_N: NDArray[np.float64], baseline_N: NDArray[np.float64], answers: pd.DataFrame, draws: int
) -> dict[str, Any]:
    destroyed_N = answers["destroyed"].to_numpy(bool)
    block_N = blocks_of(
        answers["x_m"], answers["y_m"], side_m=BLOCK_M, group_N=answers["epsg"].to_numpy()
    )
    declared_N = p_N >= left_out_thresholds(answers, p_N)

    def auc(score_N: NDArray[np.float64]) -> Any:
        return lambda weight_N: _auc(destroyed_N, score_N, weight_N)

    def f1(weight_N: NDArray[np.float64]) -> float:
        return float(f1_score(destroyed_N, declared_N, sample_weight=weight_N, zero_division=0))

    gained = difference(auc(p_N), auc(baseline_N))
    return {
        "auc": asdict(block_interval(auc(p_N), block_N, draws=draws)),
        "f1": asdict(block_interval(f1, block_N, draws=draws)),
        "average_precision": figures(p_N, destroyed_N, probabilities=False).average_precision,
        "auc_over_difference": asdict(block_interval(gained, block_N, draws=draws)),
        "regions": {
            str(region): _region(p_N[here_N], destroyed_N[here_N])
            for region, here_N in _members(answers["region"].to_numpy())
        },
        "all_but_the_largest": _without_largest(p_N, destroyed_N, answers["region"].to_numpy()),
    }


def _auc(
    destroyed_N: NDArray[np.bool_], p_N: NDArray[np.float64], weight_N: NDArray[np.float64]
) -> float:
    if not 0 < weight_N[destroyed_N].sum() < weight_N.sum():
        return float("nan")
    return float(roc_auc_score(destroyed_N, p_N, sample_weight=weight_N))


def _region(p_N: NDArray[np.float64], destroyed_N: NDArray[np.bool_]) -> dict[str, Any]:
    region = figures(p_N, destroyed_N, probabilities=False)
    return {"destroyed": region.destroyed, "intact": region.intact, "auc": region.auc}


def _without_largest(
    p_N: NDArray[np.float64], destroyed_N: NDArray[np.bool_], region_N: NDArray[np.object_]
) -> dict[str, Any]:
    """Figures without the region that holds most destroyed buildings and dominates the pool."""
    counts = {region: int(destroyed_N[here_N].sum()) for region, here_N in _members(region_N)}
    rest_N = region_N != max(counts, key=lambda region: counts[region])
    return _region(p_N[rest_N], destroyed_N[rest_N])


def _members(region_N: NDArray[np.object_]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    for region in np.unique(region_N):
        yield str(region), region_N == region


def markdown(compared: dict[str, Any]) -> str:
    """The comparison as a table."""
    lines = [
        "| run | AUC, pooled | F1 | AP | AUC over the difference | largest region | others |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, result in compared.items():
        regions = result["regions"].values()
        largest = max(regions, key=lambda r: r["destroyed"])
        cells = [
            name,
            _interval(result["auc"]),
            _interval(result["f1"]),
            f"{result['average_precision']:.3f}",
            _interval(result["auc_over_difference"]),
            f"{largest['auc']:.3f}",
            f"{result['all_but_the_largest']['auc']:.3f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _interval(interval: dict[str, float]) -> str:
    return f"{interval['value']:.3f} ({interval['low']:.3f} to {interval['high']:.3f})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains or compares. Returns 0 when done, 2 if the request is wrong, 3 if it failed."""
    options = _parser().parse_args(arguments)
    try:
        if options.compare:
            runs = {path.name: _answers(path) for path in options.compare}
            compared = compare(runs)
            print(json.dumps(compared) if options.json else markdown(compared))
            return 0
        if not options.recipe or options.out is None:
            raise RequestError(
                "nothing to do", remedy="give a recipe and -o DIR, or --compare DIR..."
            )
        pretrain = recipe(options.pretrain) if options.pretrain else None
        config = with_settings(recipe(options.recipe), options.settings)
        answers = leave_each_out(RegionExperiment.of(config, pretrain), options.out)
        print(markdown(compare({options.out.name: answers})))
    except QuakestreamError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, RequestError) else 3
    return 0


def _answers(folder: Path) -> pd.DataFrame:
    path = folder / ANSWERS
    if not path.is_file():
        raise RequestError(
            "no such file",
            str(path),
            remedy="python -m training.regions RECIPE -o DIR makes it",
        )
    return pd.read_parquet(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.regions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"A region with fewer than {MIN_PER_STATE} buildings of either state has no AUC. "
        "example: python -m training.regions fc_siam_diff_small --set steps=500 -o runs/lodo/diff",
    )
    parser.add_argument("recipe", nargs="?")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument(
        "--pretrain", default="", metavar="RECIPE", help="pre-train the encoder of each run"
    )
    parser.add_argument("-o", "--out", type=Path, metavar="DIR")
    parser.add_argument("--compare", nargs="+", type=Path, metavar="DIR", default=[])
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
