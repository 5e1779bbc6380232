"""A model to evaluate or explain, from a checkpoint or from a bundle.

Both take the inputs of the bundle's graph, so that the evaluated model is the one that ships.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from scipy.special import expit, softmax

from quakestream.bundles import Bundle
from quakestream.domain import BundleSpec
from quakestream.errors import RequestError
from training.data.store import BuildingChips, ChipStore
from training.graphs import Arrays, BundleGraph

BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Model:
    """Computes logits from the inputs that a manifest names."""

    spec: BundleSpec
    """Names the inputs and the classes."""
    logits: Callable[[Arrays], NDArray[np.float32]]
    """Logits (N, K) of a batch."""

    def probabilities(self, arrays: Arrays) -> NDArray[np.float64]:
        """Class probabilities (N, C) at the manifest's temperature."""
        return self.as_probabilities(self.logits(arrays))

    def as_probabilities(self, logit_NK: NDArray[np.float32]) -> NDArray[np.float64]:
        """Class probabilities (N, C) of the graph's output."""
        out_NK = logit_NK.astype(np.float64)
        if self.spec.outputs == "logits":
            scaled_NK = out_NK / self.spec.temperature
            out_NK = expit(scaled_NK) if out_NK.shape[1] == 1 else softmax(scaled_NK, axis=1)
        return out_NK if out_NK.shape[1] > 1 else np.concatenate([1 - out_NK, out_NK], axis=1)


def graph_model(graph: BundleGraph, spec: BundleSpec) -> Model:
    """A model that runs in torch, on the GPU if there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Model(spec=spec, logits=graph.eval().to(device).run)


def bundle_model(bundle: Bundle, *, threads: int = 0) -> Model:
    """A model that runs a bundle in ONNX Runtime: exactly the graph that ships."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(bundle.graph, options, providers=["CPUExecutionProvider"])

    def logits(arrays: Arrays) -> NDArray[np.float32]:
        output: NDArray[np.float32] = session.run(["logits"], arrays)[0]
        return output

    return Model(spec=bundle.spec, logits=logits)


def score(model: Model, batches: Iterable[Arrays]) -> NDArray[np.float32]:
    """Logits (N, K), batch by batch.

    Raises:
        RequestError: if there is nothing to score.
    """
    parts = [model.logits(arrays) for arrays in batches]
    if not parts:
        raise RequestError("no building of known class is held out")
    return np.concatenate(parts)


def store_inputs(
    spec: BundleSpec, store: ChipStore, row_N: NDArray[np.int64], masked: Collection[str] = ()
) -> Arrays:
    """Inputs of a building graph for some rows of a store.

    Args:
        spec: manifest of the model.
        store: the chips.
        row_N: rows of the store's table.
        masked: names of hazard values to make missing, as if their layer had not arrived.

    Raises:
        RequestError: if the store lacks an epoch or a hazard value, or has other pixels.
    """
    check_store(spec, store)
    arrays = _images(spec, store.read(row_N)) if spec.epochs else {}
    if spec.hazard:
        names = [h.name for h in spec.hazard]
        value_NM = store.table.iloc[row_N][names].to_numpy(np.float32, copy=True)
        arrays["hazard"] = without(spec, value_NM, masked)
    return arrays


def without(
    spec: BundleSpec, value_NM: NDArray[np.float32], masked: Collection[str]
) -> NDArray[np.float32]:
    """Makes some hazard values missing, in place.

    Raises:
        RequestError: if the model does not take a masked value.
    """
    names = [h.name for h in spec.hazard]
    if unknown := sorted(set(masked) - set(names)):
        raise RequestError(
            "unknown hazard value",
            "--mask",
            expected=f"one of {', '.join(names)}",
            got=", ".join(unknown),
        )
    value_NM[:, np.isin(names, list(masked))] = np.nan
    return value_NM


def check_store(spec: BundleSpec, store: ChipStore) -> None:
    """Checks that a model can read a store.

    Raises:
        RequestError: naming the first thing in which they differ.
    """
    for wrong, what, expected, got in _differences(spec, store):
        if wrong:
            raise RequestError(f"store does not fit the model: {what}", spec.name, expected, got)


def hazard_groups(spec: BundleSpec) -> dict[str, tuple[str, ...]]:
    """The manifest's groups of hazard values, named by their members."""
    sizes = spec.hazard_groups or ((len(spec.hazard),) if spec.hazard else ())
    names, groups = [h.name for h in spec.hazard], {}
    for size in sizes:
        members, names = tuple(names[:size]), names[size:]
        groups[" + ".join(members) if size <= 3 else f"{members[0]} … {members[-1]}"] = members
    return groups


def _images(spec: BundleSpec, chips: BuildingChips) -> Arrays:
    place = {"pre": 0, "post": 2}
    arrays: Arrays = {}
    for epoch in spec.epochs:
        arrays[epoch] = _middle(chips.pixels(epoch), spec.window_px)
        for offset, figure in enumerate(("mean", "std")):
            arrays[f"{epoch}_{figure}_NB"] = chips.statistics_N4B[:, place[epoch] + offset]
    return arrays


def _middle(pixels_NBYX: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The middle square of chips, which are stored with a margin."""
    start = (pixels_NBYX.shape[-1] - side) // 2
    cut = slice(start, start + side)
    return np.ascontiguousarray(pixels_NBYX[:, :, cut, cut])


def _differences(spec: BundleSpec, store: ChipStore) -> Iterator[tuple[bool, str, str, str]]:
    """Whether they differ, in what, what the model expects, and what the store has."""
    meta = store.meta
    labels: Sequence[str] = spec.labels
    yield tuple(labels) != meta.classes, "classes", ", ".join(labels), ", ".join(meta.classes)
    lacking = [h.name for h in spec.hazard if h.name not in store.table.columns]
    yield bool(lacking), "hazard values are missing", ", ".join(lacking), ""
    if spec.epochs:
        epochs = sorted(set(spec.epochs) - set(meta.epochs))
        yield bool(epochs), "images are missing", ", ".join(epochs), ", ".join(meta.epochs)
        sizes = f"{spec.gsd_m} m", f"{meta.gsd_m} m"
        yield abs(spec.gsd_m - meta.gsd_m) > 1e-6, "pixel size", *sizes
        margin = meta.crop_px - spec.window_px
        side = f"{spec.window_px} px, or larger by an even number"
        yield margin < 0 or margin % 2 != 0, "crop size", side, f"{meta.crop_px} px"
