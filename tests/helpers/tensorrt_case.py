"""TensorRT's few native calls, done by ONNX Runtime on host memory.

It is as strict as the real one where our code could be wrong: shapes are fixed when a plan is
built, every tensor must be bound before a run, a plan opens only on the GPU it was built for.
"""

import ctypes
import json
from dataclasses import dataclass, field

import numpy as np
import onnxruntime as ort

from quakestream.engines.tensorrt import BuildOrder, Gpu, Native, Program, Shapes
from quakestream.errors import EngineError

GPU = Gpu(name="Pretended GPU", capability="9.0", driver="590.1")
_MAGIC = b"pretended plan\n"
_KINDS = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}


@dataclass(slots=True)
class PretendedNative:
    """Builds plans that are the graph itself, with what they are for before it."""

    version: str = "11.4.0.106"
    here: Gpu | None = GPU
    orders: list[BuildOrder] = field(default_factory=list)
    loaded: list["PretendedProgram"] = field(default_factory=list)
    tilt: float = 0.0
    """Added to the logits of the last item of a run that is longer than one."""

    def gpu(self) -> Gpu | None:
        return self.here

    def build(self, order: BuildOrder) -> tuple[bytes, bytes]:
        self.orders.append(order)
        header = {
            "shapes": {n: list(s) for n, s in order.shapes.items()},
            "made": [self.version, str(self.here)],
            "portable": order.portable,
        }
        plan = _MAGIC + json.dumps(header).encode() + b"\n" + order.graph
        return plan, order.timing + b"learned\n"

    def load(self, plan: bytes, shapes: Shapes, *, portable: bool) -> Program:
        if not plan.startswith(_MAGIC):
            raise AssertionError("a real runtime would end the process here")
        header, _, graph = plan[len(_MAGIC) :].partition(b"\n")
        made = json.loads(header)
        if made["made"] != [self.version, str(self.here)] and not made["portable"]:
            raise EngineError("plan of another GPU or version")
        if {n: tuple(s) for n, s in made["shapes"].items()} != dict(shapes):
            raise EngineError(f"plan takes {made['shapes']}, got {dict(shapes)}")
        program = PretendedProgram(graph, shapes, self.tilt)
        self.loaded.append(program)
        return program


class PretendedProgram:
    """Runs on what lies at the addresses it was given."""

    def __init__(self, graph: bytes, shapes: Shapes, tilt: float) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._kinds = {i.name: _KINDS[i.type] for i in self._session.get_inputs()}
        self._shapes, self._tilt = dict(shapes), tilt
        self._addresses: dict[str, int] = {}
        empty = {n: np.ones(s, self._kinds[n]) for n, s in self._shapes.items()}
        self._logits_shape = self._session.run(["logits"], empty)[0].shape
        self.runs = 0

    def shape(self, name: str) -> tuple[int, ...]:
        assert name == "logits"
        return tuple(self._logits_shape)

    def bind(self, name: str, address: int) -> None:
        assert name == "logits" or name in self._shapes, name
        self._addresses[name] = address

    def enqueue(self, stream: int) -> None:
        missing = {*self._shapes, "logits"} - self._addresses.keys()
        if missing:
            raise EngineError(f"no address for {sorted(missing)}")
        inputs = {n: _at(self._addresses[n], s, self._kinds[n]) for n, s in self._shapes.items()}
        # One by one: the same kernels for every item, as a plan has them.
        items = range(len(next(iter(inputs.values()))))
        parts = [
            self._session.run(["logits"], {k: v[n : n + 1] for k, v in inputs.items()})[0]
            for n in items
        ]
        if len(parts) > 1:
            parts[-1] = parts[-1] + np.float32(self._tilt)
        _at(self._addresses["logits"], self._logits_shape, np.float32)[:] = np.concatenate(parts)
        self.runs += 1


def _at(address: int, shape: tuple[int, ...], kind: type) -> np.ndarray:
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    held = (ctypes.c_char * size).from_address(address)
    return np.frombuffer(held, kind).reshape(shape)


_: type[Native] = PretendedNative
_program: type[Program] = PretendedProgram
