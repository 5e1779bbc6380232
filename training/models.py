"""A model to be judged or explained, whether it lies in a checkpoint or in a bundle.

Both are asked the same question in the same words, the inputs of the bundle's graph, so that what
is judged is what ships.
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
    """Something that gives logits for the inputs a manifest names."""

    spec: BundleSpec
    """What goes in and what the classes are."""
    logits: Callable[[Arrays], NDArray[np.float32]]
    """(N, K) of a batch."""

    def probabilities(self, arrays: Arrays) -> NDArray[np.float64]:
        """Class probabilities (N, C) at the manifest's temperature."""
        return self.as_probabilities(self.logits(arrays))

    def as_probabilities(self, logit_NK: NDArray[np.float32]) -> NDArray[np.float64]:
        """The same of what the graph has given."""
        out_NK = logit_NK.astype(np.float64)
        if self.spec.outputs == "logits":
            scaled_NK = out_NK / self.spec.temperature
            out_NK = expit(scaled_NK) if out_NK.shape[1] == 1 else softmax(scaled_NK, axis=1)
        return out_NK if out_NK.shape[1] > 1 else np.concatenate([1 - out_NK, out_NK], axis=1)


def graph_model(graph: BundleGraph, spec: BundleSpec) -> Model:
    """A network in torch, on the GPU if there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Model(spec=spec, logits=graph.eval().to(device).run)


def bundle_model(bundle: Bundle, *, threads: int = 0) -> Model:
    """A bundle in ONNX Runtime: exactly the graph that ships."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(bundle.graph, options, providers=["CPUExecutionProvider"])

    def logits(arrays: Arrays) -> NDArray[np.float32]:
        found: NDArray[np.float32] = session.run(["logits"], arrays)[0]
        return found

    return Model(spec=bundle.spec, logits=logits)


def score(model: Model, batches: Iterable[Arrays]) -> NDArray[np.float32]:
    """Logits (N, K), batch by batch.

    Raises:
        RequestError: if there is nothing to score.
    """
    parts = [model.logits(arrays) for arrays in batches]
    if not parts:
        raise RequestError("nothing to score: no building of known class is held out")
    return np.concatenate(parts)


def store_inputs(
    spec: BundleSpec, store: ChipStore, row_N: NDArray[np.int64], masked: Collection[str] = ()
) -> Arrays:
    """Rows of a store as a building graph takes them.

    Args:
        masked: hazard values made missing, by name, as if their layer had not come.

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
    """Hazard values with some made missing, in place.

    Raises:
        RequestError: if a masked name is none of the model's.
    """
    names = [h.name for h in spec.hazard]
    if unknown := sorted(set(masked) - set(names)):
        raise RequestError(f"mask {', '.join(unknown)}: the model takes {', '.join(names)}")
    value_NM[:, np.isin(names, list(masked))] = np.nan
    return value_NM


def check_store(spec: BundleSpec, store: ChipStore) -> None:
    """Raises RequestError if a model cannot read a store."""
    for wrong, what in _misfits(spec, store):
        if wrong:
            raise RequestError(f"{spec.name} cannot be judged on this store: {what}")


def hazard_groups(spec: BundleSpec) -> dict[str, tuple[str, ...]]:
    """The manifest's groups of hazard values, named by what they hold."""
    sizes = spec.hazard_groups or ((len(spec.hazard),) if spec.hazard else ())
    names, groups = [h.name for h in spec.hazard], {}
    for size in sizes:
        members, names = tuple(names[:size]), names[size:]
        groups[" + ".join(members) if size <= 3 else f"{members[0]} … {members[-1]}"] = members
    return groups


def _images(spec: BundleSpec, chips: BuildingChips) -> Arrays:
    given = {"pre": chips.pre_NBYX, "post": chips.post_NBYX}
    place = {"pre": 0, "post": 2}
    arrays: Arrays = {}
    for epoch in spec.epochs:
        pixels_NBYX = given[epoch]
        assert pixels_NBYX is not None  # `check_store`
        arrays[epoch] = _middle(pixels_NBYX, spec.window_px)
        for offset, figure in enumerate(("mean", "std")):
            arrays[f"{epoch}_{figure}_NB"] = chips.statistics_N4B[:, place[epoch] + offset]
    return arrays


def _middle(pixels_NBYX: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The square of that side about the middle: stored chips have a margin."""
    start = (pixels_NBYX.shape[-1] - side) // 2
    cut = slice(start, start + side)
    return np.ascontiguousarray(pixels_NBYX[:, :, cut, cut])


def _misfits(spec: BundleSpec, store: ChipStore) -> Iterator[tuple[bool, str]]:
    meta = store.meta
    labels: Sequence[str] = spec.labels
    yield tuple(labels) != meta.classes, f"its classes are {labels}, the store's {meta.classes}"
    lacking = [h.name for h in spec.hazard if h.name not in store.table.columns]
    yield bool(lacking), f"the store has no {', '.join(lacking)}"
    if spec.epochs:
        epochs = set(spec.epochs) - set(meta.epochs)
        yield bool(epochs), f"the store has no {', '.join(sorted(epochs))} images"
        yield abs(spec.gsd_m - meta.gsd_m) > 1e-6, f"{spec.gsd_m} m pixels, not {meta.gsd_m} m"
        margin = meta.crop_px - spec.window_px
        sides = f"its crops are {spec.window_px} px, the store's {meta.crop_px} px"
        yield margin < 0 or margin % 2 != 0, sides
