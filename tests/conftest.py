"""What all tests share: where the real data lies, and servers on loopback."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine is slow, and no law is about time. What is tried is the same each time, so
# that a test that fails is one that a change broke; `make test-all` tries what never was.
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None)
settings.load_profile("same")

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real scenes; tests that need it skip with the reason where it is absent."""
    path = Path(os.environ.get("QUAKESTREAM_DATA", ROOT.parent / "shared" / "data")).resolve()
    if not path.is_dir():
        pytest.skip(f"no real data at {path}; set QUAKESTREAM_DATA")
    return path
