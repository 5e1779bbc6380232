"""Outlines from boxes and points by a tiny SAM: generated towns, then real crops of İslahiye.

    python -m benchmarks.sam_outlines --steps 300 --tune 100 -o sam.json

The network starts from random weights and learns on footprints of generated towns. It is judged
on a town that it never saw and, without more training ("zero-shot") and after some, on footprints
of İslahiye after the earthquake, blocks apart. A filled box is the row to beat. No published
weights are used.
"""

import argparse
import copy
import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from training.data.synthetic import synthetic_pairs
from training.data.turkiye import default_data_dir
from training.networks.sam import PIXEL_MEAN, Sam, build_sam
from training.sam.prepare import OutlineCrops, crops_of
from training.sam.tune import (
    KINDS,
    TuneSettings,
    filled,
    judged,
    overlap,
    prompts_for,
    tune,
)

SIDE_PX = 128
SCALE = 0.3 / 0.5
"""İslahiye has 0.3 m, the generated towns 0.5 m."""
TUNED_ON, JUDGED_ON = (0, 1, 2, 3), (4, 5, 6)


def islahiye(blocks: Sequence[int], most: int, seed: int = 0) -> OutlineCrops:
    """Standing buildings of İslahiye with their footprints, at 0.5 m on the mean colour."""
    folder = default_data_dir() / "islahiye-qqb-2023"
    table = pd.read_csv(folder / "develop_labels.csv")
    largest = SIDE_PX / SCALE
    small = (table["height"] <= largest) & (table["width"] <= largest)
    own = table[table["block"].isin(blocks) & small & (table["destroyed"] == 0)]
    own = own.sample(min(most, len(own)), random_state=seed)
    pixels, masks = [], []
    with zipfile.ZipFile(folder / "develop.zip") as archive:
        inside = {Path(name).name: name for name in archive.namelist()}
        for osm_id in own["osm_id"]:
            image, mask = (
                Image.open(io.BytesIO(archive.read(inside[f"{osm_id}{ending}"])))
                for ending in (".webp", "_footprint.png")
            )
            pixels.append(_placed(np.asarray(image.convert("RGB")), np.array(PIXEL_MEAN)))
            masks.append(_placed(np.asarray(mask.convert("L")), np.zeros(1))[0] > 127)
    return OutlineCrops(
        pixels_NBYX=torch.from_numpy(np.stack(pixels)),
        image_N=torch.arange(len(pixels)),
        mask_NYX=torch.from_numpy(np.stack(masks)),
    )


def _placed(image_YXB: np.ndarray, fill: np.ndarray) -> np.ndarray:
    """An image at 0.5 m in the middle of a square, (band, y, x)."""
    small = cv2.resize(image_YXB, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_AREA)
    small = small.reshape(*small.shape[:2], -1)[:SIDE_PX, :SIDE_PX]
    whole = np.empty((SIDE_PX, SIDE_PX, small.shape[2]), np.uint8)
    whole[:] = np.rint(fill)
    top, left = ((SIDE_PX - s) // 2 for s in small.shape[:2])
    whole[top : top + small.shape[0], left : left + small.shape[1]] = small
    return np.ascontiguousarray(np.moveaxis(whole, -1, 0))


def row_of(iou: dict[str, Tensor]) -> dict[str, float]:
    """Mean IoU, and the share of objects with at least 0.5, by kind of prompt."""
    found = {f"{kind}, mean": float(values.mean()) for kind, values in iou.items()}
    return found | {f"{kind}, ≥ 0.5": float((v >= 0.5).float().mean()) for kind, v in iou.items()}


def boxes(crops: OutlineCrops) -> dict[str, Tensor]:
    """IoU of the prompts themselves, filled."""
    found = {}
    for kind in ("box", "jittered box"):
        prompts = prompts_for(crops, kind, torch.Generator().manual_seed(0))
        assert prompts.box_N4 is not None
        found[kind] = overlap(filled(crops, prompts.box_N4), crops.mask_NYX)
    return found


def as_table(found: dict[str, dict[str, dict[str, float]]]) -> str:
    """Mean IoU of each network on each set."""
    lines = [f"| set | network | {' | '.join(KINDS)} |", "|---|---|---|---|---|"]
    for name, rows in found.items():
        for network, row in rows.items():
            cells = [f"{row[f'{k}, mean']:.3f}" if f"{k}, mean" in row else "" for k in KINDS]
            lines.append(f"| {name} | {network} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains, tunes, and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--tune", type=int, default=100)
    parser.add_argument("--towns", default="101,102,103")
    parser.add_argument("--most", type=int, default=300, help="real crops of each side")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="JSON")
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    towns = crops_of(synthetic_pairs([int(s) for s in options.towns.split(",")]), SIDE_PX)
    held = crops_of(synthetic_pairs([201]), SIDE_PX)
    own, other = islahiye(TUNED_ON, options.most), islahiye(JUDGED_ON, options.most)
    print(f"{len(towns)} objects of towns, {len(held)} held, {len(own)} and {len(other)} real")
    networks: dict[str, Sam] = {"untrained": build_sam("tiny").eval()}
    learnt = copy.deepcopy(networks["untrained"])
    tune(learnt, towns, TuneSettings(steps=options.steps), print)
    networks["generated towns"] = learnt
    networks["then İslahiye"] = copy.deepcopy(learnt)
    tune(networks["then İslahiye"], own, TuneSettings(steps=options.tune, lr=4e-4), print)
    networks["İslahiye alone"] = copy.deepcopy(networks["untrained"])
    tune(networks["İslahiye alone"], own, TuneSettings(steps=options.tune), print)
    found = {}
    for name, crops in (("held town", held), ("İslahiye, other blocks", other)):
        found[name] = {"the prompt, filled": row_of(boxes(crops))}
        found[name] |= {n: row_of(judged(network, crops)) for n, network in networks.items()}
    print(as_table(found))
    options.out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    torch.save(learnt.state_dict(), options.out.with_suffix(".pth"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
