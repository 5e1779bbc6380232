"""Pooled backbone features of labelled buildings, by the graph that a map runs."""

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from quakestream.bundles import Bundle
from quakestream.domain import Window
from quakestream.tiling.lattice import Lattice
from training.context.graph import CELL_PX, EPOCHS, FEATURES, ContextWindows, features_model
from training.data.islahiye import PostCrop
from training.data.pairs import LabelledPair
from training.scoring import cut_out

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

CROP_PX = 128
"""Side of a crop without surroundings; what it lacks is mirrored."""
CROP_BATCH = 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ContextExamples:
    """Buildings of known state of one town."""

    town: str
    post_ND: F32
    pre_ND: F32 | None
    """None where there is no image before the event."""
    square_N: F64 | None
    """Log-odds of the pixel network's mean probability over the square; None where there is no
    image before the event."""
    destroyed_N: NDArray[np.bool_]

    def change(self, before: float) -> F32:
        """Features after the event less a share of those before.

        Without an image before, the mean after stands for it: it moves no order.
        """
        pre_ND = self.post_ND.mean(axis=0, keepdims=True) if self.pre_ND is None else self.pre_ND
        change_ND: F32 = self.post_ND - np.float32(before) * pre_ND
        return change_ND


class ContextReader:
    """Reads features of towns; the graph is opened once."""

    def __init__(self, parent: Bundle, windows: ContextWindows, *, threads: int = 0) -> None:
        self.windows = windows
        self._options = ort.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._session = self._opened(features_model(windows.window_px, parent))

    def of_pair(self, pair: LabelledPair) -> ContextExamples:
        """Features at the middle of each building's bounds, window by window as in a map."""
        lattice = Lattice(
            grid=pair.grid,
            window_px=self.windows.window_px,
            halo_px=self.windows.halo_px,
            cell_windows=1,
        )
        bounds_N4 = np.array([b.geometry.bounds for b in pair.buildings])
        x_N, y_N = (bounds_N4[:, i::2].mean(axis=1) for i in (0, 1))
        col_N, row_N = ~pair.grid.transform @ (x_N, y_N)
        place_N2 = np.stack([row_N, col_N], axis=1)
        home_N2 = np.floor(place_N2 / lattice.core_px).astype(np.int64)
        feature_ND = np.empty((len(place_N2), 2 * FEATURES + 1), np.float32)
        for row, col in np.unique(home_N2, axis=0).tolist():
            here_N = (home_N2 == (row, col)).all(axis=1)
            window = lattice.window(row, col)
            maps_DYX = self._maps(pair, window)
            at_N2 = place_N2[here_N] - (window.row, window.col)
            feature_ND[here_N] = _sampled(maps_DYX, at_N2)
        return ContextExamples(
            town=pair.name,
            post_ND=feature_ND[:, :FEATURES],
            pre_ND=feature_ND[:, FEATURES:-1],
            square_N=feature_ND[:, -1].astype(np.float64),
            destroyed_N=np.array([b.destroyed for b in pair.buildings], bool),
        )

    def of_crops(self, town: str, crops: Iterable[PostCrop], gsd_m: float) -> ContextExamples:
        """Features at the middle of crops after the event, whose statistics are those of all."""
        small = [crop.resized(gsd_m) for crop in crops]
        colour_BP = np.concatenate([c.pixels_BYX.reshape(3, -1) for c in small], axis=1)
        mean_B, std_B = colour_BP.mean(axis=1), colour_BP.std(axis=1)
        session, parts = self._opened(features_model(CROP_PX)), []
        middle_12 = np.full((1, 2), CROP_PX / 2)
        for start in range(0, len(small), CROP_BATCH):
            pixels_NBYX = np.stack([_mirrored(c) for c in small[start : start + CROP_BATCH]])
            images = dict.fromkeys(EPOCHS, pixels_NBYX)
            inputs = _statistics(images, dict.fromkeys(EPOCHS, (mean_B, std_B)))
            maps_NDYX = session.run(None, inputs)[0]
            parts += [_sampled(maps_DYX, middle_12) for maps_DYX in maps_NDYX]
        return ContextExamples(
            town=town,
            post_ND=np.concatenate(parts)[:, :FEATURES],
            pre_ND=None,
            square_N=None,
            destroyed_N=np.array([c.destroyed for c in small], bool),
        )

    def _opened(self, model: bytes) -> ort.InferenceSession:
        return ort.InferenceSession(model, self._options, providers=["CPUExecutionProvider"])

    def _maps(self, pair: LabelledPair, window: Window) -> F32:
        images = {"pre": pair.pre, "post": pair.post}
        pixels = {e: cut_out(image, window)[None] for e, image in images.items()}
        figures = {
            e: (np.array(i.statistics.mean_B), np.array(i.statistics.std_B))
            for e, i in images.items()
        }
        maps_DYX: F32 = self._session.run(None, _statistics(pixels, figures))[0][0]
        return maps_DYX


def _statistics(
    pixels: dict[str, NDArray[np.uint8]],
    figures: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> dict[str, NDArray[np.generic]]:
    """Inputs of the graph."""
    inputs: dict[str, NDArray[np.generic]] = dict(pixels)
    for epoch, pair in figures.items():
        for name, value_B in zip(("mean", "std"), pair, strict=True):
            rows = np.tile(value_B.astype(np.float32), (len(pixels[epoch]), 1))
            inputs[f"{epoch}_{name}_NB"] = rows
    return inputs


def _sampled(maps_DYX: F32, at_N2: NDArray[np.float64]) -> F32:
    """Values between the middles of cells, (N, D)."""
    row_N, col_N = np.clip(at_N2.T / CELL_PX - 0.5, 0, maps_DYX.shape[1] - 1.001)
    top_N, left_N = np.floor(row_N).astype(int), np.floor(col_N).astype(int)
    down_N, right_N = row_N - top_N, col_N - left_N
    corners = ((0, 0), (0, 1), (1, 0), (1, 1))
    weighed = [
        maps_DYX[:, top_N + i, left_N + j]
        * (down_N if i else 1 - down_N)
        * (right_N if j else 1 - right_N)
        for i, j in corners
    ]
    return np.asarray(sum(weighed), np.float32).T


def _mirrored(crop: PostCrop) -> NDArray[np.uint8]:
    """The middle of a crop in a square; what it lacks is mirrored."""
    height, width = crop.inside_YX.shape
    top, left = max(0, (height - CROP_PX) // 2), max(0, (width - CROP_PX) // 2)
    pixels_BYX = crop.pixels_BYX[:, top : top + CROP_PX, left : left + CROP_PX]
    height, width = pixels_BYX.shape[1:]
    above, before = (CROP_PX - height) // 2, (CROP_PX - width) // 2
    margins = (above, CROP_PX - height - above, before, CROP_PX - width - before)
    image_YXB = np.ascontiguousarray(np.moveaxis(pixels_BYX, 0, -1))
    square_YXB = cv2.copyMakeBorder(image_YXB, *margins, cv2.BORDER_REFLECT_101)
    return np.ascontiguousarray(np.moveaxis(square_YXB, -1, 0), np.uint8)
