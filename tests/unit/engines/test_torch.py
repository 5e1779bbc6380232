"""torch as an engine, on the CPU: the contract, other precisions, compilers, what it refuses."""

import io
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from quakestream.bundles import Bundle, load_bundle, write_manifest
from quakestream.domain import BundleSpec
from quakestream.domain.bands import COLOURS
from quakestream.engines import Batch, Engine, open_engine, owner_sums, probabilities
from quakestream.engines.fixed import FixedBatches, owned_pixels, steady
from quakestream.engines.parity import check_golden, golden_shift
from quakestream.engines.shapes import noise
from quakestream.engines.torch import DeviceRunner, Inputs, TorchEngine, shares
from quakestream.engines.torch_streams import CpuStreams
from quakestream.errors import BundleError, DeviceError, EngineError
from quakestream.testing import CropEngineContract, EngineContract, write_building_bundle
from quakestream.testing.bundles import CLASSES
from tests.helpers.graph_bundles import graph_bundle


@pytest.fixture(scope="session")
def windows(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return graph_bundle(
        tmp_path_factory.mktemp("windows") / "bundle", "fc_siam_diff_small", onnx=False
    )


@pytest.fixture(scope="session")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return graph_bundle(tmp_path_factory.mktemp("crops") / "bundle", "qmf_tiny", onnx=False)


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return graph_bundle(tmp_path_factory.mktemp("rows") / "bundle", "hazard_mlp", onnx=False)


@pytest.fixture(scope="session")
def window_engine(windows: Bundle) -> TorchEngine:
    return TorchEngine(windows, threads=1)


@pytest.fixture(scope="session")
def crop_engine(crops: Bundle) -> TorchEngine:
    return TorchEngine(crops, threads=1)


class TestWindows(EngineContract):
    @pytest.fixture(autouse=True)
    def _open(self, windows: Bundle, window_engine: TorchEngine) -> None:
        self.bundle, self.opened = windows, window_engine

    def engine(self) -> Engine:
        return self.opened

    def spec(self) -> BundleSpec:
        return self.bundle.spec


class TestWindowsInHalf(TestWindows):
    @pytest.fixture(autouse=True)
    def _open(self, windows: Bundle) -> None:
        self.bundle = windows
        self.opened = TorchEngine(windows, threads=1, precision="bf16")


class TestCrops(CropEngineContract):
    @pytest.fixture(autouse=True)
    def _open(self, crops: Bundle, crop_engine: TorchEngine) -> None:
        self.bundle, self.opened = crops, crop_engine

    def engine(self) -> Engine:
        return self.opened

    def spec(self) -> BundleSpec:
        return self.bundle.spec


def test_it_is_a_runtime_by_name(rows: Bundle) -> None:
    engine = open_engine(rows, runtime="torch-bf16", threads=1)
    assert engine.name == f"torch-{torch.__version__}-cpu-eager-bf16"
    assert check_golden(engine, rows, "bf16") > 0.0


@pytest.mark.parametrize("kind", ["windows", "crops", "rows"])
def test_it_gives_the_golden_logits(kind: str, request: pytest.FixtureRequest) -> None:
    bundle: Bundle = request.getfixturevalue(kind)
    shifts = {p: golden_shift(TorchEngine(bundle, threads=1, precision=p), bundle)[0] for p in HALF}
    assert shifts["fp32"] < 1e-5
    assert shifts["fp32"] < shifts["fp16"] < shifts["bf16"] < 0.02


HALF = ("fp32", "fp16", "bf16")


def test_half_precision_is_that_of_autocast(windows: Bundle) -> None:
    """The rewritten graph against torch's own rules; a weight is rounded once, as there."""
    batch = noise(windows.spec, 1)
    ours = TorchEngine(windows, threads=1, precision="bf16").score(batch)
    program = torch.export.load(io.BytesIO(windows.files["model.pt2"]))
    module = program.module()
    for node in list(module.graph.nodes):
        if "_assert_tensor_metadata" in str(node.target):
            module.graph.erase_node(node)
    module.recompile()
    tensors = [torch.from_numpy(a) for a in batch.inputs(0, 1).values()]
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        theirs = module(*tensors).float().numpy()
    assert ours is not None
    spread = float(theirs.std())
    assert np.abs(ours - theirs).max() < 0.05 * spread
    full = TorchEngine(windows, threads=1).score(batch)
    assert full is not None
    assert np.abs(ours - full).mean() > 0.0


def test_rows_score_the_same_in_any_order(rows: Bundle) -> None:
    engine = TorchEngine(rows, threads=1)
    batch = noise(rows.spec, 2500)
    logits = engine.score(batch)
    order = np.random.default_rng(1).permutation(2500)
    assert batch.hazard_NM is not None
    shuffled = engine.score(Batch(hazard_NM=batch.hazard_NM[order]))
    assert logits is not None
    assert logits.shape == (2500, 2)
    assert np.array_equal(shuffled, logits[order])


def test_a_batch_without_statistics_is_refused(windows: Bundle) -> None:
    batch = replace(noise(windows.spec, 1), statistics={})
    with pytest.raises(ValueError, match="batch lacks pre_mean_NB, pre_std_NB"):
        TorchEngine(windows, threads=1).score(batch)


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_sums_of_a_device_are_exact(windows: Bundle, outputs: int, kind: str) -> None:
    """Against the same in numpy and float64, exactly; against float32, a unit a pixel."""
    spec = replace(windows.spec, outputs=kind)
    rng = np.random.default_rng(0)
    logits = (rng.normal(size=(3, outputs, 32, 32)) * 4).astype(np.float32)
    if kind == "probabilities":
        logits = probabilities(logits.swapaxes(0, 1).reshape(outputs, -1), windows.spec)[:outputs]
        logits = np.ascontiguousarray(logits.reshape(outputs, 3, 32, 32).swapaxes(0, 1))
    owner = rng.integers(-1, 9, (3, 16, 16)).astype(np.int32)
    runner = _runner_that_gives(logits, spec)
    runner.open_sums(11)
    runner.run(0)
    runner.add(0, owner)
    runner.add(0, owner[:2])
    sums = runner.sums()
    twice = owner_sums(logits, owner, 11, spec) + owner_sums(logits[:2], owner[:2], 11, spec)
    pixels = sum(np.bincount(o[o >= 0], minlength=11) for o in (owner, owner[:2]))
    assert (np.abs(sums - twice) <= pixels[:, None]).all()
    exact = np.zeros_like(sums)
    for part in (owner, owner[:2]):
        for n, y, x in zip(*np.nonzero(part >= 0), strict=True):
            value = logits[n, :, y + 8, x + 8].astype(np.float64)
            p = value if kind == "probabilities" else _p64(value / spec.temperature)
            p = np.array([1.0 - p[0], p[0]]) if outputs == 1 else p
            exact[part[n, y, x]] += np.rint(p * 65535).astype(np.int64)
    assert np.array_equal(sums, exact)


def _p64(value: np.ndarray) -> np.ndarray:
    if len(value) == 1:
        return 1.0 / (1.0 + np.exp(-value))
    powers = np.exp(value - value.max())
    return powers / powers.sum()


def _runner_that_gives(logits: np.ndarray, spec) -> DeviceRunner:
    def call(inputs: Inputs) -> torch.Tensor:
        return torch.from_numpy(logits)

    return DeviceRunner(call, spec, len(logits), CpuStreams(), host_sums=False)


def test_shares_of_a_pixel_keep_their_sum(windows: Bundle) -> None:
    values = torch.linspace(-40, 40, 4001)[None]
    whole = shares(values, windows.spec)
    assert whole.shape == (4001, 2)
    assert (whole.sum(1) - 65535).abs().max() <= 1
    assert bool((whole[1:, 1] >= whole[:-1, 1]).all())


def test_owned_pixels_are_where_the_logits_of_the_core_lie(windows: Bundle) -> None:
    logits = np.arange(2 * 3 * 32 * 32).reshape(2, 3, 32, 32)
    owner = np.full((2, 16, 16), -1, np.int32)
    owner[1, 2, 5] = 4
    place, who = owned_pixels(owner, windows.spec, 3)
    assert who.tolist() == [4]
    assert logits.reshape(-1)[place[0]] == logits[1, 0, 10, 13]
    assert logits.reshape(-1)[place[0] + 2 * 32 * 32] == logits[1, 2, 10, 13]


def test_a_device_whose_places_differ_takes_items_one_by_one(crops: Bundle) -> None:
    def make(size: int) -> DeviceRunner:
        def call(inputs: Inputs) -> torch.Tensor:
            logits = inputs["post"].float().mean((1, 2, 3))[:, None].repeat(1, 2)
            logits[-1] *= 1 + 2.0**-20 if size > 1 else 1.0
            return logits

        return DeviceRunner(call, crops.spec, size, CpuStreams(), host_sums=True)

    assert steady(make, (8, 1), crops.spec).size == 1


def test_a_fixed_size_is_kept_where_places_do_not_differ(crops: Bundle) -> None:
    assert TorchEngine(crops, threads=1, batch=4).batch == 4
    named = open_engine(crops, runtime="torch", threads=1, batch=5)
    assert named.batch == 5
    assert check_golden(named, crops, "fp32") < 1e-5


def test_a_device_that_fails_is_an_error_in_one_line(crops: Bundle) -> None:
    def call(inputs: Inputs) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nand more")

    runner = DeviceRunner(call, crops.spec, 2, CpuStreams(), host_sums=True)
    with pytest.raises(EngineError, match=r"a run of 2 items \(CUDA out of memory") as caught:
        FixedBatches(runner, crops.spec).score(noise(crops.spec, 1))
    assert "\n" not in str(caught.value)


class LoggedStreams(CpuStreams):
    """Notes what is asked of which queue, in order."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.queue = "host"
        self.events = 0

    @contextmanager
    def copy_queue(self) -> Iterator[None]:
        self.queue = "copying"
        yield
        self.queue = "host"

    @contextmanager
    def work_queue(self) -> Iterator[None]:
        self.queue = "working"
        yield
        self.queue = "host"

    def event(self) -> "LoggedEvent":
        slot, kind = divmod(self.events, 3)
        self.events += 1
        return LoggedEvent(self, f"{('sent', 'ran', 'back')[kind]} {slot}")

    def synchronize(self) -> None:
        self.log.append("host settles")


@dataclass
class LoggedEvent:
    streams: LoggedStreams
    name: str

    def record(self) -> None:
        self.streams.log.append(f"{self.streams.queue} records {self.name}")

    def wait(self) -> None:
        self.streams.log.append(f"{self.streams.queue} waits for {self.name}")

    def synchronize(self) -> None:
        assert self.streams.queue == "host"
        self.streams.log.append(f"host waits for {self.name}")


def test_no_buffer_is_used_before_its_last_user_is_done(crops: Bundle) -> None:
    """What a GPU runs out of order unless told: every wait, and the order they come in."""
    streams = LoggedStreams()

    def call(inputs: Inputs) -> torch.Tensor:
        assert streams.queue == "working"
        streams.log.append("working runs")
        return inputs["post"].float().mean((1, 2, 3))[:, None].repeat(1, 2)

    runner = DeviceRunner(call, crops.spec, 1, streams, host_sums=True)
    FixedBatches(runner, crops.spec).score(noise(crops.spec, 3))

    def start(slot: int) -> list[str]:
        return [
            f"host waits for sent {slot}",
            f"copying waits for ran {slot}",
            f"copying records sent {slot}",
            f"working waits for sent {slot}",
            "working runs",
            f"working records ran {slot}",
            f"working records back {slot}",
        ]

    taken = [f"host waits for back {slot}" for slot in (0, 1, 0)]
    first, second, third = taken
    assert streams.log == ["host settles", *start(0), *start(1), first, *start(0), second, third]


def test_a_captured_call_is_replayed_on_what_lies_in_its_inputs(crops: Bundle) -> None:
    """Outputs are overwritten by the next replay: what was fetched before must not change."""
    streams = CpuStreams()

    def call(inputs: Inputs) -> torch.Tensor:
        return inputs["post"].float().mean((1, 2, 3))[:, None].repeat(1, 2)

    example = {"post": torch.zeros((2, 3, 32, 32), dtype=torch.uint8)}
    spec = replace(crops.spec, hazard=(), normalisation="fixed")
    runner = DeviceRunner(streams.capture(call, example), spec, 2, streams, host_sums=True)
    for slot in (0, 1):
        runner.buffers(slot)["post"][:] = slot + 1
        runner.run(slot)
        runner.fetch(slot)
    assert runner.take(0).tolist() == [[1.0, 1.0]] * 2
    assert runner.take(1).tolist() == [[2.0, 2.0]] * 2


def test_graphs_without_a_gpu_are_refused_in_one_line(rows: Bundle) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(
        DeviceError, match="no CUDA device, and runtime torch-graphs needs one"
    ) as caught:
        open_engine(rows, runtime="torch-graphs-bf16")
    assert "\n" not in str(caught.value)


def test_a_bundle_without_a_program_says_how_to_get_one(tmp_path: Path) -> None:
    bundle = load_bundle(str(write_building_bundle(tmp_path / "bundle")))
    with pytest.raises(BundleError, match=r"has no model\.pt2; export it with .*--pt2.*from_onnx"):
        open_engine(bundle, runtime="torch")


def with_program(bundle: Bundle, data: bytes) -> Bundle:
    return replace(bundle, files={**bundle.files, "model.pt2": data})


def repacked(data: bytes, change: dict[str, bytes]) -> bytes:
    """The archive with parts changed or added, by the end of their names."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        top = old.namelist()[0].split("/")[0]
        for name in old.namelist():
            if name.removeprefix(f"{top}/") not in change:
                new.writestr(name, old.read(name))
        for name, content in change.items():
            new.writestr(f"{top}/{name}", content)
    return buffer.getvalue()


class Trap:
    """What a pickle can do."""

    sprung = False

    def __reduce__(self):
        return (setattr, (Trap, "sprung", True))


@pytest.mark.parametrize(
    "part",
    ["data/sample_inputs/model.pt", "data/constants/custom_obj_0", "data/aotinductor/model/a.so"],
)
def test_a_program_with_a_pickle_in_it_is_never_opened(rows: Bundle, part: str) -> None:
    data = repacked(rows.files["model.pt2"], {part: pickle.dumps(Trap())})
    with pytest.raises(BundleError, match="would unpickle or run"):
        TorchEngine(with_program(rows, data))
    assert not Trap.sprung


def test_a_weight_that_says_it_is_a_pickle_is_never_opened(rows: Bundle) -> None:
    name = "data/weights/model_weights_config.json"
    with zipfile.ZipFile(io.BytesIO(rows.files["model.pt2"])) as archive:
        top = archive.namelist()[0].split("/")[0]
        config = archive.read(f"{top}/{name}").replace(b'use_pickle": false', b'use_pickle": true')
    data = repacked(rows.files["model.pt2"], {name: config})
    with pytest.raises(BundleError, match="is a pickle"):
        TorchEngine(with_program(rows, data))


@pytest.mark.parametrize("data", [b"", b"no archive", b"PK\x05\x06" + bytes(18)])
def test_a_program_that_is_none_is_refused_in_one_line(rows: Bundle, data: bytes) -> None:
    with pytest.raises(BundleError, match=r"model\.pt2") as caught:
        TorchEngine(with_program(rows, data))
    assert "\n" not in str(caught.value)


def test_another_model_is_not_the_same(rows: Bundle) -> None:
    golden = {**rows.golden, "logits": rows.golden["logits"] + np.float32([0.0, 0.5])}
    other = replace(rows, files=rows.files)
    other.__dict__["golden"] = golden
    with pytest.raises(EngineError, match="is not the same model as its reference"):
        check_golden(TorchEngine(rows, threads=1), other, "fp32")


def test_a_program_that_takes_other_inputs_is_refused(rows: Bundle, tmp_path: Path) -> None:
    for name, data in rows.files.items():
        (tmp_path / name).write_bytes(data)
    spec = replace(rows.spec, task="building", epochs=("post",), bands=COLOURS, gsd_m=0.5)
    write_manifest(tmp_path, replace(spec, window_px=32, classes=CLASSES))
    with pytest.raises(
        BundleError, match=r"model\.pt2 has the wrong number of inputs: expected 4, got 1"
    ):
        TorchEngine(load_bundle(str(tmp_path)))


@pytest.mark.slow
class TestWindowsCompiled(TestWindows):
    @pytest.fixture(autouse=True)
    def _open(self, windows: Bundle, compiled_windows: TorchEngine) -> None:
        self.bundle = windows
        self.opened = compiled_windows


@pytest.fixture(scope="session")
def compiled_windows(windows: Bundle) -> TorchEngine:
    return TorchEngine(windows, threads=1, precision="bf16", mode="compile")


@pytest.mark.slow
def test_compiled_rows_are_the_golden_ones(rows: Bundle) -> None:
    engine = open_engine(rows, runtime="torch-compile", threads=1)
    assert engine.name.endswith("-cpu-compile-fp32")
    assert check_golden(engine, rows, "fp32") < 1e-5


@pytest.mark.slow
def test_a_library_compiled_ahead_of_time_is_kept_and_checked(rows: Bundle, tmp_path: Path) -> None:
    def opened() -> TorchEngine:
        return TorchEngine(rows, threads=1, mode="aoti", folder=tmp_path / "kept")

    assert check_golden(opened(), rows, "fp32") < 1e-5
    (library,) = (tmp_path / "kept").glob("aoti-*.pt2")
    made = library.stat().st_mtime_ns
    assert check_golden(opened(), rows, "fp32") < 1e-5
    assert library.stat().st_mtime_ns == made
    library.write_bytes(library.read_bytes() + b"\0")
    with pytest.raises(EngineError, match="delete it and build it again"):
        opened()
