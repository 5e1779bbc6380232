"""Crops of labelled buildings, read again from the imagery of a finished map."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime as ort
import pandas as pd
from numpy.typing import NDArray

from quakestream.config import RunFile, open_run
from quakestream.errors import RequestError
from quakestream.storage import StorageOptions
from training.data.labels import ClassRule, LabelRequest, Scale
from training.data.run_store import RunSource, StoreReport, StoreRequest, write_run_store
from training.data.store import ChipStore

STATES = Scale(
    classes=(ClassRule(label="intact", values=("0",)), ClassRule(label="destroyed", values=("1",)))
)
BATCH = 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledCrops:
    """Labelled buildings whose pixels could be read, and what a graph gives for their crops."""

    building_id_N: NDArray[np.object_]
    destroyed_N: NDArray[np.bool_]
    xy_m_N2: NDArray[np.float64]
    """Middle of each crop, in the UTM zone `epsg_N`."""
    epsg_N: NDArray[np.int64]
    feature_ND: NDArray[np.float32]
    dropped: Mapping[str, int]
    """Number of buildings without a crop, by reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CropRequest:
    """Size of crops and the images that they are cut from."""

    crop_px: int
    gsd_m: float
    epochs: tuple[str, ...]


def recorded_run(
    record: Mapping[str, Any], path: str | None, storage: StorageOptions | None
) -> RunFile:
    """The request of a map: its run file, or what its run.json recorded of it.

    Raises:
        RequestError: if run.json has no record and no run file is named.
    """
    if path is not None:
        return open_run(path, storage)
    if "request" not in record:
        raise RequestError(
            "run.json does not say what the map was made from",
            str(record.get("run_id", "")),
            remedy="name its run file: --run RUN.yaml",
        )
    return open_run(record["request"], storage)


def crops_of(
    run: RunFile, destroyed_of: Mapping[str, bool], request: CropRequest, graph: bytes
) -> LabelledCrops:
    """Reads the crops of some buildings as a map would, and runs a graph on them.

    Args:
        run: the run.
        destroyed_of: state of each building, by id.
        request: size and epochs.
        graph: ONNX graph whose output is one row per crop.

    Raises:
        RequestError: if the imagery shows none of the buildings.
    """
    with TemporaryDirectory(prefix="quakestream-adapt-") as folder:
        labels = Path(folder) / "labels.csv"
        _write(labels, destroyed_of)
        source = RunSource(
            run=run, labels=LabelRequest(uri=str(labels), scale=STATES, column="label")
        )
        wanted = StoreRequest(
            crop_px=request.crop_px,
            gsd_m=request.gsd_m,
            epochs=request.epochs,
            empty_classes=True,
        )
        store, report = write_run_store(str(Path(folder) / "crops"), [source], wanted)
        return _scored(store, report, request.epochs, graph)


def _write(path: Path, destroyed_of: Mapping[str, bool]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("building_id", "label"))
        writer.writerows((id_, int(destroyed)) for id_, destroyed in destroyed_of.items())


def _scored(
    store: ChipStore, report: StoreReport, epochs: tuple[str, ...], graph: bytes
) -> LabelledCrops:
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    row_N = np.arange(len(store))
    parts = []
    for start in range(0, len(store), BATCH):
        chips = store.read(row_N[start : start + BATCH])
        inputs: dict[str, NDArray[Any]] = {e: chips.pixels(e) for e in epochs}
        for place, epoch in enumerate(("pre", "post")):
            if epoch in epochs:
                inputs[f"{epoch}_mean_NB"] = chips.statistics_N4B[:, 2 * place]
                inputs[f"{epoch}_std_NB"] = chips.statistics_N4B[:, 2 * place + 1]
        parts.append(session.run(None, inputs)[0])
    table: pd.DataFrame = store.table
    return LabelledCrops(
        building_id_N=table["building_id"].to_numpy(object),
        destroyed_N=table["label"].to_numpy() == 1,
        xy_m_N2=table[["x_m", "y_m"]].to_numpy(np.float64),
        epsg_N=table["epsg"].to_numpy(np.int64),
        feature_ND=np.concatenate(parts),
        dropped=dict(report.dropped),
    )
