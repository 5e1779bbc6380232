"""Landslide networks at few and many labels, on generated chips: a short comparison.

    python -m benchmarks.landslide_networks SET -o OUT --chip 64 --galileo encoder.pt

Rows are U-Net, U-Net++ on EfficientNet with ImageNet weights, the small Clay hybrid and the small
Prithvi from random weights, and Galileo nano from scratch, frozen, and with adapters. Each runs at
100, 10 and 2.5 % of the labels. All rows have the same number of steps and batches; adapters spend
the first half of theirs on the head alone. Runs are short, so that differences say what a network
gains in its first steps, and nothing about where it ends.

Seeds are the outermost loop, so that a table that was cut short has fewer seeds and all rows.
Finished runs in OUT are kept. `--only NAME` runs one row.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.config import SlidesConfig
from training.data.slide_chips import PARTS, info_of, open_chips_of, write_chip, write_info
from training.recipes import recipe
from training.settings import with_values
from training.slides.protocol import SEEDS, Trial, as_text, run_trial, summary

SIX = ("blue", "green", "red", "nir", "swir16", "swir22")
"""Bands of Prithvi that chips of Landslide4Sense have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkStart:
    """A network and how its training starts."""

    network: str
    settings: dict[str, Any] = field(default_factory=dict)
    first: dict[str, Any] = field(default_factory=dict)
    """Settings of a first stage that takes half of the steps; empty for a single stage."""


def variants(galileo: Path | None) -> dict[str, NetworkStart]:
    """Rows of the table by name. Learning rates were not searched for."""
    transformer = {"lr": 1e-3, "warmup": 0.1}
    rows = {
        "U-Net tiny": NetworkStart(network="unet_tiny"),
        "U-Net++ on EfficientNet, ImageNet": NetworkStart(
            network="efficientnet_unetpp_small",
            settings={"init": "official:", "encoder_lr": 0.3},
        ),
        "Clay hybrid tiny, random": NetworkStart(network="clay_hybrid_tiny", settings=transformer),
        "Prithvi tiny, random": NetworkStart(
            network="prithvi_tiny_light", settings={"bands": SIX, **transformer}
        ),
        "Galileo nano, from scratch": NetworkStart(network="galileo_nano", settings=transformer),
    }
    if galileo is not None:
        frozen = {"init": f"official:{galileo}", "freeze_encoder": True}
        adapted = {"freeze_encoder": True, "rank": 8, "lr": 1e-3}
        rows["Galileo nano, frozen"] = NetworkStart(network="galileo_nano", settings=frozen)
        rows["Galileo nano, LoRA"] = NetworkStart(
            network="galileo_nano", settings=adapted, first=frozen
        )
    return rows


def trials(
    rows: dict[str, NetworkStart], options: argparse.Namespace, seed: int, share: float
) -> Iterator[Trial]:
    """The trials of one seed and share."""
    for name, start in rows.items():
        if options.only and name not in options.only:
            continue
        row = f"{name}, {100 * share:g}%"
        steps = options.steps // 2 if start.first else options.steps
        base = _base(start.network, options, seed, share, steps)
        first = with_values(base, **start.first) if start.first else None
        yield Trial(name=row, config=with_values(base, **start.settings), first=first)


def cut_set(source: Path, root: Path, side_px: int, every: int = 1) -> Path:
    """A set of the middle squares of chips, made once.

    Args:
        source: the set.
        root: folder of the new one.
        side_px: side of the squares.
        every: validation and test keep one chip in so many.
    """
    if (root / "about.json").exists():
        return root
    half = side_px // 2
    for part in PARTS:
        chips = open_chips_of(source, part)
        for row, name in enumerate(chips.names):
            if part != "train" and row % every:
                continue
            image_NBYX, mask_NYX = chips.read([row])
            middle_y, middle_x = (length // 2 for length in mask_NYX.shape[1:])
            rows = slice(middle_y - half, middle_y + half)
            cols = slice(middle_x - half, middle_x + half)
            write_chip(root, part, name, image_NBYX[0, :, rows, cols], mask_NYX[0, rows, cols])
    write_info(root, info_of(source))
    return root


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is missing and prints the table."""
    options = _parser().parse_args(arguments)
    path = options.out / "results.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"] if path.exists() else []
    done = {(row["name"], row["seed"]) for row in rows}
    options.out.mkdir(parents=True, exist_ok=True)
    about = {"set": options.source.name, "steps": options.steps, "batch": options.batch}
    about |= {"chip_px": options.chip, "every": options.every}
    options.source = cut_set(options.source, options.out / "chips", options.chip, options.every)
    starts = variants(options.galileo)
    for seed in map(int, options.seeds.split(",")):
        for share in map(float, options.shares.split(",")):
            names = [n for n in starts if (f"{n}, {100 * share:g}%", seed) not in done]
            for trial in trials({n: starts[n] for n in names}, options, seed, share):
                rows.append(run_trial(trial, options.out, print, passes=options.passes))
                content = {**about, "table": summary(rows), "rows": rows}
                path.write_text(json.dumps(content, indent=1) + "\n")
    print(as_text(summary(rows)))


def _base(
    network: str, options: argparse.Namespace, seed: int, share: float, steps: int
) -> SlidesConfig:
    base = recipe(f"slides_{network}")
    assert isinstance(base, SlidesConfig)
    short = {"epochs": 0, "steps": steps, "checks": 1, "best": "", "patience": 0, "ema": 0.9}
    common = {"lr": 3e-3, "positive_weight": 8.0, "batch": options.batch}
    view = {"label_share": share, "crop_px": options.chip}
    return with_values(
        base, source=str(options.source), **short, **common, **view, **{"run.seed": seed}
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.landslide_networks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, help="folder of a set of fourteen bands")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--passes", type=int, default=4, help="dropout masks in the evaluation")
    parser.add_argument("--chip", type=int, default=128, help="side of the chips, pixels")
    parser.add_argument("--every", type=int, default=1, help="judge on one chip in so many")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    parser.add_argument("--shares", default="1,0.1,0.025")
    parser.add_argument("--galileo", type=Path, metavar="FILE", help="weights of Galileo nano")
    parser.add_argument("--only", action="append", default=[], metavar="NAME")
    return parser


if __name__ == "__main__":
    main()
