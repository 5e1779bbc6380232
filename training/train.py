"""`python -m training.train RECIPE [--set key=value] [--out DIR]`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from quakestream.errors import QuakestreamError, RequestError
from training.config import with_settings
from training.data.sources import load_pairs
from training.loop import jsonl_log, train
from training.recipes import RECIPES, recipe


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one recipe; 2 if the request is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m training.train",
        description="Trains a recipe and writes checkpoint.pt and log.jsonl.",
        epilog="example: python -m training.train fc_siam_diff_small --set steps=1200 --set seed=1",
    )
    parser.add_argument("recipe", help=f"one of {', '.join(RECIPES)}")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--out", type=Path, help="folder; default runs/RECIPE-SEED")
    options = parser.parse_args(arguments)
    try:
        config = with_settings(recipe(options.recipe), options.settings)
        out = options.out or Path("runs") / f"{config.recipe}-{config.seed}"
        checkpoint = train(config, load_pairs(config), jsonl_log(out / "log.jsonl", print))
    except QuakestreamError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, RequestError) else 3
    checkpoint.save(out / "checkpoint.pt")
    print(out / "checkpoint.pt")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
