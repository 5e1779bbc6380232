"""Reads, checks and writes bundles and their `bundle.json`."""

import hashlib
import json
import math
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from quakestream.bundles.files import ANYONE, MANIFEST, Asked, listed_in, read_files
from quakestream.domain import BundleSpec, Calibration, HazardInput, ScaleClass, Thresholds
from quakestream.domain.bands import COLOURS
from quakestream.domain.bundle import BUILDING_TASKS, Task
from quakestream.domain.layers import REFLECTANCE
from quakestream.domain.spectrum import RANGE_UM, TERRAIN_BANDS
from quakestream.errors import BundleError, DigestError, Problem, ShapeError
from quakestream.storage import StorageOptions

LANDSLIDE_LABELS = ("background", "landslide")
"""Classes of a bundle of task `landslide`."""
_WRONG = (TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)
"""Errors of a manifest whose values have other types than those of a manifest."""
DTYPES = ("uint8", REFLECTANCE)
"""Counts of red, green and blue, or physical values."""
FORMAT = 2
"""Version of the manifest. Manifests of version 1 do not say it, and have no `calibration`."""
_OPTIONAL = ("band_substitutes", "calibration")
"""Keys that a manifest leaves out where they are empty."""


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
            BundleError: if the bundle has no golden batch, or one that cannot be read.
        """
        if "golden.npz" not in self.files:
            raise BundleError(
                "no golden batch", f"bundle {self.uri}", remedy="export the bundle again"
            )
        try:
            with np.load(BytesIO(self.files["golden.npz"]), allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
        except (*_WRONG, zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise BundleError(
                "golden.npz cannot be read",
                f"bundle {self.uri}",
                got=str(error),
                remedy="export the bundle again",
            ) from error

    @property
    def size_bytes(self) -> int:
        """Size of all its files, with the manifest."""
        return sum(map(len, self.files.values()))

    @property
    def graph(self) -> bytes:
        """The ONNX graph with its weights."""
        return self.files["model.onnx"]

    def file(self, name: str) -> bytes | None:
        """An optional file, such as `model.pt2` or `model.int8.onnx`.

        None where the bundle lacks the file, or its manifest has no digest of it.
        """
        return self.files.get(name)


def load_bundle(
    name_or_uri: str, options: StorageOptions | None = None, asked: Asked = ANYONE
) -> Bundle:
    """Loads and verifies a bundle: a shipped name, or a folder or `.zip` by path or URI.

    Args:
        name_or_uri: the bundle.
        options: of its store.
        asked: who names it, for the message where there is none.

    Raises:
        BundleError: if there is no bundle, or its manifest contradicts itself.
        DigestError: if a file differs from its digest in the manifest.
    """
    files, uri = read_files(name_or_uri, options or StorageOptions(), asked)
    _verify(uri, files, listed_in(files[MANIFEST], uri))
    try:
        raw = json.loads(files[MANIFEST])
        _check_format(uri, raw)
        spec = _spec(raw)
        _check(uri, spec)
    except BundleError:
        raise
    except ShapeError as error:
        problem = replace(error.problem, where=f"bundle {uri}", remedy="export the bundle again")
        raise BundleError.of(problem) from error
    except KeyError as error:
        raise BundleError(f"key {error} is missing", f"{uri}/{MANIFEST}") from error
    except _WRONG as error:
        raise BundleError("not a bundle manifest", f"{uri}/{MANIFEST}", got=str(error)) from error
    digest = hashlib.sha256(files[MANIFEST]).hexdigest()
    return Bundle(uri=uri, spec=spec, digest=digest, files=files)


def write_manifest(folder: Path, spec: BundleSpec) -> Path:
    """Writes `bundle.json` for the files in `folder`."""
    others = sorted(p for p in folder.iterdir() if p.is_file() and p.name != MANIFEST)
    digests = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in others}
    path = folder / MANIFEST
    content = {k: v for k, v in asdict(spec).items() if v or k not in _OPTIONAL}
    text = json.dumps({"format": FORMAT, **content, "sha256": digests}, indent=2)
    path.write_text(text + "\n")
    return path


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


def _check_format(uri: str, raw: Mapping[str, Any]) -> None:
    """Raises BundleError for a manifest that a later version of quakestream wrote."""
    version = raw.get("format", 1)
    if type(version) is int and 1 <= version <= FORMAT:
        if version == 1 and raw.get("calibration") is not None:
            raise BundleError(
                "calibration in a manifest of format 1", f"bundle {uri}", "format 2", "format 1"
            )
        return
    newer = type(version) is int and version > FORMAT
    raise BundleError(
        "unknown format of the manifest",
        f"bundle {uri}",
        expected=f"1 to {FORMAT}",
        got=str(version),
        remedy="install a newer quakestream" if newer else "export the bundle again",
    )


def _spec(raw: Mapping[str, Any]) -> BundleSpec:
    known = {f.name for f in fields(BundleSpec)}
    values: dict[str, Any] = {k: v for k, v in raw.items() if k in known}
    values["classes"] = tuple(
        ScaleClass(**{**c, "ems98": tuple(c.get("ems98") or ())}) for c in raw["classes"]
    )
    values["hazard"] = tuple(HazardInput(**h) for h in raw.get("hazard", ()))
    values["thresholds"] = Thresholds(**raw["thresholds"])
    if raw.get("calibration") is not None:
        values["calibration"] = Calibration.from_json(raw["calibration"])
    for name in ("epochs", "bands", "mean", "std", "prior", "hazard_groups"):
        values[name] = tuple(raw.get(name, ()))
    values["band_substitutes"] = {
        band: tuple(others) for band, others in raw.get("band_substitutes", {}).items()
    }
    sides = {"window_px": raw.get("window_px", raw.get("crop_px")), "halo_px": raw["halo_px"]}
    values |= {name: int(side) for name, side in sides.items()}
    values |= {name: float(raw[name]) for name in ("gsd_m", "context_m")}
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
    bare = [c.label for c in spec.classes if not (c.xbd and c.ems98 and c.copernicus)]
    if spec.task != "landslide" and bare:
        mapping = "xbd, ems98 and copernicus of each class"
        yield Problem("classes without a scale mapping", expected=mapping, got=", ".join(bare))
    if spec.task == "landslide":
        yield from _landslide_contradictions(spec)
    elif spec.deviation:
        yield Problem("deviation is for task landslide", got=spec.task)
    if spec.task == "hazard":
        yield from _hazard_contradictions(spec)
    else:
        yield from _image_contradictions(spec)
    if spec.calibration is not None and spec.task not in BUILDING_TASKS:
        tasks = f"task {' or '.join(BUILDING_TASKS)}"
        yield Problem("calibration is for models of buildings", expected=tasks, got=spec.task)
    if spec.calibration is not None and not _finite(asdict(spec.calibration)):
        yield Problem("calibration", expected="finite numbers", got="NaN or infinity")
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


def _landslide_contradictions(spec: BundleSpec) -> Iterator[Problem]:
    if spec.labels != LANDSLIDE_LABELS:
        labels = ", ".join(LANDSLIDE_LABELS)
        yield Problem("wrong classes", expected=labels, got=", ".join(spec.labels))
    if spec.epochs != ("post",):
        yield Problem("wrong epochs", expected="post", got=", ".join(spec.epochs) or "none")
    if spec.hazard:
        names = ", ".join(h.name for h in spec.hazard)
        yield Problem("takes no hazard values", expected="none", got=names)


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
    yield from _band_contradictions(spec)
    if spec.task == "segmentation" and spec.hazard:
        names = ", ".join(h.name for h in spec.hazard)
        yield Problem("takes no hazard values", expected="task building or hazard", got=names)


def _band_contradictions(spec: BundleSpec) -> Iterator[Problem]:
    if spec.dtype not in DTYPES:
        yield Problem("wrong dtype", expected=" or ".join(DTYPES), got=spec.dtype)
    got = ", ".join(spec.bands) or "none"
    if spec.dtype == "uint8" and spec.bands != COLOURS:
        yield Problem("wrong bands of counts", expected=", ".join(COLOURS), got=got)
    if not spec.takes_reflectance:
        return
    known = (*RANGE_UM, *TERRAIN_BANDS)
    unknown = [
        band
        for band in (*spec.bands, *spec.band_substitutes, *_flat(spec.band_substitutes.values()))
        if band not in known
    ]
    if unknown or len(set(spec.bands)) < len(spec.bands) or set(spec.bands) <= {*TERRAIN_BANDS}:
        yield Problem("wrong bands", expected=f"different ones of {', '.join(known)}", got=got)
    if spec.normalisation != "fixed":
        yield Problem(
            "wrong normalisation of physical values", expected="fixed", got=spec.normalisation
        )


def _flat(groups: Iterable[tuple[str, ...]]) -> list[str]:
    return [band for group in groups for band in group]


def _finite(value: Any) -> bool:
    """True if no number in nested values is NaN or infinite."""
    if isinstance(value, Mapping):
        return all(map(_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)
