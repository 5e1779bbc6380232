"""`python -m training.explain MODEL -o DIR`: what each damage class goes by, input by input.

Writes `explanation.json`, `explanation.md` (tables) and `explanation.svg` (a figure) for a
building or hazard model, out of a checkpoint or a bundle.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from quakestream.errors import QuakestreamError, RequestError
from training.evaluate import Question, class_model, rows_of
from training.explain_report import markdown, svg
from training.explanation import Explanation, explain
from training.judging import plain
from training.rows import Part


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """How much is asked of the model."""

    buildings: int = 200
    """Held-out buildings explained, drawn at random."""
    background: int = 16
    """Training buildings that stand in for what is not known."""
    deals: int = 5
    """Times each input is dealt out at random."""
    single: bool = False
    """Each hazard value by itself, instead of each group."""
    seed: int = 0


def explain_model(place: str, question: Question, depth: Depth) -> Explanation:
    """Explains a checkpoint or a bundle on what was held out from it.

    Absent inputs are those of training buildings, or of other test buildings where all rows of
    a store are the test.

    Raises:
        RequestError: if the model has one input only, or its data are not there.
    """
    model, config = class_model(place)
    rng = np.random.default_rng(depth.seed)
    held = rows_of(config, question)
    chosen = held.some("test", depth.buildings, rng)
    others: Part = "train" if len(held.rows["train"]) else "test"
    background = held.some(others, depth.background, rng).inputs(model.spec, others)
    return explain(
        model,
        chosen.inputs(model.spec),
        chosen.labels(),
        background,
        single=depth.single,
        deals=depth.deals,
        seed=depth.seed,
    )


def write_explanation(told: Explanation, folder: Path) -> None:
    """The three files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "explanation.json").write_text(json.dumps(plain(told), indent=1) + "\n")
    (folder / "explanation.md").write_text(markdown(told))
    (folder / "explanation.svg").write_text(svg(told))


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes one explanation and prints its table; 2 if the request is wrong."""
    options = _parser().parse_args(arguments)
    question = Question(source=options.source, everything=options.all_rows)
    depth = Depth(
        buildings=options.buildings,
        background=options.background,
        deals=options.deals,
        single=options.single,
        seed=options.seed,
    )
    try:
        told = explain_model(options.model, question, depth)
    except QuakestreamError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, RequestError) else 3
    write_explanation(told, options.out)
    print(markdown(told))
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
        "--source", default="", help="where the store or the points lie now; bundles need it"
    )
    parser.add_argument(
        "--all-rows", action="store_true", help="of a store the model was not trained on"
    )
    parser.add_argument("--buildings", type=int, default=200)
    parser.add_argument("--background", type=int, default=16)
    parser.add_argument("--deals", type=int, default=5)
    parser.add_argument("--single", action="store_true", help="each hazard value by itself")
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
