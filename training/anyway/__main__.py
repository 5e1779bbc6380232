"""`python -m training.anyway field|images [-o DIR]`: any-way episodes on what is here, as a table.

`field` has the surveyed points of Kahramanmaraş: five grades and five values a point, blocks of
ground as events, held-out blocks as the test, and scales of two to five grades. `images` has
features of EfficientNet-Lite0: generated towns of three grades to learn from, other towns, and two
real cities of two grades as the test.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from quakestream.errors import QuakestreamError, RequestError
from training.anyway.episodes import EpisodeSampler, GradedEvent
from training.anyway.events import Sides, field_sides, image_sides
from training.anyway.meta import (
    Answer,
    MetaTraining,
    accuracies,
    anyway_answer,
    nearest_mean,
    probe_answer,
    train_anyway,
    train_prototypes,
)

SourceName = Literal["field", "images"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeTable:
    """How an experiment is run."""

    how: MetaTraining
    episodes: int = 200
    """Test episodes per event group and number of grades."""
    shots: int = 5
    seed: int = 1


def answers_of(sides: Sides, table: EpisodeTable) -> dict[str, dict[int, Answer]]:
    """Trained rows of the table: an answer for each number of grades."""
    ways = sides.ways

    def sampler(chosen: tuple[int, ...]) -> EpisodeSampler:
        return EpisodeSampler(events=sides.train, ways=chosen, shots=table.shots, seed=table.seed)

    how = table.how
    rows: dict[str, dict[int, Answer]] = {
        "linear probe on the labels": dict.fromkeys(ways, probe_answer),
        "nearest mean": dict.fromkeys(ways, nearest_mean),
        "ProtoNet, trained": dict.fromkeys(ways, train_prototypes(sampler(ways), how)),
    }
    fixed = {n: train_anyway(sampler((n,)), replace(how, outputs=n)) for n in ways}
    rows["f-MAML, trained at that way"] = {
        n: anyway_answer(head, how.adaptation) for n, head in fixed.items()
    }
    widest = anyway_answer(fixed[max(ways)], how.adaptation, most=1)
    rows[f"f-MAML, trained at {max(ways)}"] = dict.fromkeys(ways, widest)
    for outputs in (max(ways), 10, 30):
        head = train_anyway(sampler(ways), replace(how, outputs=outputs))
        name = f"any-way, {outputs} outputs"
        rows[name] = dict.fromkeys(ways, anyway_answer(head, how.adaptation))
    one = anyway_answer(head, how.adaptation, most=1)
    rows["… one assignment at test"] = dict.fromkeys(ways, one)
    ordered = anyway_answer(head, how.adaptation, tau=0.5)
    rows["… with the order of grades (ours)"] = dict.fromkeys(ways, ordered)
    known = train_anyway(sampler(ways), replace(how, semantic=0.5))
    rows["any-way, second head 0.5"] = dict.fromkeys(ways, anyway_answer(known, how.adaptation))
    return rows


def run_table(sides: Sides, table: EpisodeTable) -> pd.DataFrame:
    """Accuracy with its 95 % interval over episodes, and kappa, per row, test group and ways."""
    rows = answers_of(sides, table)
    records = []
    for group, events in sides.test.items():
        for ways in sides.ways:
            sampler = _sampler_of(events, ways, table)
            if sampler is None:
                continue
            base = None
            for name, answer in rows.items():
                right, kappa = accuracies(answer[ways], sampler, table.episodes)
                base = right if name.startswith("f-MAML, trained at that") else base
                apart = None if base is None or right is base else right - base
                records.append(
                    {
                        "test": group,
                        "ways": ways,
                        "row": name,
                        "accuracy": round(float(right.mean()), 4),
                        "interval": round(_reach(right), 4),
                        "kappa": round(kappa, 3),
                        "minus_fixed": None if apart is None else round(float(apart.mean()), 4),
                        "minus_reach": None if apart is None else round(_reach(apart), 4),
                    }
                )
    return pd.DataFrame(records)


def _sampler_of(
    events: tuple[GradedEvent, ...], ways: int, table: EpisodeTable
) -> EpisodeSampler | None:
    """Test episodes of a number of grades; None if no event has so many."""
    try:
        return EpisodeSampler(
            events=events, ways=(ways,), shots=table.shots, seed=table.seed + 1000
        )
    except RequestError:
        return None


def _reach(values: NDArray[np.float64]) -> float:
    """Half the 95 % interval of a mean over episodes."""
    return float(1.96 * values.std(ddof=1) / len(values) ** 0.5)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a table. Returns 0 when done, 2 if the request is wrong."""
    options = _parser().parse_args(arguments)
    try:
        sides = field_sides() if options.source == "field" else image_sides()
        how = MetaTraining(episodes=options.episodes)
        table = run_table(sides, EpisodeTable(how=how, episodes=options.tests, shots=options.shots))
        print(table.to_string(index=False))
        if options.out:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            table.to_csv(options.out, index=False)
    except QuakestreamError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, RequestError) else 3
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.anyway",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", choices=("field", "images"))
    parser.add_argument("--episodes", type=int, default=1500, help="training episodes of a head")
    parser.add_argument("--tests", type=int, default=200, help="test episodes of a cell")
    parser.add_argument("--shots", type=int, default=5, help="labels per grade")
    parser.add_argument("-o", "--out", type=Path, metavar="CSV")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
