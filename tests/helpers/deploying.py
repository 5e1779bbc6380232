"""Tools that check deployment files offline, and the rules of KubeRay as closed schemas."""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
OVERLAYS = sorted(p.parent for p in KUBERNETES.glob("overlays/*/*/kustomization.yaml"))
Document = dict[str, Any]


def tool(name: str) -> str:
    """The path of a command that the `dev` extra brings; the test is skipped without it."""
    found = shutil.which(
        name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    if found is None:
        pytest.skip(f"{name} is not installed: pip install -e '.[dev]'")
    return found


def checked(name: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """A tool that has run, whether it liked what it saw or not."""
    command = [tool(name), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, cwd=ROOT, check=False
    )


@cache
def built(overlay: Path) -> tuple[Document, ...]:
    """What `kubectl kustomize` makes of an overlay."""
    done = checked("kubectl", "kustomize", overlay)
    assert done.returncode == 0, done.stderr
    return tuple(d for d in yaml.safe_load_all(done.stdout) if d)


def of_kind(overlay: Path, *kinds: str) -> list[Document]:
    return [d for d in built(overlay) if d["kind"] in kinds]


def ray_cluster(overlay: Path) -> Document:
    """The spec of an overlay's Ray cluster, in a job, in a service or alone."""
    (found,) = of_kind(overlay, "RayJob", "RayCluster", "RayService")
    spec: Document = found["spec"]
    return spec.get("rayClusterSpec", spec.get("rayClusterConfig", spec))


@cache
def kuberay_schema(kind: str) -> Document:
    """The schema of a resource out of KubeRay's CRD, closed: unknown keys are errors."""
    folder = Path(os.environ.get("QUAKESTREAM_SCHEMAS", ROOT.parent / "shared" / "schemas"))
    path = folder.resolve() / "kuberay-1.7" / f"ray.io_{kind.lower()}s.yaml"
    if not path.is_file():
        pytest.skip(f"no CRD of KubeRay 1.7 at {path}; set QUAKESTREAM_SCHEMAS")
    crd = yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    (version,) = (v for v in crd["spec"]["versions"] if v["name"] == "v1")
    schema: Document = version["schema"]["openAPIV3Schema"]
    schema = closed(schema)
    schema["properties"]["metadata"] = {"type": "object"}  # Kubernetes knows what is in it
    return schema


def closed(schema: Any) -> Any:
    """A schema that takes no keys but those it names, and integers or strings where it says so.

    Keys with a default are not required: the API server fills them in.
    """
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(part) for key, part in schema.items()}
    if isinstance(made.get("properties"), dict) and isinstance(made.get("type"), str):
        if not made.get("x-kubernetes-preserve-unknown-fields"):
            made.setdefault("additionalProperties", False)
        filled = {
            n for n, p in made["properties"].items() if isinstance(p, dict) and "default" in p
        }
        if "required" in made:
            made["required"] = [name for name in made["required"] if name not in filled]
    if made.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    return made
