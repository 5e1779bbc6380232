"""Reading, checking and writing `bundle.json`."""

import hashlib
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from quakestream.domain import BundleSpec, HazardInput, ScaleClass, Thresholds
from quakestream.domain.bundle import Task
from quakestream.errors import BundleError, DigestError
from quakestream.storage import StorageOptions, open_store

SHIPPED = Path(__file__).parent / "shipped"
MANIFEST = "bundle.json"


@dataclass(frozen=True, kw_only=True, eq=False)
class Bundle:
    """A bundle in memory: its manifest and its verified files (a few MB)."""

    uri: str
    spec: BundleSpec
    digest: str
    """sha256 of `bundle.json`, which names the sha256 of every other file."""
    files: Mapping[str, bytes]

    @cached_property
    def golden(self) -> dict[str, NDArray[Any]]:
        """A synthetic input batch by input name, and the reference `logits`."""
        from io import BytesIO

        with np.load(BytesIO(self.files["golden.npz"]), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}

    @property
    def graph(self) -> bytes:
        """The ONNX graph, weights inside."""
        return self.files["model.onnx"]

    def file(self, name: str) -> bytes | None:
        """A file not every bundle has, such as `model.pt2` or `model.int8.onnx`; None if this
        one has not, or if its manifest does not vouch for it."""
        return self.files.get(name)


def shipped_names() -> tuple[str, ...]:
    """Bundles that come with the package."""
    return tuple(sorted(p.name for p in SHIPPED.iterdir() if (p / MANIFEST).is_file()))


def load_bundle(name_or_uri: str, options: StorageOptions | None = None) -> Bundle:
    """Opens a shipped bundle by name, or a folder or `.zip` by path or URI, and verifies it.

    Raises:
        BundleError: nothing there, no bundle, or a manifest that contradicts its task.
        DigestError: a file is not the one the manifest names.
    """
    files, uri = _read_files(name_or_uri, options or StorageOptions())
    try:
        raw = json.loads(files[MANIFEST])
        spec = _spec(raw)
        listed = dict(raw["sha256"])
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{uri}/{MANIFEST} is not a bundle manifest: {error!r}") from error
    _verify(uri, files, listed)
    _check(uri, spec)
    digest = hashlib.sha256(files[MANIFEST]).hexdigest()
    vouched = {name: data for name, data in files.items() if name in listed or name == MANIFEST}
    return Bundle(uri=uri, spec=spec, digest=digest, files=vouched)


def write_manifest(folder: Path, spec: BundleSpec) -> Path:
    """Writes `bundle.json` for the files that lie in `folder`."""
    others = sorted(p for p in folder.iterdir() if p.is_file() and p.name != MANIFEST)
    digests = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in others}
    path = folder / MANIFEST
    path.write_text(json.dumps({**asdict(spec), "sha256": digests}, indent=2) + "\n")
    return path


def _read_files(name_or_uri: str, options: StorageOptions) -> tuple[dict[str, bytes], str]:
    if name_or_uri in shipped_names():
        return _folder(SHIPPED / name_or_uri), f"shipped:{name_or_uri}"
    path = Path(name_or_uri)
    if path.is_dir() and (path / MANIFEST).is_file():
        return _folder(path), str(path)
    if path.is_file() and zipfile.is_zipfile(path):
        return _unzip(path.read_bytes()), str(path)
    if "://" in name_or_uri:
        return _remote(name_or_uri, options), name_or_uri
    raise BundleError(
        f"no bundle {name_or_uri!r}: expected a shipped name "
        f"({', '.join(shipped_names()) or 'none'}), or a folder or .zip with {MANIFEST}"
    )


def _folder(path: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(path.iterdir()) if p.is_file()}


def _unzip(data: bytes) -> dict[str, bytes]:
    from io import BytesIO

    with zipfile.ZipFile(BytesIO(data)) as archive:
        names = [n for n in archive.namelist() if not n.endswith("/")]
        return {Path(n).name: archive.read(n) for n in names}


def _remote(uri: str, options: StorageOptions) -> dict[str, bytes]:
    prefix, _, name = uri.rstrip("/").rpartition("/")
    try:
        if name.endswith(".zip"):
            return _unzip(open_store(prefix, options).get(name))
        store = open_store(uri, options)
        listed = json.loads(store.get(MANIFEST))["sha256"]
        return {key: store.get(key) for key in (MANIFEST, *listed)}
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise BundleError(f"no bundle at {uri}: {error}") from error


def _verify(uri: str, files: Mapping[str, bytes], listed: Mapping[str, str]) -> None:
    for name, expected in listed.items():
        if name not in files:
            raise DigestError(f"bundle {uri}: {name} is missing; get the bundle again")
        got = hashlib.sha256(files[name]).hexdigest()
        if got != expected:
            raise DigestError(
                f"bundle {uri}: {name} has sha256 {got[:12]}…, its manifest says "
                f"{expected[:12]}…; the file was changed or cut off, get the bundle again"
            )
    if "model.onnx" not in listed:
        raise BundleError(f"bundle {uri} lists no model.onnx")


def _spec(raw: Mapping[str, Any]) -> BundleSpec:
    known = {f.name for f in fields(BundleSpec)}
    values: dict[str, Any] = {k: v for k, v in raw.items() if k in known}
    values["classes"] = tuple(
        ScaleClass(**{**c, "ems98": tuple(c["ems98"])}) for c in raw["classes"]
    )
    values["hazard"] = tuple(HazardInput(**h) for h in raw.get("hazard", ()))
    values["thresholds"] = Thresholds(**raw["thresholds"])
    for name in ("epochs", "bands", "mean", "std", "prior", "hazard_groups"):
        values[name] = tuple(raw.get(name, ()))
    sides = {"window_px": raw.get("window_px", raw.get("crop_px")), "halo_px": raw["halo_px"]}
    values |= {name: int(side) for name, side in sides.items()}
    values["gsd_m"] = float(raw["gsd_m"])
    return BundleSpec(**values)


def _check(uri: str, spec: BundleSpec) -> None:
    """Raises BundleError where a manifest contradicts itself or its task."""
    for wrong, what in _contradictions(spec):
        if wrong:
            raise BundleError(f"bundle {uri}, task {spec.task}: {what}; export the bundle again")


def _contradictions(spec: BundleSpec) -> Iterator[tuple[bool, str]]:
    classes, epochs = len(spec.classes), set(spec.epochs)
    yield spec.task not in get_args(Task), f"expected a task out of {', '.join(get_args(Task))}"
    yield classes < 2, f"expected two classes or more, got {classes}"
    if spec.task == "hazard":
        yield bool(epochs), f"takes no imagery, its epochs are {', '.join(spec.epochs)}"
        yield not spec.hazard, "names no hazard values"
    else:
        named = ", ".join(spec.epochs) or "none"
        yield not {"post"} <= epochs <= {"pre", "post"}, f"expected post or pre, post, got {named}"
        yield not spec.gsd_m > 0, f"expected gsd_m above 0, got {spec.gsd_m}"
        side = f"window_px {spec.window_px}, halo_px {spec.halo_px}"
        yield not (spec.window_px > 0 <= spec.halo_px), f"expected sizes in pixels, got {side}"
        yield spec.core_px <= 0, f"the halo leaves no core: {side}"
    if spec.task == "building":
        yield spec.halo_px != 0, f"a crop has no halo: expected halo_px 0, got {spec.halo_px}"
    if spec.task == "segmentation":
        yield bool(spec.hazard), "takes no hazard values; only building and hazard bundles do"
    groups, values = spec.hazard_groups, len(spec.hazard)
    yield bool(groups) and sum(groups) != values, f"hazard_groups {groups} of {values} values"
    yield len({h.name for h in spec.hazard}) < values, "names a hazard value twice"
    prior = spec.prior
    whole = len(prior) == classes and min(prior) >= 0 and abs(sum(prior) - 1.0) < 1e-3
    yield bool(prior) and not whole, f"prior {prior} is not one share for each of {classes} classes"
