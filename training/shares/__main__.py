"""`python -m training.shares TABLES/MODEL... -o CALIBRATION.json`: fits and judges a calibration.

How many destroyed buildings may score like intact ones is chosen by intervals of left-out towns.
`--bundle BUNDLE` writes the calibration into a bundle, whose weights stay as they are.
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
    districts,
    least_silent,
    left_out,
    with_silent,
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
    towns: tuple[TownVerdict, ...]
    districts: Coverage | None

    def __str__(self) -> str:
        lines = [str(verdict) for verdict in self.towns]
        lines.append(f"silent: {self.calibration.shape.silent:g}")
        if self.districts is not None:
            lines.append(json.dumps(asdict(self.districts)))
        return "\n".join(lines)


def fit_and_judge(tables: pd.DataFrame, others: pd.DataFrame | None = None) -> Judged:
    """The calibration of all towns but those kept for judging, and what is said of it.

    Args:
        tables: towns to fit on, and synthetic towns that are kept for judging.
        others: towns that are judged alone.
    """
    kept = tables["pair"].isin([town_name(*town) for town in JUDGED_TOWNS])
    fitted, judged = tables[~kept], tables[kept]
    trials = list(left_out(fitted))
    calibration = fit(fitted)
    if others is not None:
        for pair, rows in others.groupby("pair"):
            trials.append(LeftOutTown(calibration=calibration, table=rows, name=str(pair)))
    silent = least_silent(trials)
    calibration = with_silent(calibration, silent)
    return Judged(
        calibration=calibration,
        towns=tuple(trial.verdict(silent) for trial in trials),
        districts=districts(calibration, judged) if len(judged) else None,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Fits one calibration. Returns 0 when done, 2 if the request is wrong, 3 if it failed."""
    parser = argparse.ArgumentParser(prog="python -m training.shares", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="TABLES/MODEL")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="JSON")
    parser.add_argument("--judge", nargs="+", type=Path, help="tables that are judged alone")
    parser.add_argument("--bundle", type=Path, help="write the calibration into this bundle")
    options = parser.parse_args(arguments)
    try:
        others = read_tables(options.judge) if options.judge else None
        told = fit_and_judge(read_tables(options.folders), others)
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
