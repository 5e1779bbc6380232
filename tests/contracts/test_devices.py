"""Queues and runs of a device, on the CPU, and TensorRT's native calls, as tests pretend them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from quakestream.bundles import load_bundle
from quakestream.domain import BundleSpec
from quakestream.engines.fixed import Runner
from quakestream.engines.streams import Streams
from quakestream.engines.tensorrt import BuildOrder, Native, PlanRequest, graph_for, input_shapes
from quakestream.engines.torch import DeviceRunner, Inputs
from quakestream.engines.torch_streams import CpuStreams, CudaStreams
from quakestream.testing import (
    NativeContract,
    RunnerContract,
    StreamsContract,
    write_building_bundle,
    write_bundle,
)
from tests.helpers.tensorrt_case import PretendedNative

SIZE = 3


class TestCpuStreams(StreamsContract):
    def streams(self) -> Streams:
        return CpuStreams()

    def on_device(self, values: NDArray[np.float32]) -> Any:
        return torch.from_numpy(values.copy())

    def on_host(self, values: Any) -> NDArray[np.float32]:
        host: NDArray[np.float32] = values.cpu().numpy()
        return host


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
class TestCudaStreams(TestCpuStreams):
    def streams(self) -> Streams:
        return CudaStreams()

    def on_device(self, values: NDArray[np.float32]) -> Any:
        return torch.from_numpy(values.copy()).cuda()


class TestDeviceRunner(RunnerContract):
    """Once with sums on the host, once with sums on the device."""

    @pytest.fixture(autouse=True, params=[True, False], ids=["host sums", "device sums"])
    def _bundle(self, request: pytest.FixtureRequest, tmp_path: Path) -> None:
        self.bundle = load_bundle(str(write_bundle(tmp_path / "bundle")))
        self.host_sums = request.param

    def spec(self) -> BundleSpec:
        return self.bundle.spec

    def runner(self) -> Runner:
        def call(inputs: Inputs) -> torch.Tensor:
            change_NYX = (inputs["post"].float() - inputs["pre"].float()).mean(dim=1) / 50
            return torch.stack([-change_NYX, change_NYX], dim=1)

        return DeviceRunner(call, self.spec(), SIZE, CpuStreams(), host_sums=self.host_sums)


class TestPretendedNative(NativeContract):
    """What stands for TensorRT in other tests keeps the contract that TensorRT is held to."""

    @pytest.fixture(autouse=True)
    def _bundle(self, tmp_path: Path) -> None:
        self.bundle = load_bundle(str(write_building_bundle(tmp_path / "bundle")))

    def native(self) -> Native:
        return PretendedNative()

    def order(self) -> BuildOrder:
        return BuildOrder(
            graph=graph_for(self.bundle, "fp32"),
            shapes=input_shapes(self.bundle, PlanRequest(precision="fp32", batch=SIZE)),
            portable=False,
            timing=b"",
        )
