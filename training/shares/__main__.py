"""`python -m training.shares TABLES/MODEL... -o CALIBRATION.json`: fits and judges a calibration.

`--bundle BUNDLE` writes it into a bundle, whose weights stay as they are.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from quakestream.domain.calibration import Calibration
from quakestream.errors import QuakestreamError, RequestError
from training.shares.fit import fit
from training.shares.judge import TownVerdict, districts, left_out, verdict_of
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


def fit_and_judge(
    tables: pd.DataFrame, others: pd.DataFrame | None = None
) -> tuple[Calibration, str]:
    """The calibration of all towns but those kept for judging, and what is said of it.

    Args:
        tables: towns to fit on, and synthetic towns that are kept for judging.
        others: towns that are judged alone.
    """
    kept = tables["pair"].isin([town_name(*town) for town in JUDGED_TOWNS])
    fitted, judged = tables[~kept], tables[kept]
    lines = [_line(verdict) for verdict in left_out(fitted)]
    calibration = fit(fitted)
    if others is not None:
        towns = others.groupby("pair")
        lines += [_line(verdict_of(calibration, rows, str(pair))) for pair, rows in towns]
    if len(judged):
        lines.append(json.dumps(asdict(districts(calibration, judged))))
    return calibration, "\n".join(lines)


def _line(verdict: TownVerdict) -> str:
    return (
        f"{verdict.town}: {verdict.destroyed} of {verdict.buildings} destroyed, "
        f"{verdict.declared} declared ({verdict.declared_right} right), expected "
        f"{verdict.expected:.1f} ({verdict.low:g} to {verdict.high:g}), "
        f"calibration error {verdict.calibration_error:.3f}"
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
        calibration, told = fit_and_judge(read_tables(options.folders), others)
        print(told)
        options.out.write_text(json.dumps(asdict(calibration), indent=2) + "\n")
        if options.bundle is not None:
            restate(options.bundle, calibration)
    except QuakestreamError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, RequestError) else 3
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
