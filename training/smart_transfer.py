"""`python -m training.smart_transfer -o DIR`: Smart Transfer's protocols on cities that are here.

LODO trains on all domains but one and judges on that one. SSDC trains on one chosen source: the
domain whose share of destroyed buildings, or whose position, is nearest to the target's. Every
combination of the losses is trained: none (`raw`), prototypes (`pc`), triplets (`dpt`), both.
Figures stand beside rows that train no decoder: the footprint's area, the difference of the two
images, shipped bundles as they are, and a linear probe on the same features.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from quakestream.bundles import load_bundle
from quakestream.engines import open_engine
from quakestream.errors import QuakestreamError, RequestError
from training.config import TransferConfig
from training.data.pairs import outlined_by_bounds
from training.data.post_tiles import DOMAINS, PAIR_CITIES, POSITION
from training.data.splits import nearest_groups
from training.data.turkiye import default_data_dir, turkiye_pairs
from training.lessons.transfer import (
    FeatureTiles,
    building_scores,
    domain_features,
    open_transfer,
    pixel_figures,
)
from training.loop import run
from training.metrics import MIN_PER_STATE, Statistic, auc_within, block_interval, difference
from training.metrics import statistic as figure_named
from training.networks import build_network
from training.pair_report import differences
from training.probe import building_features, linear_probe
from training.quantise_gate import engine_logits
from training.recipes import recipe
from training.reporting import LogReporter
from training.run_log import RunLog
from training.settings import with_settings, with_values

VARIANTS = {"raw": (0.0, 0.0), "pc": (0.01, 0.0), "dpt": (0.0, 0.001), "pcdpt": (0.01, 0.001)}
"""Weights of the prototype loss and of the triplet loss, as published where they are not 0."""
ZERO_LABELS = ("damage-synthetic",)
"""Bundles that saw no building of any domain."""
SIZES = 5
"""Groups of buildings of about one area."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferTrial:
    """One training of the decoder."""

    protocol: str
    """`lodo`, `ssdc_dl` (nearest damage level) or `ssdc_gd` (nearest position)."""
    sources: tuple[str, ...]
    target: str
    variant: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.target}-{self.protocol}-{self.variant}-{self.seed}"

    def config(self, base: TransferConfig) -> TransferConfig:
        """The configuration of this trial."""
        prototype, triplet = VARIANTS[self.variant]
        loss = replace(base.transfer_loss, prototype_weight=prototype, triplet_weight=triplet)
        return with_values(
            base,
            domains=self.sources,
            held=(self.target,),
            seed=self.seed,
            transfer_loss=loss,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferPlan:
    """What an experiment trains."""

    protocols: tuple[str, ...]
    targets: tuple[str, ...]
    variants: tuple[str, ...]
    seeds: int


def trials(plan: TransferPlan, base: TransferConfig) -> Iterator[TransferTrial]:
    """All trials of an experiment, target by target."""
    for target in plan.targets:
        for protocol in plan.protocols:
            for variant in plan.variants:
                for seed in range(1, plan.seeds + 1):
                    yield TransferTrial(
                        protocol=protocol,
                        sources=sources_of(protocol, target, base),
                        target=target,
                        variant=variant,
                        seed=seed,
                    )


def sources_of(protocol: str, target: str, base: TransferConfig) -> tuple[str, ...]:
    """Domains that a protocol trains on.

    Raises:
        RequestError: if the target or the protocol is unknown.
    """
    if target not in DOMAINS:
        raise RequestError("unknown domain", target, expected=f"one of {', '.join(DOMAINS)}")
    if protocol == "lodo":
        return tuple(name for name in DOMAINS if name != target)
    if protocol == "ssdc_gd":
        return nearest_groups(POSITION, target)
    if protocol == "ssdc_dl":
        tiles = {n: domain_features(n, base.encoder, base.weights).tiles for n in DOMAINS}
        return nearest_groups({n: (t.damaged_share,) for n, t in tiles.items()}, target)
    raise RequestError("unknown protocol", protocol, expected="lodo, ssdc_dl or ssdc_gd")


def answers_of(trial: TransferTrial, base: TransferConfig, out: Path) -> pd.DataFrame:
    """Trains one decoder and scores the target's buildings."""
    config = trial.config(base)
    lesson = open_transfer(config)
    checkpoint = run(config, lesson, LogReporter(RunLog(out / trial.name)))
    checkpoint.save(out / trial.name / "checkpoint.pt")
    network = build_network(config.network, inputs=lesson.inputs)
    network.load_state_dict(checkpoint.weights)
    answers, counts = building_scores(network.eval(), lesson.held)
    return answers.assign(row=f"{trial.protocol} {trial.variant}", **pixel_figures(counts))


def standing(target: str, base: TransferConfig) -> pd.DataFrame:
    """Answers of the rows that train no decoder."""
    held = domain_features(target, base.encoder, base.weights)
    table = held.tiles.buildings
    parts = [table.assign(p=np.log(table["area_px"].clip(lower=1)), row="area alone")]
    parts.append(_probe(target, held, base))
    if target in PAIR_CITIES:
        parts += _of_pairs(target, table)
    return pd.concat(parts, ignore_index=True)


def _probe(target: str, held: FeatureTiles, base: TransferConfig) -> pd.DataFrame:
    features, labels = [], []
    for source in sources_of("lodo", target, base):
        tiles = domain_features(source, base.encoder, base.weights)
        row_N, feature_ND = building_features(tiles)
        features.append(feature_ND)
        labels.append(tiles.tiles.buildings["destroyed"].to_numpy(np.int64)[row_N])
    probe = linear_probe(np.concatenate(features), np.concatenate(labels))
    row_N, feature_ND = building_features(held)
    answers = held.tiles.buildings.iloc[row_N]
    return answers.assign(p=probe.predict_proba(feature_ND)[:, 1], row="lodo linear probe")


def _of_pairs(target: str, table: pd.DataFrame) -> list[pd.DataFrame]:
    """The difference of the two images, and bundles that saw no label of any domain."""
    pairs = [p for p in turkiye_pairs(default_data_dir()) if p.region == target]
    pairs = [outlined_by_bounds(pair) for pair in pairs]
    parts = []
    for name in ZERO_LABELS:
        bundle = load_bundle(name)
        engine = open_engine(bundle, runtime="onnxruntime")
        scored = [s for pair in pairs for s in engine_logits(engine, bundle.spec, pair)]
        ids = [f"{s.pair}/{s.building.id}" for s in scored]
        p_N = [s.probability(temperature=bundle.spec.temperature) for s in scored]
        rows = {f"{name} (pairs, zero labels)": p_N, "difference": differences(scored, pairs)}
        by_id = table.set_index("id").loc[ids].reset_index()
        parts += [by_id.assign(p=np.asarray(p), row=row) for row, p in rows.items()]
    return parts


def table_of(answers: pd.DataFrame, *, draws: int = 500) -> pd.DataFrame:
    """Figures of each target and row, with 95 % intervals over blocks of ground.

    Seeds of a row are averaged building by building. All rows of a target are compared on the
    buildings that every row has.
    """
    rows = []
    for target, of_target in answers.groupby("domain", sort=False):
        means = of_target.groupby(["row", "id"], sort=False)["p"].mean().unstack("row")
        means = means.dropna()
        facts = of_target.drop_duplicates("id").set_index("id").loc[means.index]
        rows += [
            _figures(str(target), str(row), means, facts, of_target, draws) for row in means.columns
        ]
    return pd.DataFrame(rows)


def _figures(
    target: str,
    row: str,
    means: pd.DataFrame,
    facts: pd.DataFrame,
    answers: pd.DataFrame,
    draws: int,
) -> dict[str, object]:
    destroyed_N = facts["destroyed"].to_numpy(bool)
    score_N = means[row].to_numpy(np.float64)
    same_size_N = pd.qcut(facts["area_px"].rank(method="first"), SIZES, labels=False)
    auc = block_interval(_auc(score_N, destroyed_N), facts["block"].to_numpy(str), draws=draws)
    values: dict[str, object] = {
        "target": target,
        "row": row,
        "destroyed": int(destroyed_N.sum()),
        "intact": int((~destroyed_N).sum()),
        "auc": f"{auc.value:.3f} ({auc.low:.3f}–{auc.high:.3f})",
        "auc_same_size": auc_within(score_N, destroyed_N, same_size_N.to_numpy(np.int64)),
        "ap": _average_precision(score_N, destroyed_N),
    }
    own = answers[answers["row"] == row]
    for name in ("pixel_f1", "pixel_miou"):
        values[name] = float(own[name].mean()) if name in own else float("nan")
    base = row.rsplit(" ", 1)[0] + " raw"
    if row != base and base in means.columns:
        gain = difference(_auc(score_N, destroyed_N), _auc(means[base].to_numpy(), destroyed_N))
        apart = block_interval(gain, facts["block"].to_numpy(str), draws=draws)
        values["auc_minus_raw"] = f"{apart.value:+.3f} ({apart.low:+.3f} to {apart.high:+.3f})"
    return values


def _auc(score_N: NDArray[np.float64], destroyed_N: NDArray[np.bool_]) -> Statistic:
    two_NC = np.stack([-score_N, score_N], axis=1)
    return figure_named("macro_auc", two_NC, destroyed_N.astype(np.int64))


def _average_precision(score_N: NDArray[np.float64], destroyed_N: NDArray[np.bool_]) -> float:
    from sklearn.metrics import average_precision_score

    if min(destroyed_N.sum(), (~destroyed_N).sum()) < MIN_PER_STATE:
        return float("nan")
    return float(average_precision_score(destroyed_N, score_N))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs an experiment and prints its table. Returns 0 when done, 2 if the request is wrong."""
    options = _parser().parse_args(arguments)
    try:
        base = with_settings(recipe("smart_transfer_small"), options.settings)
        if not isinstance(base, TransferConfig):
            raise RequestError("recipe is of another lesson", base.recipe)
        options.out.mkdir(parents=True, exist_ok=True)
        plan = TransferPlan(
            protocols=tuple(options.protocol),
            targets=tuple(options.target),
            variants=tuple(options.variant),
            seeds=options.seeds,
        )
        parts = [standing(target, base) for target in plan.targets]
        parts += [answers_of(trial, base, options.out) for trial in trials(plan, base)]
        answers = pd.concat(parts, ignore_index=True)
        answers.to_parquet(options.out / "answers.parquet")
        table = table_of(answers)
        table.to_csv(options.out / "table.csv", index=False)
        print(table.to_string(index=False, float_format=lambda v: f"{v:.3f}"))
    except QuakestreamError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, RequestError) else 3
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.smart_transfer",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    known = ("lodo", "ssdc_dl", "ssdc_gd")
    parser.add_argument("--protocol", nargs="+", choices=known, default=["lodo"])
    parser.add_argument("--target", nargs="+", choices=DOMAINS, default=["adiyaman", "islahiye"])
    parser.add_argument("--variant", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--seeds", type=int, default=1, metavar="N")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
