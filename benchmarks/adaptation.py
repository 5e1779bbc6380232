"""What labels of the event are worth: figures at 0 to 500 labels, on ground that no label touches.

Two cities. Adıyaman: pairs of 0.5 m; the map is by `damage-synthetic`, which saw no real image.
İslahiye: crops after the event alone, without coordinates; blocks are runs of neighbouring ids, and
the map is that of `grades-synthetic`, with the area of the outline as a second one. Each draw deals
blocks to two halves: labels come from one, figures from the other. Acquisition starts with a fifth
of the labels, drawn within bands of the map's score, and fits again after every fifth. Where
`adapt` would refuse the labels, because one state has fewer than five, figures are the map's.
"""

import os
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from scipy.special import expit, softmax

from benchmarks.common import data_dir, main
from quakestream.bundles import load_bundle
from quakestream.domain import Window
from quakestream.reduce.metrics import average_precision, calibration_error, roc_auc
from training.active import Pool, acquire, dropout_passes
from training.adapt.backbone import backbone_features
from training.adapt.graph import CropGraph
from training.adapt.head import F64, Examples, choose_penalty, fit_head, left_out_logits
from training.adapt.judging import fit_platt, recall_at_precision
from training.adapt.labels import LEAST_OF_EACH
from training.adapt.suggest import stratified
from training.data.turkiye import turkiye_pairs
from training.scoring import cut_out, pixels_of

COUNTS = (50, 100, 250, 500)
METHODS = ("random", "stratified", "margin", "bald", "kmeans", "diverse")
"""With two classes `entropy` orders buildings as `margin` does."""
NOISE = (0.0, 0.05)
DRAWS, QUICK_DRAWS = 10, 2
ROUNDS = 5
"""Fits before the labels of an acquisition function are complete."""
STEP_PENALTY = 100.0
"""Penalty of the heads that only choose labels."""
BLOCK_M, HALF_BLOCK_M = 100.0, 300.0
"""Sides of the blocks that penalties are chosen on, and of those that are dealt to the halves."""
SIDE_PX = 128
IDS_OF_BLOCK, IDS_OF_HALF_BLOCK = 10, 50
FIGURES = {
    "auc": roc_auc,
    "average_precision": average_precision,
    "recall_at_90_precision": recall_at_precision,
    "calibration_error": calibration_error,
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class City:
    """Buildings of a city, with features and the score of its map."""

    name: str
    examples: Examples
    map_N: F64
    """Score of the map before any label."""
    half_block_N: NDArray[np.int64]
    other_N: F64
    """A feature that needs no model: the area of the outline, m² or pixels."""


def adiyaman() -> City:
    """Six square kilometres in four pairs; OSM's destroyed buildings and boxes seen twice."""
    bundle = load_bundle("damage-synthetic")
    graph = CropGraph(epochs=("pre", "post"), old=bundle)
    session = ort.InferenceSession(graph.features_model())
    rows, parts, scores = [], [], []
    for pair in turkiye_pairs(data_dir()):
        if not pair.region.startswith("adiyaman"):
            continue
        logit_YX = _whole(pair, bundle)
        batch: list[dict[str, Any]] = []
        for building in pair.buildings:
            ys, xs, inside_YX = pixels_of(building, pair)
            if not inside_YX.any():
                continue
            p_P = expit(logit_YX[ys, xs][inside_YX] / bundle.spec.temperature)
            scores.append(float(p_P.mean()))
            middle = building.geometry.centroid
            rows.append((building.destroyed, middle.x, middle.y, building.geometry.area))
            batch.append(_crop(pair, building, graph.crop_px))
            if len(batch) == 16:
                parts.append(_run(session, batch))
                batch = []
        parts += [_run(session, batch)] if batch else []
    table = pd.DataFrame(rows, columns=["destroyed", "x_m", "y_m", "area_m2"])
    return City(
        name="adiyaman",
        examples=Examples(
            feature_ND=np.concatenate(parts),
            destroyed_N=table["destroyed"].to_numpy(bool),
            block_N=_squares(table, BLOCK_M),
            trusted=graph.old_features,
        ),
        map_N=np.array(scores),
        half_block_N=_squares(table, HALF_BLOCK_M),
        other_N=table["area_m2"].to_numpy(),
    )


def islahiye() -> City:
    """1,393 crops of 1,393 buildings, resized to one side, features over crop and footprint."""
    folder = data_dir() / "islahiye-qqb-2023"
    table = pd.read_csv(folder / "develop_labels.csv").sort_values("osm_id", ignore_index=True)
    with zipfile.ZipFile(folder / "develop.zip") as archive:
        images = [_image(archive, f"{i}.webp", "RGB") for i in table["osm_id"]]
        masks = [_image(archive, f"{i}_footprint.png", "1") for i in table["osm_id"]]
    square = (SIDE_PX, SIDE_PX)
    pixels_NBYX = np.stack(
        [cv2.resize(i, square, interpolation=cv2.INTER_AREA).transpose(2, 0, 1) for i in images]
    )
    inside_NYX = np.stack(
        [cv2.resize(m.astype(np.uint8), square, interpolation=cv2.INTER_NEAREST) for m in masks]
    )
    features = [backbone_features(pixels_NBYX), backbone_features(pixels_NBYX, inside_NYX)]
    place_N = np.arange(len(table))
    return City(
        name="islahiye",
        examples=Examples(
            feature_ND=np.concatenate(features, axis=1),
            destroyed_N=table["destroyed"].to_numpy() == 1,
            block_N=place_N // IDS_OF_BLOCK,
        ),
        map_N=_grades(images),
        half_block_N=place_N // IDS_OF_HALF_BLOCK,
        other_N=table["footprint_px"].to_numpy(np.float64),
    )


CITIES = {"islahiye": islahiye, "adiyaman": adiyaman}


def _cached(name: str, make: Callable[[], City]) -> City:
    """A city out of the folder ADAPTATION_CACHE, which keeps features between runs; else made."""
    folder = os.environ.get("ADAPTATION_CACHE")
    path = Path(folder or ".") / f"{name}.npz"
    if folder and path.exists():
        with np.load(path) as kept:
            return _city(name, dict(kept))
    city = make()
    if folder:
        one = city.examples
        np.savez(
            path,
            feature_ND=one.feature_ND,
            destroyed_N=one.destroyed_N,
            block_N=one.block_N,
            trusted=one.trusted,
            map_N=city.map_N,
            half_block_N=city.half_block_N,
            other_N=city.other_N,
        )
    return city


def _city(name: str, kept: dict[str, Any]) -> City:
    names = ("feature_ND", "destroyed_N", "block_N")
    examples = Examples(**{n: kept[n] for n in names}, trusted=int(kept["trusted"]))
    rest = {n: kept[n] for n in ("map_N", "half_block_N", "other_N")}
    return City(name=name, examples=examples, **rest)


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """All figures of both cities."""
    draws = QUICK_DRAWS if quick else DRAWS
    began = time.process_time()
    cities = [_cached(name, make) for name, make in CITIES.items()]
    feature_s = time.process_time() - began
    rows = [row for city in cities for draw in range(draws) for row in draw_rows(city, draw)]
    return _settings(draws), _metrics(cities, rows) | {"feature_cpu_s": round(feature_s, 1)}


def _settings(draws: int) -> dict[str, Any]:
    return {
        "draws": draws,
        "labels": COUNTS,
        "methods": METHODS,
        "wrong_labels": NOISE,
        "halves": f"{HALF_BLOCK_M:g} m blocks, runs of {IDS_OF_HALF_BLOCK} ids",
    }


def _metrics(cities: Sequence[City], rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "buildings": {c.name: len(c.examples) for c in cities},
        "destroyed": {c.name: int(c.examples.destroyed_N.sum()) for c in cities},
        "all_labels_left_out": {c.name: _all_labels(c) for c in cities},
        "table": _table(pd.DataFrame(rows)),
    }


def draw_rows(city: City, draw: int) -> Iterator[dict[str, Any]]:
    """Figures of one draw, by method, share of wrong labels and number of labels."""
    blocks, rng = np.unique(city.half_block_N), np.random.default_rng(draw)
    pool_N = np.isin(city.half_block_N, rng.permutation(blocks)[: len(blocks) // 2])
    truth_N, map_N = city.examples.destroyed_N[~pool_N], city.map_N[~pool_N]
    zero = _figures(truth_N, map_N, map_N)
    area = _figures(truth_N, city.other_N[~pool_N], None)
    head = {"city": city.name, "draw": draw}
    yield head | {"method": "map", "labels": 0, "wrong": 0.0, **zero}
    yield head | {"method": "area", "labels": 0, "wrong": 0.0, **area}
    for wrong in NOISE:
        told_N = city.examples.destroyed_N ^ (rng.random(len(pool_N)) < wrong)
        for method, count in product(METHODS, COUNTS):
            chosen = _chosen(city, np.flatnonzero(pool_N), told_N, (method, count, draw))
            labelled = _labelled(city, chosen, told_N)
            destroyed = int(labelled.destroyed_N.sum())
            refused = min(destroyed, count - destroyed) < LEAST_OF_EACH
            figures = zero
            if not refused:
                p_N, order_N = _answers(labelled, city.examples.feature_ND[~pool_N])
                figures = _figures(truth_N, order_N, p_N)
            more = {"refused": int(refused), "labelled_destroyed": destroyed, **figures}
            gain = {"gain_auc": figures["auc"] - zero["auc"]}
            yield head | {"method": method, "labels": count, "wrong": wrong, **more, **gain}


def _answers(labelled: Examples, feature_ND: NDArray[np.float32]) -> tuple[F64, F64]:
    """Calibrated probabilities of other buildings, and the log-odds that order them."""
    penalty, left_out_N = choose_penalty(labelled)
    slope, offset = fit_platt(left_out_N, labelled.destroyed_N)
    logit_N = fit_head(labelled, penalty).logit(feature_ND)
    return expit(slope * logit_N + offset), logit_N


def _chosen(
    city: City,
    pool_P: NDArray[np.int64],
    destroyed_N: NDArray[np.bool_],
    how: tuple[str, int, int],
) -> NDArray[np.int64]:
    """Buildings to label. Acquisition functions fit a head on what they have before they go on."""
    method, count, seed = how
    if method == "random":
        return np.random.default_rng(seed).permutation(pool_P)[:count]
    if method == "stratified":
        return pool_P[stratified(city.map_N[pool_P], count, seed)]
    chosen = pool_P[stratified(city.map_N[pool_P], count // ROUNDS, seed)]
    while len(chosen) < count:
        left_P = np.setdiff1d(pool_P, chosen)
        pool = _pool(city, left_P, _labelled(city, chosen, destroyed_N), seed)
        name, more = {"diverse": "margin"}.get(method, method), count // ROUNDS
        picked = acquire(name, pool, more, seed=seed, spread=method == "diverse")
        chosen = np.concatenate([chosen, left_P[picked]])
    return chosen[:count]


def _pool(city: City, left_P: NDArray[np.int64], labelled: Examples, seed: int) -> Pool:
    feature_ND = city.examples.feature_ND[left_P]
    both = labelled.destroyed_N.any() and not labelled.destroyed_N.all()
    if both:
        head = fit_head(labelled, STEP_PENALTY)
        z_ND = (feature_ND - head.mean_D) / head.std_D
        p_TNC = dropout_passes(z_ND, head.weight_D[:, None], np.array([head.intercept]), seed=seed)
    else:
        p_N = city.map_N[left_P]
        p_TNC = np.stack([1 - p_N, p_N], axis=1)[None]
    return Pool(id_N=left_P.astype(str), probabilities_TNC=p_TNC, feature_ND=feature_ND)


def _labelled(city: City, chosen: NDArray[np.int64], destroyed_N: NDArray[np.bool_]) -> Examples:
    one = city.examples
    return Examples(
        feature_ND=one.feature_ND[chosen],
        destroyed_N=destroyed_N[chosen],
        block_N=one.block_N[chosen],
        trusted=one.trusted,
    )


def _figures(truth_N: NDArray[np.bool_], order_N: F64, p_N: F64 | None) -> dict[str, float]:
    """Ranking figures of an order, and the calibration error of probabilities."""
    figures = {n: f(truth_N, order_N) for n, f in FIGURES.items() if n != "calibration_error"}
    if p_N is not None:
        figures["calibration_error"] = calibration_error(truth_N, p_N)
    return figures


def _table(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Mean over draws, and the interval of the gain over the map: 2.5 to 97.5 % of the draws."""
    keys = ["city", "method", "labels", "wrong"]
    table = []
    for key, group in rows.groupby(keys, sort=False):
        gain = group["gain_auc"].dropna().to_numpy()
        mean = group.drop(columns=[*keys, "draw"]).mean().dropna().round(4).to_dict()
        more = {}
        if len(gain):
            low, high = _mean_interval(gain)
            more = {
                "gain_auc_95": [round(low, 4), round(high, 4)],
                "draws_with_gain": int((gain > 0).sum()),
            }
        table.append(dict(zip(keys, key, strict=True)) | mean | more)
    return table


def _mean_interval(gain_D: F64) -> tuple[float, float]:
    """95 % bootstrap interval of the mean over draws."""
    rng = np.random.default_rng(0)
    mean_D = gain_D[rng.integers(0, len(gain_D), (2000, len(gain_D)))].mean(axis=1)
    low, high = np.percentile(mean_D, (2.5, 97.5))
    return float(low), float(high)


def _all_labels(city: City) -> dict[str, float]:
    """Figures with every label, each part of the blocks left out in turn: what more would give."""
    logit_N = left_out_logits(city.examples)
    return {
        k: round(v, 4)
        for k, v in _figures(city.examples.destroyed_N, logit_N, expit(logit_N)).items()
    }


def _squares(table: pd.DataFrame, side_m: float) -> NDArray[np.int64]:
    square_N2 = np.floor(table[["x_m", "y_m"]].to_numpy() / side_m).astype(np.int64)
    return np.unique(square_N2, axis=0, return_inverse=True)[1].reshape(-1)


def _crop(pair: Any, building: Any, side_px: int) -> dict[str, Any]:
    box = pair.grid.window(*building.geometry.bounds)
    row, col = box.row + box.height // 2 - side_px // 2, box.col + box.width // 2 - side_px // 2
    window = Window(row=row, col=col, height=side_px, width=side_px)
    return _inputs(pair, window)


def _inputs(pair: Any, window: Window) -> dict[str, Any]:
    inputs: dict[str, Any] = {}
    for epoch in ("pre", "post"):
        image = getattr(pair, epoch)
        inputs[epoch] = cut_out(image, window)
        inputs[f"{epoch}_mean_NB"] = np.array(image.statistics.mean_B, np.float32)
        inputs[f"{epoch}_std_NB"] = np.array(image.statistics.std_B, np.float32)
    return inputs


def _run(session: ort.InferenceSession, batch: list[dict[str, Any]]) -> NDArray[np.float32]:
    inputs = {name: np.stack([one[name] for one in batch]) for name in batch[0]}
    feature_ND: NDArray[np.float32] = session.run(None, inputs)[0]
    return feature_ND


def _whole(pair: Any, bundle: Any) -> NDArray[np.float32]:
    """Logits of a whole pair, window by window."""
    session, spec = ort.InferenceSession(bundle.graph), bundle.spec
    height, width = pair.window.shape
    logit_YX = np.zeros((height, width), np.float32)
    for row in range(0, height, spec.core_px):
        for col in range(0, width, spec.core_px):
            window = Window(
                row=pair.window.row + row - spec.halo_px,
                col=pair.window.col + col - spec.halo_px,
                height=spec.window_px,
                width=spec.window_px,
            )
            core_YX = _run(session, [_inputs(pair, window)])[0, 0]
            core_YX = core_YX[spec.halo_px : -spec.halo_px, spec.halo_px : -spec.halo_px]
            place = logit_YX[row : row + spec.core_px, col : col + spec.core_px]
            place[:] = core_YX[: place.shape[0], : place.shape[1]]
    return logit_YX


def _image(archive: zipfile.ZipFile, name: str, mode: str) -> NDArray[Any]:
    return np.array(Image.open(BytesIO(archive.read(name))).convert(mode))


def _grades(images: list[NDArray[np.uint8]]) -> F64:
    """Probability of destroyed by `grades-synthetic`, at half of its pixels a metre from 0.3 m."""
    bundle = load_bundle("grades-synthetic")
    spec = bundle.spec
    mean_B = np.mean([i.reshape(-1, 3).mean(0) for i in images], axis=0).astype(np.float32)
    std_B = np.mean([i.reshape(-1, 3).std(0) for i in images], axis=0).astype(np.float32)
    crops = np.stack([_centre(i, spec.window_px, 0.3 / spec.gsd_m) for i in images])
    session = ort.InferenceSession(bundle.graph)
    p_N = []
    for start in range(0, len(crops), 16):
        part = crops[start : start + 16]
        inputs = {
            "post": part,
            "post_mean_NB": np.tile(mean_B, (len(part), 1)),
            "post_std_NB": np.tile(std_B, (len(part), 1)),
            "hazard": np.full((len(part), len(spec.hazard)), np.nan, np.float32),
        }
        p_N.append(softmax(session.run(None, inputs)[0] / spec.temperature, axis=1)[:, -1])
    return np.concatenate(p_N).astype(np.float64)


def _centre(image: NDArray[np.uint8], side_px: int, scale: float) -> NDArray[np.uint8]:
    """The middle of a crop at another scale, continued by reflection where it is too small."""
    resized = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    height, width = resized.shape[:2]
    pad_y, pad_x = max(side_px - height, 0), max(side_px - width, 0)
    pads = ((pad_y // 2, pad_y - pad_y // 2), (pad_x // 2, pad_x - pad_x // 2), (0, 0))
    padded = np.pad(resized, pads, mode="symmetric")
    row, col = (padded.shape[0] - side_px) // 2, (padded.shape[1] - side_px) // 2
    return padded[row : row + side_px, col : col + side_px].transpose(2, 0, 1)


if __name__ == "__main__":
    main("adaptation", run)
