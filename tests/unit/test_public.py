"""The public surface, and that importing it is cheap."""

import subprocess
import sys

import quakestream as qs


def test_the_public_names_are_these() -> None:
    assert sorted(qs.__all__) == ["QuakestreamError", "__version__", "map", "open_run", "plan"]
    assert all(hasattr(qs, name) for name in qs.__all__)


def test_importing_opens_nothing_heavy() -> None:
    code = "import sys, quakestream; print([m for m in ('torch', 'ray', 'rasterio', 'geopandas', \
'onnxruntime', 'dask') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
