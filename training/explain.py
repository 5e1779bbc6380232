"""`python -m training.explain MODEL -o DIR`: the importance of each input for each damage class.

Writes `explanation.json`, `explanation.md` (tables) and `explanation.svg` (a figure) for a
building or hazard model, from a checkpoint or a bundle.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from quakestream.errors import QuakestreamError, RequestError
from training.data.splits import SplitPart
from training.evaluate import EvaluationRequest, class_model, names, rows_of
from training.explain_report import markdown, svg
from training.explanation import Explanation, explain
from training.judging import plain


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainOptions:
    """How much an explanation computes."""

    buildings: int = 200
    """Held-out buildings to explain, drawn at random."""
    background: int = 16
    """Training buildings whose inputs replace absent ones."""
    deals: int = 5
    """Times that each input is permuted at random."""
    single: bool = False
    """Explain each hazard value by itself instead of each group."""
    seed: int = 0


def explain_model(place: str, request: EvaluationRequest, options: ExplainOptions) -> Explanation:
    """Explains a checkpoint or a bundle on its held-out rows.

    An absent input is taken from training buildings. If all rows of a store are the test, it is
    taken from other test buildings.

    Raises:
        RequestError: if the model has one input only, or its data are missing.
    """
    model, config = class_model(place)
    rng = np.random.default_rng(options.seed)
    held = rows_of(config, request)
    chosen = held.some("test", options.buildings, rng)
    others: SplitPart = "train" if len(held.rows["train"]) else "test"
    background = held.some(others, options.background, rng).inputs(model.spec, others)
    return explain(
        model,
        chosen.inputs(model.spec),
        chosen.labels(),
        background,
        single=options.single,
        deals=options.deals,
        seed=options.seed,
    )


def write_explanation(explanation: Explanation, folder: Path) -> None:
    """Writes the three files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "explanation.json").write_text(json.dumps(plain(explanation), indent=1) + "\n")
    (folder / "explanation.md").write_text(markdown(explanation))
    (folder / "explanation.svg").write_text(svg(explanation))


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes and prints one explanation. Returns 0 when done, 2 if the request is wrong."""
    parsed = _parser().parse_args(arguments)
    request = EvaluationRequest(
        source=parsed.source, everything=parsed.all_rows, regions=names(parsed.regions)
    )
    options = ExplainOptions(
        buildings=parsed.buildings,
        background=parsed.background,
        deals=parsed.deals,
        single=parsed.single,
        seed=parsed.seed,
    )
    try:
        explanation = explain_model(parsed.model, request, options)
    except QuakestreamError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, RequestError) else 3
    write_explanation(explanation, parsed.out)
    print(markdown(explanation))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.explain",
        description=__doc__,
        epilog="example: python -m training.explain damage-grades --source chips.zarr -o why",
    )
    parser.add_argument("model", metavar="MODEL", help="checkpoint, or bundle folder, zip or name")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--source", default="", help="place of the store or the points now; bundles need it"
    )
    parser.add_argument(
        "--all-rows", action="store_true", help="use all rows; for stores not trained on"
    )
    parser.add_argument("--regions", default="", metavar="A,B", help="use these regions alone")
    parser.add_argument("--buildings", type=int, default=200, help="buildings to explain")
    parser.add_argument(
        "--background", type=int, default=16, help="buildings that replace absent inputs"
    )
    parser.add_argument("--deals", type=int, default=5, help="permutations of each input")
    parser.add_argument("--single", action="store_true", help="explain each hazard value by itself")
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
