"""Who may import whom, read from the sources (architecture.md, "Folders")."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "quakestream"

RANKS = [
    {"errors", "events"},
    {"domain"},
    {"tiling", "reduce", "fusion"},
    {"config", "storage"},
    {"raster"},
    {"catalog", "hazard", "bundles", "outputs"},
    {"engines"},
    {"pipeline"},
    {"synthetic", "testing"},
    {"cli"},
]
RANK = {name: rank for rank, names in enumerate(RANKS) for name in names}
# The run file carries storage options: config may use the seam it configures.
ALLOWED_SAME_RANK = {("config", "storage"), ("events", "errors")}
PURE = {"domain", "tiling", "reduce", "fusion"}
PURE_LIBRARIES = {"numpy", "shapely", "pyproj", "affine"}
ONLY_IN = {
    "ray": {
        f"pipeline/backends/{name}.py"
        for name in ("cluster", "ray_backend", "ray_pool", "ray_workers", "dask_ray")
    },
    "torch": {"engines/torch.py"},
    "tensorrt": {"engines/tensorrt.py"},
    "onnxruntime": {"engines/onnxruntime.py"},
    "openvino": {"engines/openvino.py"},
}
SOURCES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield node.module or ""


def folder_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_folders_import_only_what_is_lower(path: Path) -> None:
    folder = folder_of(path)
    if folder == "__init__":
        return
    assert folder in RANK, f"{folder} has no place in the import order"
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "quakestream" or len(parts) == 1:
            continue
        other = parts[1]
        lower = RANK[other] < RANK[folder]
        assert other == folder or lower or (folder, other) in ALLOWED_SAME_RANK, (
            f"{path.relative_to(ROOT)} imports {name}"
        )


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_runtimes_stay_in_their_files(path: Path) -> None:
    here = str(path.relative_to(PACKAGE))
    for name in imports(path):
        top = name.split(".")[0]
        assert here in ONLY_IN.get(top, {here}), f"{here} imports {name}"
        assert top not in {"serving", "training", "benchmarks"}, f"{here} imports {name}"


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if folder_of(p) in PURE], ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_pure_folders_do_no_input_or_output(path: Path) -> None:
    standard = sys.stdlib_module_names
    for name in imports(path):
        top = name.split(".")[0]
        assert top in PURE_LIBRARIES | standard | {"quakestream"}, f"{path} imports {name}"
        assert top not in {"os", "pathlib", "io", "socket", "subprocess", "urllib"}, path


@pytest.mark.parametrize("top", ["serving", "training", "benchmarks"])
def test_siblings_do_not_import_each_other(top: str) -> None:
    """But for benchmarks, which import what they measure."""
    others = {"serving", "training", "benchmarks"} - {top}
    others -= {"serving", "training"} if top == "benchmarks" else set()
    for path in (ROOT / top).rglob("*.py"):
        for name in imports(path):
            assert name.split(".")[0] not in others, f"{path.relative_to(ROOT)} imports {name}"


WITHOUT_CONTRACT: dict[str, str] = {}
"""Public protocols that no contract class names, with the reason."""


def class_definitions(folder: Path) -> Iterator[ast.ClassDef]:
    for path in folder.rglob("*.py"):
        yield from (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ClassDef))


def base_names(definition: ast.ClassDef) -> set[str]:
    return {base.id for base in definition.bases if isinstance(base, ast.Name)}


def test_every_public_protocol_is_named_by_a_contract_class() -> None:
    protocols = {
        definition.name
        for definition in class_definitions(PACKAGE)
        if "Protocol" in base_names(definition) and not definition.name.startswith("_")
    }
    named = {
        node.id
        for definition in class_definitions(PACKAGE / "testing")
        if definition.name.endswith("Contract")
        for node in ast.walk(definition)
        if isinstance(node, ast.Name)
    }
    assert protocols - named == set(WITHOUT_CONTRACT)


def test_every_contract_class_is_held_against_an_implementation() -> None:
    contracts = {
        definition.name
        for definition in class_definitions(PACKAGE / "testing")
        if definition.name.endswith("Contract") and not definition.name.startswith("_")
    }
    held = set().union(*map(base_names, class_definitions(ROOT / "tests" / "contracts")))
    assert not contracts - held


def test_dask_stays_off_the_scoring_path() -> None:
    for path in [*(PACKAGE / "engines").rglob("*.py"), PACKAGE / "pipeline" / "work" / "read.py"]:
        assert not {n.split(".")[0] for n in imports(path)} & {"dask", "xarray", "zarr"}


def test_workers_import_nothing_that_plans() -> None:
    """A worker's process is started for every engine; what it imports, a run waits for."""
    pytest.importorskip("ray")
    heavy = [
        "geopandas",
        "pandas",
        "pystac_client",
        "quakestream.pipeline.planning.plan",
        "ray.data",
    ]
    loaded = f"[name for name in {heavy} if name in sys.modules]"
    code = f"import sys, quakestream.pipeline.backends.ray_workers; print({loaded})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
