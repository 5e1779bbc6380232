"""Settings and fixtures that all tests share: the real data, servers on loopback, a tiny town."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from quakestream.pipeline.backends.ray_backend import RayBackend
    from quakestream.synthetic import SyntheticEarthquake
    from tests.helpers.servers import S3Server

# A busy machine is slow, and no law is about time. The examples are the same each time, so that
# a test that fails is one that a change broke; `make test-all` tries new ones, and more of them.
settings.register_profile("same", deadline=None, derandomize=True, max_examples=20)
settings.register_profile("explore", deadline=None)
settings.load_profile("same")

ROOT = Path(__file__).parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What shares a Ray comes first and together, so that Ray is started once."""
    items.sort(key=lambda item: "ray_backend" not in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real scenes; tests that need it are skipped where it is absent."""
    path = Path(os.environ.get("QUAKESTREAM_DATA", ROOT.parent / "shared" / "data")).resolve()
    if not path.is_dir():
        pytest.skip(f"no real data at {path}; set QUAKESTREAM_DATA")
    return path


@pytest.fixture(scope="session")
def moto() -> "Iterator[S3Server]":
    """An S3 server for small objects."""
    from tests.helpers.servers import moto_server

    with moto_server() as server:
        yield server


@pytest.fixture(scope="session")
def radosgw(data_dir: Path) -> "Iterator[S3Server]":
    """Ceph's S3 gateway: a real server, with real multipart uploads."""
    from tests.helpers.servers import radosgw_server

    with radosgw_server(data_dir.parent / "tools" / "radosgw.sh") as server:
        yield server


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> "SyntheticEarthquake":
    """320 × 320 m, one pair of scenes, a ShakeMap. Tests that change files copy it first."""
    from quakestream.synthetic import TINY, make_earthquake

    return make_earthquake(tmp_path_factory.mktemp("town"), seed=3, size=TINY)


@pytest.fixture(scope="session", autouse=True)
def lighter() -> int:
    """Maps without pictures and without waiting for the disk; gives the usual size of pictures."""
    from tests.helpers.lighter import PICTURES_AT_MOST_BYTES

    return PICTURES_AT_MOST_BYTES


@pytest.fixture(scope="module")
def pictures(lighter: int) -> Iterator[None]:
    """Pages with pictures, as users get them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("quakestream.outputs.viewer.PICTURES_AT_MOST_BYTES", lighter)
        yield


@pytest.fixture(scope="session")
def _ray_until_the_end() -> Iterator[None]:
    """One Ray on this machine for all tests that do not end it: each start takes seconds."""
    pytest.importorskip("ray")
    from quakestream.pipeline.backends.cluster import ray_cluster

    with ray_cluster():
        yield


@pytest.fixture(scope="module")
def ray_backend(_ray_until_the_end: None) -> "Iterator[RayBackend]":
    """A backend on this process's Ray, which is left running for the modules that follow."""
    from quakestream.pipeline.backends.ray_backend import RayBackend

    with RayBackend() as backend:
        yield backend
