"""Landslide networks at few and many labels, on generated chips: a short comparison.

    python -m benchmarks.landslide_networks SET -o OUT --steps 60 --seeds 42,123,2024

Rows are U-Net, EfficientNet with ImageNet weights, the small Clay hybrid and the small Prithvi
from random weights, and Galileo nano from scratch, frozen, and with adapters after that. Each
runs at 100, 10 and 2.5 % of the labels. Runs are short, so that differences say what a network
gains in its first steps, and nothing about where it ends. `--galileo FILE` names the weights.
`--only NAME` runs one row. Finished runs in OUT are kept.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.config import SlidesConfig
from training.networks.landslide import LANDSLIDE_NETWORKS
from training.recipes import recipe
from training.settings import with_values
from training.slides.protocol import Trial, as_text, run_trial, summary

SIX = ("blue", "green", "red", "nir", "swir16", "swir22")
"""Bands of Prithvi that chips of Landslide4Sense have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkStart:
    """A network and how its training starts."""

    network: str
    settings: dict[str, Any] = field(default_factory=dict)
    after: str = ""
    """Row whose checkpoint this one starts from."""


def variants(galileo: Path | None) -> dict[str, NetworkStart]:
    """Rows of the table by name."""
    rows = {
        "U-Net tiny": NetworkStart(network="unet_tiny"),
        "U-Net++ on EfficientNet, ImageNet": NetworkStart(
            network="efficientnet_unetpp_small", settings={"init": "official:"}
        ),
        "Clay hybrid tiny, random": NetworkStart(network="clay_hybrid_tiny"),
        "Prithvi tiny, random": NetworkStart(network="prithvi_tiny_light", settings={"bands": SIX}),
        "Galileo nano, from scratch": NetworkStart(network="galileo_nano"),
    }
    if galileo is not None:
        frozen = {"init": f"official:{galileo}", "freeze_encoder": True}
        adapted = {
            "freeze_encoder": True,
            "rank": 8,
            "patterns": LANDSLIDE_NETWORKS["galileo_nano"].lora,
            "lr": 1e-3,
        }
        rows["Galileo nano, frozen"] = NetworkStart(network="galileo_nano", settings=frozen)
        rows["Galileo nano, LoRA"] = NetworkStart(
            network="galileo_nano", settings=adapted, after="Galileo nano, frozen"
        )
    return rows


def trials(
    rows: dict[str, NetworkStart], options: argparse.Namespace, seed: int, share: float
) -> Iterator[Trial]:
    """The trials of one seed and share, those that others start from first."""
    for name, variant in rows.items():
        if options.only and name not in options.only:
            continue
        base = recipe(f"slides_{variant.network}")
        assert isinstance(base, SlidesConfig)
        short = {"epochs": 0, "steps": options.steps, "checks": 1, "patience": 0, "ema": 0.9}
        common = {"lr": 3e-3, "positive_weight": 8.0, "batch": options.batch}
        view = {"label_share": share, "crop_px": options.crop}
        config = with_values(
            base, source=str(options.source), **short, **common, **view, **{"run.seed": seed}
        )
        config = with_values(config, **variant.settings)
        if variant.after:
            first = options.out / f"{_row(variant.after, share)}-{seed}" / "checkpoint.pt"
            config = with_values(config, init=str(first))
        yield Trial(name=_row(name, share), config=config)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is missing and prints the table."""
    options = _parser().parse_args(arguments)
    path = options.out / "results.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"] if path.exists() else []
    done = {(row["name"], row["seed"]) for row in rows}
    options.out.mkdir(parents=True, exist_ok=True)
    for seed in map(int, options.seeds.split(",")):
        for share in map(float, options.shares.split(",")):
            for trial in trials(variants(options.galileo), options, seed, share):
                if (trial.name, seed) in done:
                    continue
                rows.append(run_trial(trial, options.out, print, passes=options.passes))
                about = {"set": options.source.name, "steps": options.steps}
                content = {**about, "batch": options.batch, "table": summary(rows), "rows": rows}
                path.write_text(json.dumps(content, indent=1) + "\n")
    print(as_text(summary(rows)))


def _row(name: str, share: float) -> str:
    return f"{name}, {100 * share:g}%"


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
    parser.add_argument("--crop", type=int, default=128, help="side of the chips, pixels")
    parser.add_argument("--seeds", default="42,123,2024")
    parser.add_argument("--shares", default="1,0.1,0.025")
    parser.add_argument("--galileo", type=Path, metavar="FILE", help="weights of Galileo nano")
    parser.add_argument("--only", action="append", default=[], metavar="NAME")
    return parser


if __name__ == "__main__":
    main()
