"""Generates a set of landslide chips of known truth in the layout of Landslide4Sense.

    python -m training.data.slide_scenery -o FOLDER --seed 1 --regions 24,4,8

Each region is a piece of synthetic hills, 5.12 km a side, cut into 16 chips. Slides follow slope,
shaking and rock (`quakestream.synthetic.hills`) and cover 2 % of the ground. Overgrown scars,
quarries, roads, gravel and bare fields look like them; clouds and their shadows hide them. The
mask tells of slides under clouds too.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import cv2
import numpy as np
from affine import Affine
from numpy.typing import NDArray
from scipy.special import ndtri

from quakestream.errors import QuakestreamError, RequestError
from quakestream.synthetic.hills import LITHOLOGY, Hills, HillsLayout, burn, make_hills
from quakestream.synthetic.noise import fractal
from quakestream.synthetic.settings import stream
from training.data.slide_chips import L4S_BANDS, PARTS, ChipSetInfo, write_chip, write_info
from training.data.slide_lookalikes import fields, quarries, roads
from training.data.slide_spectra import EVERY_PX, REFERENCE_B, SPECTRA

F32 = NDArray[np.float32]
GSD_M, CHIP_PX, REGION_PX = 10.0, 128, 512
FINER = 4
"""Sub-pixels per pixel side in which shares of a slide are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How a landscape differs from another."""

    forest: float = 0.75
    """Share of the hillsides under forest."""
    dry: float = 0.15
    """How far grass is straw, 0 to 1."""
    soil_gain: float = 1.0
    """Brightness of freshly bared ground."""
    relief_m: float = 240.0
    haze: float = 0.02
    """Mean reflectance that the air adds to the blue band."""
    cloudy: float = 0.3
    """Share of the regions with clouds."""


STYLES = MappingProxyType(
    {
        "humid": Style(),
        "dry": Style(forest=0.3, dry=0.75, soil_gain=0.85, relief_m=200.0, haze=0.035, cloudy=0.2),
    }
)
"""Landscapes by name. `domain` recipes train on one and judge on the other."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Region:
    """A region as a sensor sees it, and its truth."""

    image_BYX: F32
    """Reflectance of twelve bands, slope in degrees, elevation in metres."""
    mask_YX: NDArray[np.uint8]
    """1 where slides cover at least half of a pixel."""
    cloud_YX: NDArray[np.bool_]


def make_region(seed: int, style: Style, side_px: int = REGION_PX) -> Region:
    """A region of a seed. Slides cover 2 % of the ground, somewhat more or less by region."""
    rng = stream(seed, "region")
    layout = HillsLayout(
        shape=(side_px, side_px),
        transform=Affine(GSD_M, 0.0, 0.0, 0.0, -GSD_M, 0.0),
        relief_m=style.relief_m * float(rng.uniform(0.75, 1.25)),
        slide_share=0.023 * float(np.exp(rng.normal(0.0, 0.35))),
    )
    hills = make_hills(seed, layout)
    slid_YX = _share_of(hills.slides, layout)
    light_BYX = _ground(rng, hills, style, slid_YX)
    light_BYX *= _sunlight(rng, hills)
    cloud_YX = _add_clouds(rng, light_BYX, style)
    light_BYX = _sensor(rng, light_BYX, style)
    noisy_YX = hills.elevation_YX + rng.normal(0.0, 0.4, layout.shape).astype(np.float32)
    terrain_BYX = np.stack([hills.slope_YX, noisy_YX])
    return Region(
        image_BYX=np.concatenate([light_BYX, terrain_BYX]).astype(np.float32),
        mask_YX=(slid_YX >= 0.5).astype(np.uint8),
        cloud_YX=cloud_YX > 0.3,
    )


def write_set(
    root: Path, *, seed: int, regions: Sequence[int], style: str = "humid", side_px: int = REGION_PX
) -> ChipSetInfo:
    """Writes a set. Regions are never shared between parts.

    Args:
        root: folder of the set.
        seed: any integer ≥ 0; another seed gives other regions.
        regions: number of regions for training, validation and test.
        style: name of a landscape in `STYLES`.
        side_px: side of a region, a multiple of 128.

    Raises:
        RequestError: if a number or the style is wrong.
    """
    if len(regions) != 3 or min(regions) < 1 or side_px % CHIP_PX or style not in STYLES:
        raise RequestError(
            "cannot generate such a set",
            str(root),
            expected=f"three numbers of regions from 1, a style of {', '.join(STYLES)}",
            got=f"regions {','.join(map(str, regions))}, style {style}",
        )
    info = ChipSetInfo(
        bands=L4S_BANDS,
        gsd_m=GSD_M,
        physical_per_stored=tuple(float(v) for v in REFERENCE_B),
        description=f"synthetic hills ({style}, seed {seed})",
        licence="Apache-2.0",
    )
    write_info(root, info)
    first = 1000 * seed
    for part, count in zip(PARTS, regions, strict=True):
        number = 1
        for region_seed in range(first, first + count):
            region = make_region(region_seed, STYLES[style], side_px)
            for rows, cols in _cuts(side_px):
                stored_BYX = region.image_BYX[:, rows, cols] / REFERENCE_B[:, None, None]
                write_chip(root, part, str(number), stored_BYX, region.mask_YX[rows, cols])
                number += 1
        first += count
    return info


def _cuts(side_px: int) -> Iterator[tuple[slice, slice]]:
    for top in range(0, side_px, CHIP_PX):
        for left in range(0, side_px, CHIP_PX):
            yield slice(top, top + CHIP_PX), slice(left, left + CHIP_PX)


def _share_of(outlines: tuple[object, ...], layout: HillsLayout) -> F32:
    """Share of each pixel that outlines cover."""
    t, (height, width) = layout.transform, layout.shape
    fine = replace(
        layout,
        shape=(height * FINER, width * FINER),
        transform=Affine(t.a / FINER, 0.0, t.c, 0.0, t.e / FINER, t.f),
    )
    burnt_YX = (burn(outlines, fine) > 0).astype(np.float32)
    return np.asarray(cv2.resize(burnt_YX, (width, height), interpolation=cv2.INTER_AREA))


def _ground(rng: np.random.Generator, hills: Hills, style: Style, slid_YX: F32) -> F32:
    """Reflectance of twelve bands on flat, clear ground."""
    shape = hills.layout.shape
    rocks = [SPECTRA[name] * rng.normal(1.0, 0.06) for name in LITHOLOGY]
    soil_YXB = np.stack(rocks).astype(np.float32)[hills.lithology_YX] * style.soil_gain
    patch_YX = fractal(rng, shape, 24, 2)
    tree_YX = np.clip(2.0 * (patch_YX + float(ndtri(style.forest))) + 0.5, 0.0, 1.0)
    tree_YX *= np.clip((hills.slope_YX - 4.0) / 6.0, 0.0, 1.0)
    dry_YX = np.clip(style.dry + 0.25 * fractal(rng, shape, 40, 4), 0.0, 1.0)[..., None]
    grass_YXB = (1 - dry_YX) * SPECTRA["grass"] + dry_YX * SPECTRA["straw"]
    green_YXB = _mixed(grass_YXB, SPECTRA["forest"], tree_YX)
    # A tenth of open hillside is thin grass over soil.
    thin_YX = 0.6 * np.clip(2.5 * (fractal(rng, shape, 16, 2) - 1.2), 0.0, 1.0) * (1 - tree_YX)
    light_YXB = _mixed(green_YXB, soil_YXB, thin_YX)
    light_YXB = _mixed(light_YXB, soil_YXB, 0.22 * _share_of(hills.scars, hills.layout))
    light_YXB = _look_alikes(rng, hills, light_YXB, soil_YXB)
    # Rafts of green came down with the soil; a third of small slides is half hidden by trees.
    bare_YX = slid_YX * np.clip(0.92 + 0.18 * fractal(rng, shape, 6, 1), 0.3, 1.0)
    light_YXB = _mixed(light_YXB, soil_YXB, bare_YX)
    grain_YX = 1.0 + 0.05 * fractal(rng, shape, 3, 1) + 0.04 * patch_YX
    return np.ascontiguousarray(np.moveaxis(light_YXB * grain_YX[..., None], -1, 0), np.float32)


def _look_alikes(rng: np.random.Generator, hills: Hills, light_YXB: F32, soil_YXB: F32) -> F32:
    """Fields, quarries, roads, gravel and water."""
    field_YX, bare_YX = fields(rng, hills)
    light_YXB = _mixed(light_YXB, SPECTRA["grass"], field_YX)
    light_YXB = _mixed(light_YXB, SPECTRA["field"], field_YX * bare_YX)
    light_YXB = _mixed(light_YXB, SPECTRA["quarry"], quarries(rng, hills))
    paved = rng.random() < 0.5
    cover_YX = roads(rng, hills) * (0.75 if paved else 0.55)
    light_YXB = _mixed(light_YXB, SPECTRA["road"] if paved else soil_YXB, cover_YX)
    gravel_YX = (fractal(rng, hills.layout.shape, 12, 1) > 0.4).astype(np.float32)
    river_YX = hills.river_YX.astype(np.float32)
    light_YXB = _mixed(light_YXB, SPECTRA["water"], river_YX)
    return _mixed(light_YXB, SPECTRA["gravel"], river_YX * gravel_YX)


def _sunlight(rng: np.random.Generator, hills: Hills) -> F32:
    """Light on a slope relative to flat ground, (y, x)."""
    azimuth, elevation = np.radians([rng.uniform(130, 175), rng.uniform(38, 62)])
    slope, aspect = np.radians(hills.slope_YX), hills.aspect_YX
    towards = np.cos(aspect - (np.pi / 2 - azimuth))
    cosine = np.cos(slope) * np.sin(elevation) + np.sin(slope) * np.cos(elevation) * towards
    direct = np.clip(cosine / np.sin(elevation), 0.0, 1.6)
    return np.asarray(0.28 + 0.72 * direct, np.float32)


def _add_clouds(rng: np.random.Generator, light_BYX: F32, style: Style) -> F32:
    """Adds clouds and shadows in place to some regions; returns their opacity."""
    shape = light_BYX.shape[1], light_BYX.shape[2]
    field_YX, limit = fractal(rng, shape, 90, 2, gain=0.62), rng.uniform(1.3, 2.2)
    if rng.random() >= style.cloudy:
        return np.zeros(shape, np.float32)
    opacity_YX = np.clip(1.8 * (field_YX - limit), 0.0, 0.97).astype(np.float32)
    shadow_YX = np.roll(opacity_YX, (int(rng.integers(8, 20)), -int(rng.integers(5, 14))), (0, 1))
    light_BYX *= 1.0 - 0.6 * shadow_YX
    light_BYX += opacity_YX * (SPECTRA["cloud"][:, None, None] - light_BYX)
    return np.asarray(opacity_YX, np.float32)


def _sensor(rng: np.random.Generator, light_BYX: F32, style: Style) -> F32:
    """Haze, a gain of the day, the coarser bands of Sentinel-2, and noise."""
    haze = style.haze * rng.uniform(0.4, 1.6)
    falling = np.array([1.3, 1.0, 0.75, 0.55, 0.45, 0.4, 0.35, 0.3, 0.1, 0.0, 0.1, 0.05])
    gain_B = rng.normal(1.0, 0.05) * rng.normal(1.0, 0.02, 12)
    out_BYX = light_BYX * gain_B[:, None, None] + haze * falling[:, None, None]
    height, width = out_BYX.shape[1:]
    for band, every in enumerate(EVERY_PX):
        if every > 1:
            size = max(width // every, 1), max(height // every, 1)
            coarse = cv2.resize(out_BYX[band], size, interpolation=cv2.INTER_AREA)
            out_BYX[band] = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    out_BYX += rng.normal(0.0, 0.0025, out_BYX.shape) * np.minimum(1.0, 8 * out_BYX + 0.05)
    return np.maximum(out_BYX, 1e-4).astype(np.float32)


def _mixed(first_YXB: F32, second_YXB: F32, share_YX: F32) -> F32:
    """Spectra of ground of which a share is of the second kind."""
    return np.asarray(first_YXB + share_YX[..., None] * (second_YXB - first_YXB), np.float32)


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes one set. Returns 0 when done, 2 if the request is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m training.data.slide_scenery",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--style", default="humid", help=f"one of {', '.join(STYLES)}")
    parser.add_argument(
        "--regions",
        default="24,4,8",
        metavar="TRAIN,VALIDATION,TEST",
        help="numbers of regions of 16 chips (default 24,4,8)",
    )
    options = parser.parse_args(arguments)
    try:
        regions = [int(text) for text in options.regions.split(",") if text.strip().isdigit()]
        info = write_set(options.out, seed=options.seed, regions=regions, style=options.style)
    except QuakestreamError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{options.out}: {16 * sum(regions)} chips, {info.description}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
