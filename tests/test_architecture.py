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
    {"redaction"},
    {"errors", "events"},
    {"domain"},
    {"tiling", "reduce", "fusion"},
    {"config", "storage"},
    {"raster", "vectors"},
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
        for name in (
            *("cluster", "dask_ray", "ray_access", "ray_backend", "ray_machines"),
            *("ray_metrics", "ray_pool", "ray_workers"),
        )
    },
    "torch": {"engines/torch.py", "engines/torch_streams.py"},
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


EVERYWHERE = sorted(
    p
    for top in ("quakestream", "serving", "training", "benchmarks")
    for p in (ROOT / top).rglob("*.py")
)


def calls(path: Path) -> Iterator[ast.Call]:
    yield from (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call))


def called(call: ast.Call) -> str:
    """The dotted name of what is called, such as `ray.init`; empty for other expressions."""
    try:
        return ast.unparse(call.func)
    except ValueError:
        return ""


def test_a_class_name_is_defined_once() -> None:
    """One word, one thing: a reader who greps for a class finds one."""
    places: dict[str, list[str]] = {}
    for path in EVERYWHERE:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert not {name: where for name, where in places.items() if len(where) > 1}


def test_no_module_is_imported_by_a_string() -> None:
    """The tests above read import statements: an import by string would escape them."""
    by_string = {"import_module", "importlib.import_module", "__import__"}
    found = [str(p.relative_to(ROOT)) for p in SOURCES for c in calls(p) if called(c) in by_string]
    assert not found


def test_one_file_starts_ray() -> None:
    starts = {
        str(path.relative_to(ROOT))
        for path in EVERYWHERE
        if path.relative_to(ROOT).parts[0] != "benchmarks"  # which simulate clusters
        for call in calls(path)
        if called(call) == "ray.init"
    }
    assert starts == {"quakestream/pipeline/backends/cluster.py"}


def test_the_layout_of_the_ledger_is_spelt_in_one_file() -> None:
    spelt = {
        str(path.relative_to(PACKAGE))
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.startswith("_ledger/")
    }
    assert spelt == {"outputs/layout.py"}


READS_TEXT = {"partition", "rpartition", "startswith", "endswith", "find", "index", "replace"}


def test_no_code_reads_the_text_of_an_error() -> None:
    """Errors carry fields. A sentence may change at any time."""
    found = []
    for path in EVERYWHERE:
        for handler in ast.walk(ast.parse(path.read_text())):
            if not isinstance(handler, ast.ExceptHandler) or handler.name is None:
                continue
            text = f"str({handler.name})"
            for node in ast.walk(handler):
                reads = isinstance(node, ast.Attribute) and node.attr in READS_TEXT
                if reads and ast.unparse(node.value) == text:
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
                if isinstance(node, ast.Compare) and text in map(ast.unparse, node.comparators):
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not found


@pytest.mark.parametrize("path", EVERYWHERE, ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 500
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno
            docstring = len((ast.get_docstring(node, clean=False) or "").splitlines())
            assert lines - docstring <= 60, f"{path.relative_to(ROOT)}: {node.name}"


OPENS_RASTERS = {"rasterio.open", "rasterio.DatasetReader", "WarpedVRT.from_dataset", "gdal.Open"}
WRITES_OWN = {"synthetic", "testing"}
"""Folders that read and write rasters of our own making alone."""


def test_one_file_opens_rasters_of_others() -> None:
    """GDAL opens whatever a file's content says, so one place says which formats are allowed."""
    opens = {
        str(path.relative_to(PACKAGE))
        for path in SOURCES
        for call in calls(path)
        if called(call) in OPENS_RASTERS and folder_of(path) not in WRITES_OWN
    }
    assert opens == {"raster/datasets.py"}
