"""`python -m training.blend CKPT OTHER -o OUT`: the mean of two fine-tunings of one start.

Two runs from the same weights on different data often lie in one valley, so that their mean keeps
most of what each learnt (Wortsman et al. 2022, "model soups" and "WiSE-FT"). Weights and statistics
of norms are averaged; configuration, scale of the inputs and data to calibrate on are those of the
first checkpoint. Nothing warns where the runs did not start from the same weights: judge the mean.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from quakestream.errors import QuakestreamError, RequestError
from training.checkpoints import Checkpoint, load_checkpoint


def blended(first: Checkpoint, second: Checkpoint, share: float = 0.5) -> Checkpoint:
    """The first checkpoint with a mean of the weights of both.

    Args:
        first: gives all but the weights.
        second: of the same network.
        share: of the second in the mean.

    Raises:
        RequestError: if the networks differ.
    """
    shapes = [{n: w.shape for n, w in c.weights.items()} for c in (first, second)]
    if shapes[0] != shapes[1]:
        raise RequestError(
            "checkpoints are of different networks",
            first.config.recipe,
            expected=first.config.network,
            got=second.config.network,
        )
    weights = {
        name: (1 - share) * weight + share * second.weights[name]
        if weight.is_floating_point()
        else weight
        for name, weight in first.weights.items()
    }
    return replace(first, weights=weights, step=first.step + second.step, figures={})


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes one checkpoint. Returns 0 when done, 2 if the request is wrong, 3 if it failed."""
    parser = argparse.ArgumentParser(
        prog="python -m training.blend",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("first", type=Path, metavar="CKPT")
    parser.add_argument("second", type=Path, metavar="OTHER")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT")
    parser.add_argument("--share", type=float, default=0.5, help="of OTHER in the mean")
    options = parser.parse_args(arguments)
    try:
        if not 0 < options.share < 1:
            raise RequestError("wrong share", "--share", "between 0 and 1", str(options.share))
        both = load_checkpoint(options.first), load_checkpoint(options.second)
        blended(*both, options.share).save(options.out)
    except QuakestreamError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, RequestError) else 3
    print(options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
