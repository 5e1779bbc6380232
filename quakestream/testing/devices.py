"""Contract tests for what engines of a device are made of: queues, runs of one size, TensorRT."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quakestream.domain import BundleSpec
from quakestream.engines import owner_sums
from quakestream.engines.fixed import SLOTS, Runner
from quakestream.engines.streams import QueueEvent, Streams
from quakestream.engines.tensorrt import BuildOrder, Gpu, Native, Program
from quakestream.errors import EngineError
from quakestream.testing.engines import raises


class StreamsContract:
    """Tests over the protocols Streams and QueueEvent."""

    def streams(self) -> Streams:
        raise NotImplementedError

    def on_device(self, values: NDArray[np.float32]) -> Any:
        """An array on the device."""
        raise NotImplementedError

    def on_host(self, values: Any) -> NDArray[np.float32]:
        """An array of the device, copied to the host."""
        raise NotImplementedError

    def test_room_on_the_device_has_its_shape(self) -> None:
        streams = self.streams()
        room = streams.empty((3, 5))
        streams.synchronize()
        assert self.on_host(room).shape == (3, 5)
        assert self.on_host(room).dtype == np.float32

    def test_an_event_that_was_never_recorded_holds_nobody(self) -> None:
        streams = self.streams()
        event: QueueEvent = streams.event()
        event.synchronize()
        with streams.copy_queue():
            event.wait()
        streams.synchronize()

    def test_one_queue_waits_for_what_the_other_has_done(self) -> None:
        streams = self.streams()
        source, room = self.on_device(np.arange(6, dtype=np.float32)), streams.empty((6,))
        event = streams.event()
        with streams.copy_queue():
            room[:] = source
            event.record()
        with streams.work_queue():
            event.wait()
            doubled = room * 2
        streams.synchronize()
        event.synchronize()
        assert np.array_equal(self.on_host(doubled), np.arange(6, dtype=np.float32) * 2)

    def test_a_captured_call_scores_new_inputs(self) -> None:
        streams = self.streams()
        first, second = (np.full((2, 3), value, np.float32) for value in (1.0, 5.0))
        call = streams.capture(lambda inputs: inputs["x"] * 3, {"x": self.on_device(first)})
        for values in (second, first):
            with streams.work_queue():
                output = call({"x": self.on_device(values)})
            streams.synchronize()
            assert np.array_equal(self.on_host(output), values * 3)

    def test_the_working_queue_has_a_number(self) -> None:
        assert isinstance(self.streams().handle(), int)


class RunnerContract:
    """Tests over the protocol Runner, for a graph that scores the pixels of windows."""

    def runner(self) -> Runner:
        raise NotImplementedError

    def spec(self) -> BundleSpec:
        raise NotImplementedError

    def filled(self, runner: Runner, slot: int, seed: int) -> None:
        """Noise in every input of a slot."""
        rng = np.random.default_rng(seed)
        buffers: Mapping[str, NDArray[Any]] = runner.buffers(slot)
        for buffer in buffers.values():
            assert len(buffer) == runner.size
            buffer[:] = rng.integers(1, 200, buffer.shape).astype(buffer.dtype)

    def logits(self, runner: Runner, slot: int) -> NDArray[np.float32]:
        runner.run(slot)
        runner.fetch(slot)
        return runner.take(slot).copy()

    def test_a_run_gives_logits_for_each_item(self) -> None:
        runner = self.runner()
        self.filled(runner, 0, seed=1)
        logits = self.logits(runner, 0)
        assert len(logits) == runner.size > 0
        assert logits.dtype == np.float32
        assert np.isfinite(logits).all()

    def test_slots_do_not_disturb_each_other(self) -> None:
        runner = self.runner()
        alone = []
        for slot in range(SLOTS):
            self.filled(runner, slot, seed=slot)
            alone.append(self.logits(runner, slot))
        for slot in range(SLOTS):
            self.filled(runner, slot, seed=slot)
            runner.run(slot)
            runner.fetch(slot)
        for slot in range(SLOTS):
            assert np.array_equal(runner.take(slot), alone[slot])

    def test_sums_are_those_of_the_logits(self) -> None:
        """All runs since `open_sums` count; at most one unit a pixel from the host's sums."""
        runner, spec = self.runner(), self.spec()
        shape = (runner.size, spec.core_px, spec.core_px)
        owner_NYX = np.random.default_rng(2).integers(-1, 4, shape, np.int32)
        runner.open_sums(4)
        expected_RC = np.zeros((4, len(spec.classes)), np.int64)
        for slot in range(SLOTS):
            self.filled(runner, slot, seed=slot)
            runner.run(slot)
            runner.add(slot, owner_NYX)
            runner.fetch(slot)
            expected_RC += owner_sums(runner.take(slot), owner_NYX, 4, spec)
        pixels_R = SLOTS * np.bincount(owner_NYX[owner_NYX >= 0], minlength=4)
        assert (np.abs(runner.sums() - expected_RC) <= pixels_R[:, None]).all()


class NativeContract:
    """Tests over the protocols Native and Program."""

    def native(self) -> Native:
        raise NotImplementedError

    def order(self) -> BuildOrder:
        """A graph that gives `logits`, and the shapes of its inputs."""
        raise NotImplementedError

    def program(self, native: Native) -> Program:
        order = self.order()
        plan, _ = native.build(order)
        return native.load(plan, order.shapes, portable=order.portable)

    def test_a_gpu_is_named_or_absent(self) -> None:
        gpu = self.native().gpu()
        assert gpu is None or isinstance(gpu, Gpu)
        assert self.native().version

    def test_building_gives_a_plan_and_what_it_learned(self) -> None:
        plan, timing = self.native().build(self.order())
        assert plan
        assert isinstance(timing, bytes)

    def test_a_plan_knows_the_shape_of_its_output(self) -> None:
        order = self.order()
        items = next(iter(order.shapes.values()))[0]
        assert self.program(self.native()).shape("logits")[0] == items

    def test_a_plan_does_not_open_for_other_shapes(self) -> None:
        native, order = self.native(), self.order()
        plan, _ = native.build(order)
        others = {name: (shape[0] + 1, *shape[1:]) for name, shape in order.shapes.items()}
        with raises(EngineError):
            native.load(plan, others, portable=order.portable)
