"""Reads, checks and writes bundles and their `bundle.json`."""

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from quakestream.domain import BundleSpec, HazardInput, ScaleClass, Thresholds
from quakestream.domain.bundle import Task
from quakestream.errors import BundleError, DigestError, Problem
from quakestream.storage import StorageOptions, open_store

SHIPPED = Path(__file__).parent / "shipped"
MANIFEST = "bundle.json"

_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)
"""Errors of `zipfile` on damaged, foreign or encrypted archives."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Bundle:
    """A bundle in memory: its manifest and its verified files, a few MB."""

    uri: str
    spec: BundleSpec
    digest: str
    """sha256 of `bundle.json`, which holds the sha256 of every other file."""
    files: Mapping[str, bytes]

    @cached_property
    def golden(self) -> dict[str, NDArray[Any]]:
        """A synthetic input batch by input name, and the reference `logits`.

        Raises:
            BundleError: if the bundle has no golden batch.
        """
        if "golden.npz" not in self.files:
            raise BundleError(
                "no golden batch", f"bundle {self.uri}", remedy="export the bundle again"
            )
        with np.load(BytesIO(self.files["golden.npz"]), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}

    @property
    def graph(self) -> bytes:
        """The ONNX graph with its weights."""
        return self.files["model.onnx"]

    def file(self, name: str) -> bytes | None:
        """An optional file, such as `model.pt2` or `model.int8.onnx`.

        None where the bundle lacks the file, or its manifest has no digest of it.
        """
        return self.files.get(name)


def shipped_names() -> tuple[str, ...]:
    """Names of the bundles that come with the package."""
    return tuple(sorted(p.name for p in SHIPPED.iterdir() if (p / MANIFEST).is_file()))


def load_bundle(name_or_uri: str, options: StorageOptions | None = None) -> Bundle:
    """Loads and verifies a bundle: a shipped name, or a folder or `.zip` by path or URI.

    Raises:
        BundleError: if there is no bundle, or its manifest contradicts itself.
        DigestError: if a file differs from its digest in the manifest.
    """
    files, uri = _read_files(name_or_uri, options or StorageOptions())
    if MANIFEST not in files:
        raise BundleError("not a bundle", uri, MANIFEST, ", ".join(files) or "no file")
    try:
        raw = json.loads(files[MANIFEST])
        spec = _spec(raw)
        listed = dict(raw["sha256"])
    except KeyError as error:
        raise BundleError(f"key {error} is missing", f"{uri}/{MANIFEST}") from error
    except (TypeError, ValueError) as error:
        raise BundleError("not a bundle manifest", f"{uri}/{MANIFEST}", got=str(error)) from error
    _verify(uri, files, listed)
    _check(uri, spec)
    digest = hashlib.sha256(files[MANIFEST]).hexdigest()
    vouched = {name: data for name, data in files.items() if name in listed or name == MANIFEST}
    return Bundle(uri=uri, spec=spec, digest=digest, files=vouched)


def write_manifest(folder: Path, spec: BundleSpec) -> Path:
    """Writes `bundle.json` for the files in `folder`."""
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
    if path.is_file():
        return _unzip(path.read_bytes(), str(path)), str(path)
    if "://" in name_or_uri:
        return _remote(name_or_uri, options), name_or_uri
    shipped = ", ".join(shipped_names()) or "none"
    raise BundleError(
        "no bundle of this name",
        name_or_uri,
        expected=f"a shipped name ({shipped}), or a folder or .zip with {MANIFEST}",
    )


def _folder(path: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(path.iterdir()) if p.is_file()}


def _unzip(data: bytes, uri: str) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            names = [n for n in archive.namelist() if not n.endswith("/")]
            return {Path(n).name: archive.read(n) for n in names}
    except _ZIP_ERRORS as error:
        raise BundleError(
            "not a .zip, or a damaged one", uri, got=str(error), remedy="get the bundle again"
        ) from error


def _remote(uri: str, options: StorageOptions) -> dict[str, bytes]:
    prefix, _, name = uri.rstrip("/").rpartition("/")
    try:
        if name.endswith(".zip"):
            return _unzip(open_store(prefix, options).get(name), uri)
        store = open_store(uri, options)
        listed = json.loads(store.get(MANIFEST))["sha256"]
        return {key: store.get(key) for key in (MANIFEST, *listed)}
    except BundleError:
        raise
    except (OSError, KeyError, ValueError) as error:
        raise BundleError("no bundle of this name", uri, got=str(error)) from error


def _verify(uri: str, files: Mapping[str, bytes], listed: Mapping[str, str]) -> None:
    for name, expected in listed.items():
        if name not in files:
            raise DigestError(f"{name} is missing", f"bundle {uri}", remedy="get the bundle again")
        got = hashlib.sha256(files[name]).hexdigest()
        if got != expected:
            raise DigestError(
                f"{name} differs from the manifest",
                f"bundle {uri}",
                expected=f"sha256 {expected[:12]}…",
                got=f"{got[:12]}…",
                remedy="get the bundle again: the file was changed or truncated",
            )
    if "model.onnx" not in listed:
        raise BundleError("manifest lists no model.onnx", f"bundle {uri}")


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
    """Raises BundleError if a manifest contradicts itself or its task."""
    for problem in _contradictions(spec):
        where = f"bundle {uri}, task {spec.task}"
        raise BundleError.of(replace(problem, where=where, remedy="export the bundle again"))


def _contradictions(spec: BundleSpec) -> Iterator[Problem]:
    if spec.task not in get_args(Task):
        yield Problem("unknown task", expected=f"one of {', '.join(get_args(Task))}", got=spec.task)
    if len(spec.classes) < 2:
        number = str(len(spec.classes))
        yield Problem("too few classes", expected="two classes or more", got=number)
    if spec.task == "hazard":
        yield from _hazard_contradictions(spec)
    else:
        yield from _image_contradictions(spec)
    values = len(spec.hazard)
    if spec.hazard_groups and sum(spec.hazard_groups) != values:
        got = f"{spec.hazard_groups} for {values} values"
        yield Problem("wrong hazard_groups", expected="sizes that add up to all values", got=got)
    if len({h.name for h in spec.hazard}) < values:
        yield Problem("a hazard value is named twice", got=", ".join(h.name for h in spec.hazard))
    prior, classes = spec.prior, len(spec.classes)
    whole = len(prior) == classes and min(prior) >= 0 and abs(sum(prior) - 1.0) < 1e-3
    if prior and not whole:
        shares = f"one share for each of {classes} classes, with sum 1"
        yield Problem("wrong prior", expected=shares, got=str(prior))


def _hazard_contradictions(spec: BundleSpec) -> Iterator[Problem]:
    if spec.epochs:
        yield Problem("takes no imagery", expected="no epochs", got=", ".join(spec.epochs))
    if not spec.hazard:
        yield Problem("no hazard values", expected="names of hazard values")


def _image_contradictions(spec: BundleSpec) -> Iterator[Problem]:
    if not {"post"} <= set(spec.epochs) <= {"pre", "post"}:
        got = ", ".join(spec.epochs) or "none"
        yield Problem("wrong epochs", expected="post, or pre and post", got=got)
    if not spec.gsd_m > 0:
        yield Problem("wrong gsd_m", expected="more than 0", got=str(spec.gsd_m))
    sizes = f"window_px {spec.window_px}, halo_px {spec.halo_px}"
    if not (spec.window_px > 0 <= spec.halo_px):
        yield Problem("wrong sizes", expected="window_px above 0, halo_px of 0 or more", got=sizes)
    if spec.core_px <= 0:
        yield Problem("halo leaves no core", got=sizes)
    if spec.task == "building" and spec.halo_px != 0:
        yield Problem("a crop has no halo", expected="halo_px 0", got=str(spec.halo_px))
    if spec.task == "segmentation" and spec.hazard:
        names = ", ".join(h.name for h in spec.hazard)
        yield Problem("takes no hazard values", expected="task building or hazard", got=names)
