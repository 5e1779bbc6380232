"""`python -m training.context PARENT -o BUNDLE`: adds surroundings to a pair bundle.

The head is fitted on the Türkiye pairs, the crops of İslahiye and four synthetic towns.
`--without REGION` leaves a city out, so that `training.shares.tables` may judge the bundle there;
PARENT must have left it out too. `--answers` are such tables: figures and thresholds of the
bundle's card are made of them.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from quakestream.bundles import Bundle, load_bundle
from quakestream.engines import open_engine
from quakestream.errors import QuakestreamError, RequestError
from training.context.bundle import write_context
from training.context.features import ContextExamples, ContextReader
from training.context.graph import ContextWindows
from training.context.head import TownScores, fit_context
from training.data.islahiye import islahiye_crops
from training.data.pairs import LabelledPair, outlined_by_bounds
from training.data.turkiye import default_data_dir
from training.quantise_gate import engine_logits
from training.shares.tables import real_pairs, synthetic_towns

CROPS = "islahiye"
TOWNS = ((521, 0.0), (522, 0.1), (523, 0.3), (524, 0.6))
"""Seed and share of destroyed buildings of synthetic towns that heads are fitted on."""


def training_pairs(without: Sequence[str]) -> Iterator[LabelledPair]:
    """Pairs by bounds, those of left-out regions not among them."""
    for pair in real_pairs():
        if pair.region not in without:
            yield pair
    for pair in synthetic_towns(TOWNS):
        yield outlined_by_bounds(pair)


def gathered(
    parent: Bundle, windows: ContextWindows, without: Sequence[str]
) -> tuple[list[ContextExamples], list[TownScores]]:
    """Features of all towns, and what the pixel network says of those with both images."""
    reader, engine = ContextReader(parent, windows), open_engine(parent, runtime="onnxruntime")
    examples, pixels = [], []
    for pair in training_pairs(without):
        examples.append(reader.of_pair(pair))
        if pair.region.startswith("synthetic"):
            continue  # a network of such towns spreads their scores far wider than real ones
        scored = engine_logits(engine, parent.spec, pair)
        pixels.append(TownScores.of(pair, scored, parent.spec.temperature))
    if CROPS not in without:
        crops = islahiye_crops(default_data_dir())
        examples.append(reader.of_crops(CROPS, crops, parent.spec.gsd_m))
    return examples, pixels


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes one bundle. Returns 0 when done, 2 if the request is wrong, 3 if it failed."""
    parser = argparse.ArgumentParser(
        prog="python -m training.context",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parent", help="name or folder of a pair bundle")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="BUNDLE")
    parser.add_argument("--without", nargs="*", default=[], metavar="REGION")
    parser.add_argument("--answers", nargs="*", type=Path, default=[], metavar="TABLE")
    options = parser.parse_args(arguments)
    try:
        parent, windows = load_bundle(options.parent), ContextWindows()
        _check_left_out(parent, options.without)
        examples, pixels = gathered(parent, windows, options.without)
        head = fit_context(examples, pixels)
        answers = [pd.read_parquet(path) for path in options.answers]
        spec = write_context(
            options.out,
            parent,
            head,
            windows,
            without=options.without,
            answers=pd.concat(answers, ignore_index=True) if answers else None,
        )
    except QuakestreamError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, RequestError) else 3
    fallen = int(sum(np.count_nonzero(e.destroyed_N) for e in examples))
    print(f"{options.out}: {spec.name}, head fitted on {fallen} destroyed buildings")
    return 0


def _check_left_out(parent: Bundle, without: Sequence[str]) -> None:
    """A parent that was trained on a city gives its answers away.

    Raises:
        RequestError: if it was.
    """
    left = {*parent.spec.training.get("left_out", ()), CROPS}
    synthetic = parent.spec.training["config"]["source"].startswith("synthetic")
    if not synthetic and (seen := sorted(set(without) - left)):
        raise RequestError(f"was trained on {', '.join(seen)}", parent.uri)


if __name__ == "__main__":
    raise SystemExit(main())
