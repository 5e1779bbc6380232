"""Every name of TensorRT that the engine uses, against the real bindings.

The bindings install without a GPU and import with stub libraries, compiled here. What the engine
uses is read out of its source: a call that is added there is held against them from then on.
"""

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
SOURCE = HERE.parent.parent / "quakestream" / "engines" / "tensorrt.py"
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
GIVEN = {"engine": "ICudaEngine", "context": "IExecutionContext", "runtime": "Runtime"}
"""What variables hold that come from elsewhere than a call in the same function."""
ALIASES = {"IParserError": "ParserError"}
PLAIN = {"bool", "int", "str", "None", "list", "tuple", "float"}


@pytest.fixture(scope="module")
def bindings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if find_spec("tensorrt_bindings") is None:
        pytest.skip("the bindings are not installed: pip install --no-deps tensorrt-cu13-bindings")
    if (compiler := shutil.which("gcc") or shutil.which("cc")) is None:
        pytest.skip("no C compiler for the stub libraries")
    folder = tmp_path_factory.mktemp("stub")
    for library in LIBRARIES:
        name = f"lib{library}.so.11"
        stub = [str(HERE / "tensorrt_stub.c"), "-o", str(folder / name), f"-Wl,-soname,{name}"]
        subprocess.run([compiler, "-shared", "-fPIC", *stub], check=True)
    found = subprocess.run(
        [sys.executable, str(HERE / "tensorrt_surface.py")],
        env={**os.environ, "LD_LIBRARY_PATH": str(folder)},
        check=True,
        capture_output=True,
        text=True,
    )
    surface: dict[str, Any] = json.loads(found.stdout)
    return surface


@dataclass(slots=True)
class Use:
    """One place where the engine touches TensorRT."""

    line: int
    owner: str
    name: str
    call: ast.Call | None = None
    assigned: bool = False


@dataclass(slots=True)
class Reader(ast.NodeVisitor):
    """Follows one function: what each variable holds, and what is asked of it."""

    classes: dict[str, Any]
    held: dict[str, str] = field(default_factory=dict)
    uses: list[Use] = field(default_factory=list)

    def kind(self, node: ast.expr) -> str | None:
        """The class of an expression's value; `trt` for the module itself; None if unknown."""
        if isinstance(node, ast.Name):
            return "trt" if node.id in ("trt", "tensorrt") else self.held.get(node.id)
        if isinstance(node, ast.Attribute):
            if node.attr == "_logger":
                return "Logger"
            owner = self.kind(node.value)
            return f"type:{node.attr}" if owner == "trt" and node.attr != "__version__" else None
        if isinstance(node, ast.Call):
            return self.returned(node)
        return None

    def returned(self, node: ast.Call) -> str | None:
        made = self.kind(node.func)
        if made and made.startswith("type:"):
            return made.removeprefix("type:")
        if isinstance(node.func, ast.Attribute):
            owner = self.kind(node.func.value)
            method = self.classes.get(owner or "", {}).get("methods", {}).get(node.func.attr, [])
            gives = method[0]["gives"] if method else None
            return ALIASES.get(gives, gives) if gives not in PLAIN else None
        return None

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            if isinstance(target, ast.Attribute) and (owner := self.kind(target.value)):
                self.uses.append(Use(target.lineno, owner, target.attr, assigned=True))
        self.visit(node.value)
        kind = self.element(node.value) or self.kind(node.value)
        for target in node.targets:
            if isinstance(target, ast.Name) and kind and target.id != "trt":
                self.held[target.id] = kind

    def element(self, node: ast.expr) -> str | None:
        """Of a list made by one call for each."""
        return self.kind(node.elt) if isinstance(node, ast.ListComp) else None

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> None:
        for loop in node.generators:
            if isinstance(loop.target, ast.Name) and (kind := self.kind(loop.iter)):
                self.held[loop.target.id] = kind
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        made = self.kind(node.func)
        if made and made.startswith("type:"):
            self.uses.append(Use(node.lineno, made.removeprefix("type:"), "__init__", node))
        elif isinstance(node.func, ast.Attribute) and (owner := self.kind(node.func.value)):
            self.uses.append(Use(node.lineno, owner, node.func.attr, node))
            self.visit(node.func.value)
        else:
            self.generic_visit(node)
        for part in (*node.args, *(k.value for k in node.keywords)):
            self.visit(part)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if owner := self.kind(node.value):
            self.uses.append(Use(node.lineno, owner, node.attr))
        self.visit(node.value)


def uses(classes: dict[str, Any]) -> Iterator[Use]:
    """What the engine's source asks of TensorRT."""
    for function in ast.walk(ast.parse(SOURCE.read_text())):
        if isinstance(function, ast.FunctionDef):
            reader = Reader(classes, {n: k for n, k in GIVEN.items() if _is_given(function, n)})
            for statement in function.body:
                reader.visit(statement)
            yield from reader.uses


def _is_given(function: ast.FunctionDef, name: str) -> bool:
    """Set from an attribute of `self`, which the loader filled."""
    return any(
        isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id == name
        and isinstance(node.value, ast.Attribute)
        for node in ast.walk(function)
    )


def complaints(use: Use, classes: dict[str, Any]) -> Iterator[str]:
    """Why the bindings would not do what the source asks."""
    where = f"{SOURCE.name}:{use.line}"
    if use.owner == "trt":
        if use.name not in classes and use.name != "__version__":
            yield f"{where}: there is no {use.name}"
        return
    owner = use.owner.removeprefix("type:")
    found = classes.get(owner)
    if found is None:
        yield f"{where}: there is no class {owner}"
    elif use.call is None:
        if use.name not in (*found["attributes"], *found["enum"], *found["methods"]):
            yield f"{where}: {owner} has no {use.name}"
    elif use.name not in found["methods"]:
        yield f"{where}: {owner} has no method {use.name}"
    elif not any(_fits(use.call, overload) for overload in found["methods"][use.name]):
        yield f"{where}: {owner}.{use.name} takes {found['methods'][use.name]}"


def _fits(call: ast.Call, overload: dict[str, Any]) -> bool:
    takes = overload["arguments"]
    named = {k.arg for k in call.keywords}
    left = takes[len(call.args) :]
    return (
        len(call.args) <= len(takes)
        and named <= {a["name"] for a in left}
        and all(a["default"] or a["name"] in named for a in left)
    )


def test_every_use_exists_with_its_signature(bindings: dict[str, Any]) -> None:
    classes = bindings["classes"]
    found = list(uses(classes))
    assert [c for use in found for c in complaints(use, classes)] == []
    called = {(u.owner, u.name) for u in found if u.call}
    assert bindings["version"].startswith("11.")
    # What the engine cannot do without: the reader must have seen it.
    assert called >= {
        ("Builder", "__init__"),
        ("Builder", "create_network"),
        ("Builder", "build_serialized_network"),
        ("OnnxParser", "parse"),
        ("OnnxParser", "get_error"),
        ("ParserError", "desc"),
        ("IOptimizationProfile", "set_shape"),
        ("IBuilderConfig", "create_timing_cache"),
        ("IBuilderConfig", "set_timing_cache"),
        ("ITimingCache", "serialize"),
        ("Runtime", "deserialize_cuda_engine"),
        ("ICudaEngine", "create_execution_context"),
        ("ICudaEngine", "get_tensor_mode"),
        ("IExecutionContext", "set_input_shape"),
        ("IExecutionContext", "set_tensor_address"),
        ("IExecutionContext", "execute_async_v3"),
    }


def test_every_call_on_a_native_object_was_read(bindings: dict[str, Any]) -> None:
    """A variable whose class the reader lost would go unchecked: none of these names is."""
    classes = bindings["classes"]
    tree = ast.parse(SOURCE.read_text())
    native = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name in CHECKED]
    assert len(native) == len(CHECKED)
    read = {(u.line, u.name) for u in uses(classes) if u.call}
    methods = {name for found in classes.values() for name in found["methods"]}
    for node in (n for part in native for n in ast.walk(part)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name = node.func.attr
            if name in methods and name not in {"items", "append", "get", "join", "split"}:
                assert (node.lineno, name) in read or name in classes, (node.lineno, name)


CHECKED = {"TensorRtNative", "_Loaded"}


@pytest.mark.parametrize(
    "wrong",
    [
        "def f(trt):\n    trt.Builder(1).build_engine(2)",
        "def f(trt):\n    made = trt.Builder(1).create_builder_config()\n    made.max_work = 1",
        "def f(trt):\n    trt.BuilderFlag.FP16",
        "def f(trt):\n    trt.OnnxParser(1)",
        "def f(trt):\n    trt.Runtime(1).deserialize_cuda_engine(1).create_execution_context(x=1)",
        "def f(trt):\n    runtime = trt.Runtime(1)\n    runtime.deserialize_cuda_engine()",
        "def f(trt):\n    trt.IInt8Calibrator",
    ],
)
def test_missing_names_are_noticed(
    bindings: dict[str, Any], wrong: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Names that are gone since TensorRT 11, wrong arguments, attributes that never were."""
    source = tmp_path / "wrong.py"
    source.write_text(wrong)
    monkeypatch.setattr(sys.modules[__name__], "SOURCE", source)
    classes = bindings["classes"]
    assert [c for use in uses(classes) for c in complaints(use, classes)]
