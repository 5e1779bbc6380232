"""`python -m training.shares TABLES/MODEL... -o CALIBRATION.json`: fits and judges a calibration.

`--bundle BUNDLE` writes it into a bundle, whose weights stay as they are. `--cover` widens it until
the interval of every town that is judged holds the truth.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from quakestream.domain.calibration import Calibration
from quakestream.errors import QuakestreamError, RequestError
from training.shares.fit import fit
from training.shares.judge import (
    Coverage,
    LeftOutTown,
    TownVerdict,
    covering,
    districts,
    left_out,
    widened,
)
from training.shares.restate import restate
from training.shares.tables import JUDGED_TOWNS, town_name

SYNTHETIC = "synthetic"


def read_tables(folders: Sequence[Path]) -> pd.DataFrame:
    """Tables of one or more models, with the family of each town.

    Raises:
        RequestError: if there is none.
    """
    paths = [path for folder in folders for path in sorted(folder.glob("*.parquet"))]
    if not paths:
        raise RequestError(
            "no tables",
            ", ".join(map(str, folders)),
            remedy="make them with python -m training.shares.tables",
        )
    tables = pd.concat([pd.read_parquet(path) for path in paths], ignore_index=True)
    made = tables["town"].str.startswith(SYNTHETIC)
    return tables.assign(family=np.where(made, SYNTHETIC, tables["town"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A calibration, and what it says of towns that neither it nor its model has seen."""

    calibration: Calibration
    widened: float
    """Factor on the spread of the peak of destroyed buildings."""
    towns: tuple[TownVerdict, ...]
    districts: Coverage | None

    def __str__(self) -> str:
        lines = [str(verdict) for verdict in self.towns]
        if self.widened != 1:
            lines.append(f"peak of destroyed buildings spread {self.widened:g} times as wide")
        if self.districts is not None:
            lines.append(json.dumps(asdict(self.districts)))
        return "\n".join(lines)


def fit_and_judge(
    tables: pd.DataFrame, others: pd.DataFrame | None = None, *, cover: bool = False
) -> Judged:
    """The calibration of all towns but those kept for judging, and what is said of it.

    Args:
        tables: towns to fit on, and synthetic towns that are kept for judging.
        others: towns that are judged alone.
        cover: widen it until every interval of a left-out or other town holds the truth. The
            figures of those towns then flatter a little.

    Raises:
        RequestError: if no widening does.
    """
    kept = tables["pair"].isin([town_name(*town) for town in JUDGED_TOWNS])
    fitted, judged = tables[~kept], tables[kept]
    trials = list(left_out(fitted))
    calibration = fit(fitted)
    if others is not None:
        for pair, rows in others.groupby("pair"):
            trials.append(LeftOutTown(calibration=calibration, table=rows, name=str(pair)))
    factor = covering(trials) if cover else 1.0
    calibration = widened(calibration, factor)
    return Judged(
        calibration=calibration,
        widened=factor,
        towns=tuple(trial.verdict(factor) for trial in trials),
        districts=districts(calibration, judged) if len(judged) else None,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Fits one calibration. Returns 0 when done, 2 if the request is wrong, 3 if it failed."""
    parser = argparse.ArgumentParser(prog="python -m training.shares", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="TABLES/MODEL")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="JSON")
    parser.add_argument("--judge", nargs="+", type=Path, help="tables that are judged alone")
    parser.add_argument("--cover", action="store_true", help="widen it until intervals hold")
    parser.add_argument("--bundle", type=Path, help="write the calibration into this bundle")
    options = parser.parse_args(arguments)
    try:
        others = read_tables(options.judge) if options.judge else None
        told = fit_and_judge(read_tables(options.folders), others, cover=options.cover)
        print(told)
        options.out.write_text(json.dumps(asdict(told.calibration), indent=2) + "\n")
        if options.bundle is not None:
            restate(options.bundle, told.calibration, told.towns)
    except QuakestreamError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, RequestError) else 3
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
