"""Small worlds with bright patches on grey ground, which a threshold takes for landslides."""

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit

from quakestream.bundles import write_manifest
from quakestream.domain import BundleSpec, ScaleClass
from quakestream.outputs.rasters import STEPS
from quakestream.testing import World, make_world
from quakestream.testing.worlds import GSD_M, NORTH_M, WEST_M, write_scene
from tests.helpers.mapping import edit

SIDE_PX = 420
LABELS = (ScaleClass(index=0, label="background"), ScaleClass(index=1, label="landslide"))


def write_slide_bundle(
    folder: Path, *, window_px: int = 120, halo_px: int = 10, **more: Any
) -> Path:
    """A bundle without a network. Its windows lie on another lattice than those of damage."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = BundleSpec(
        **{
            "name": "no-slides",
            "version": "1",
            "task": "landslide",
            "epochs": ("post",),
            "bands": ("red", "green", "blue"),
            "gsd_m": GSD_M,
            "window_px": window_px,
            "halo_px": halo_px,
            "dtype": "uint8",
            "normalisation": "per_scene",
            "classes": LABELS,
            **more,
        }
    )
    bands = len(spec.bands)
    golden = {
        "post": np.zeros((1, bands, window_px, window_px), np.uint8),
        "post_mean_NB": np.full((1, bands), 120, np.float32),
        "post_std_NB": np.full((1, bands), 50, np.float32),
        "logits": np.zeros((1, 1, window_px, window_px), np.float32),
    }
    np.savez(folder / "golden.npz", allow_pickle=False, **golden)
    (folder / "model.onnx").write_bytes(b"no network")
    write_manifest(folder, spec)
    return folder


def slide_ground(seed: int, side_px: int = SIDE_PX) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Grey ground before, and with bright patches after: some have holes, some are long."""
    rng = np.random.default_rng(seed)
    smooth_YX = ndimage.gaussian_filter(rng.normal(size=(side_px, side_px)), 7)
    patch_YX = smooth_YX > 0.6 * smooth_YX.std()
    before_YX = 120 + rng.integers(-25, 26, patch_YX.shape)
    after_YX = np.where(patch_YX, 190 + rng.integers(-12, 13, patch_YX.shape), before_YX)
    pre_BYX, post_BYX = (
        np.repeat(grey_YX[np.newaxis].astype(np.uint8), 3, axis=0)
        for grey_YX in (before_YX, after_YX)
    )
    return pre_BYX, post_BYX


def sliding_world(folder: Path, *, seed: int = 3, damage: bool = True, **world: Any) -> World:
    """A small world whose run file names a landslide bundle, beside damage or alone."""
    made = make_world(folder, seed=seed, side_px=SIDE_PX, **world)
    west_m = world.get("west_m", WEST_M)
    where = Affine(GSD_M, 0, west_m, 0, -GSD_M, NORTH_M)
    for path, counts_BYX in zip((made.pre, made.post), slide_ground(seed), strict=True):
        write_scene(path, counts_BYX, transform=where)
    bundle = write_slide_bundle(folder / "slides")

    def change(content: dict[str, Any]) -> None:
        content["models"]["landslide"] = str(bundle)
        if not damage:
            content["models"]["damage"] = None
            del content["footprints"], content["imagery"]["pre"]

    edit(made.run_file, change)
    return made


def expected_steps(path: Path) -> NDArray[np.int64]:
    """The threshold engine's probability of each pixel of a scene, in steps."""
    with rasterio.open(path) as dataset:
        grey_YX = dataset.read().astype(np.float64).mean(axis=0)
    p_YX = expit((np.abs(grey_YX - 128) - 40) / 10)
    return np.rint(p_YX * STEPS).astype(np.int64)
