"""Small bundles with real graphs, written without a training framework.

Scores depend on every pixel of a crop, on its place in the crop, and on each hazard value. So
a test sees a crop that is off by one pixel, or a value of another building.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quakestream.bundles import write_manifest
from quakestream.domain import BundleSpec, HazardInput, ScaleClass
from quakestream.errors import MissingExtraError

OPSET, IR_VERSION = 18, 10
GAIN = 30.0
"""Logits per unit of normalised brightness, averaged over a crop."""
CLASSES = (
    ScaleClass(index=0, label="intact", xbd="no", ems98=(0, 1, 2), copernicus="No visible damage"),
    ScaleClass(index=1, label="destroyed", xbd="destroyed", ems98=(5,), copernicus="Destroyed"),
)
_UNITS = {"mmi": "MMI", "pga_g": "g", "vs30_m_s": "m/s"}
_MEANS = {"mmi": (7.0, 1.5), "pga_g": (0.3, 0.2), "vs30_m_s": (450.0, 150.0)}

Arrays = dict[str, NDArray[Any]]


def write_building_bundle(
    folder: Path,
    *,
    window_px: int = 48,
    epochs: tuple[str, ...] = ("pre", "post"),
    hazard: tuple[str, ...] = (),
    gsd_m: float = 0.5,
) -> Path:
    """A bundle of task `building` that adds hazard values to the brightness or its change.

    Raises:
        MissingExtraError: if the package onnx is not installed.
    """
    spec = BundleSpec(
        name="small-building",
        version="1",
        task="building",
        epochs=epochs,
        bands=("red", "green", "blue"),
        gsd_m=gsd_m,
        window_px=window_px,
        halo_px=0,
        context_m=window_px * gsd_m,
        dtype="uint8",
        normalisation="per_scene",
        hazard=_inputs(hazard),
        classes=CLASSES,
    )
    return _write(folder, spec)


def write_hazard_bundle(
    folder: Path,
    *,
    hazard: tuple[str, ...] = ("mmi", "pga_g"),
    prior: tuple[float, ...] = (0.7, 0.3),
) -> Path:
    """A bundle of task `hazard` whose logits rise with every value.

    Raises:
        MissingExtraError: if the package onnx is not installed.
    """
    spec = BundleSpec(
        name="small-hazard",
        version="1",
        task="hazard",
        dtype="float32",
        normalisation="fixed",
        hazard=_inputs(hazard),
        classes=CLASSES,
        prior=prior,
    )
    return _write(folder, spec)


def expected_logits(spec: BundleSpec, inputs: Arrays) -> NDArray[np.float32]:
    """Logits of this module's graphs, computed in numpy, shape (N, 2)."""
    total_N = np.zeros(len(next(iter(inputs.values()))), np.float64)
    if spec.epochs:
        image = {e: _normalised(inputs, e) for e in spec.epochs}
        value = image["post"] - image["pre"] if "pre" in image else image["post"]
        total_N += GAIN * (value * _ramp(spec.window_px)).mean(axis=(1, 2, 3))
    if spec.hazard:
        mean, std = (np.array([getattr(h, n) for h in spec.hazard]) for n in ("mean", "std"))
        total_N += np.nan_to_num((inputs["hazard"] - mean) / std, nan=0.0).sum(axis=1)
    return np.stack([-total_N, total_N], axis=1).astype(np.float32)


def _inputs(names: tuple[str, ...]) -> tuple[HazardInput, ...]:
    return tuple(
        HazardInput(
            name=n,
            unit=_UNITS.get(n, "1"),
            mean=_MEANS.get(n, (0.0, 1.0))[0],
            std=_MEANS.get(n, (0.0, 1.0))[1],
        )
        for n in names
    )


def _normalised(inputs: Arrays, epoch: str) -> NDArray[np.float64]:
    mean, std = (
        inputs[f"{epoch}_{n}_NB"].astype(np.float64)[:, :, None, None] for n in ("mean", "std")
    )
    return (inputs[epoch].astype(np.float64) - mean) / std


def _ramp(side_px: int) -> NDArray[np.float32]:
    """Weights, shape (1, 1, y, x), that every shift, turn or mirror changes."""
    step_N = np.arange(side_px, dtype=np.float32) / side_px
    return (0.5 + step_N[:, None] + 2 * step_N[None, :] ** 2)[None, None].astype(np.float32)


def _write(folder: Path, spec: BundleSpec) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    golden = _golden(spec)
    golden["logits"] = expected_logits(spec, golden)
    np.savez(folder / "golden.npz", allow_pickle=False, **golden)
    (folder / "model.onnx").write_bytes(_Graph(spec=spec).serialised())
    write_manifest(folder, spec)
    return folder


def _golden(spec: BundleSpec, count: int = 3) -> Arrays:
    rng = np.random.default_rng(0)
    golden: Arrays = {}
    for epoch in spec.epochs:
        shape = (count, len(spec.bands), spec.window_px, spec.window_px)
        golden[epoch] = rng.integers(0, 256, shape).astype(np.uint8)
        golden[f"{epoch}_mean_NB"] = rng.normal(120, 9, shape[:2]).astype(np.float32)
        golden[f"{epoch}_std_NB"] = rng.normal(50, 3, shape[:2]).astype(np.float32)
    if spec.hazard:
        mean, std = (np.array([getattr(h, n) for h in spec.hazard]) for n in ("mean", "std"))
        values_NM = rng.normal(mean, std, (count, len(mean))).astype(np.float32)
        values_NM[-1, 0] = np.nan
        golden["hazard"] = values_NM
    return golden


@dataclass(slots=True)
class _Graph:
    """Collects the nodes and constants of an ONNX graph."""

    spec: BundleSpec
    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)

    def serialised(self) -> bytes:
        try:
            from onnx import TensorProto, checker, helper, numpy_helper
        except ImportError as error:
            raise MissingExtraError(
                "package onnx is not installed",
                remedy="pip install onnx; small bundles are written with it",
            ) from error
        terms = [self._image()] if self.spec.epochs else []
        terms += [self._values()] if self.spec.hazard else []
        total = terms[0] if len(terms) == 1 else self._add("Add", *terms)
        signs = self._constant("signs", np.array([[-1.0, 1.0]], np.float32))
        self._add("MatMul", total, signs, output="logits")
        kinds = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}
        inputs = [
            helper.make_tensor_value_info(name, kinds[array.dtype.name], ["N", *array.shape[1:]])
            for name, array in _golden(self.spec, 1).items()
        ]
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 2])
        constants = [numpy_helper.from_array(v, k) for k, v in self.constants.items()]
        graph = helper.make_graph(
            [helper.make_node(op, ins, [out], **more) for op, ins, out, more in self.nodes],
            self.spec.name,
            inputs,
            [logits],
            constants,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        checker.check_model(model)
        return bytes(model.SerializeToString())

    def _image(self) -> str:
        """Adds the weighted mean over a crop, shape (N, 1)."""
        images = {e: self._epoch(e) for e in self.spec.epochs}
        value = images["post"]
        if "pre" in images:
            value = self._add("Sub", images["post"], images["pre"])
        ramp = self._constant("ramp", _ramp(self.spec.window_px) * np.float32(GAIN))
        axes = self._constant("image_axes", np.array([1, 2, 3], np.int64))
        mean = self._add("ReduceMean", self._add("Mul", value, ramp), axes, keepdims=0)
        return self._add("Unsqueeze", mean, self._constant("last", np.array([1], np.int64)))

    def _epoch(self, epoch: str) -> str:
        spread = self._constant("spread", np.array([2, 3], np.int64))
        mean, std = (self._add("Unsqueeze", f"{epoch}_{n}_NB", spread) for n in ("mean", "std"))
        counts = self._add("Cast", epoch, to=1)
        return self._add("Div", self._add("Sub", counts, mean), std)

    def _values(self) -> str:
        """Adds the sum of standardised values, shape (N, 1). A missing value counts as its mean."""
        mean, std = (
            self._constant(n, np.array([[getattr(h, n) for h in self.spec.hazard]], np.float32))
            for n in ("mean", "std")
        )
        known = self._add("Where", self._add("IsNaN", "hazard"), mean, "hazard")
        scaled = self._add("Div", self._add("Sub", known, mean), std)
        return self._add("ReduceSum", scaled, self._constant("columns", np.array([1], np.int64)))

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        self.constants[name] = value
        return name

    def _add(self, op: str, *inputs: str, output: str = "", **more: Any) -> str:
        name = output or f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append((op, list(inputs), name, more))
        return name
