"""The content of run.json: the request, the inputs, the counts and the rates of a run."""

import json
import platform
import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from quakestream.bundles import Bundle
from quakestream.config import aoi_kind
from quakestream.config.profiles import MEANT_FOR
from quakestream.domain import Scene
from quakestream.engines import RUNTIMES
from quakestream.errors import QuakestreamError
from quakestream.fusion import prior_of
from quakestream.hazard.dem_files import try_version
from quakestream.outputs.stac import SHIPPED
from quakestream.pipeline.planning.jobs import Job
from quakestream.pipeline.planning.plan import Plan
from quakestream.pipeline.result.context import FootprintHazard
from quakestream.pipeline.result.evidence import HazardEvidence, HazardModel
from quakestream.pipeline.work.results import GroupReport
from quakestream.storage import fingerprint

PACKAGES = dict.fromkeys(
    (
        *("quakestream", "numpy", "rasterio", "imagecodecs"),
        *(runtime.package for runtime in RUNTIMES.values()),
        *("geopandas", "pyarrow", "ray"),
    )
)
"""Distributions whose versions `run.json` records, in order."""


@dataclass(slots=True)
class WorkDone:
    """Counts and times of this run, and the cells of earlier runs."""

    scored: int = 0
    resumed: int = 0
    """Cells that an earlier run committed."""
    failed_windows: int = 0
    windows: int = 0
    km2: float = 0.0
    """Ground that was scored: whole windows, once for each view."""
    mpx: float = 0.0
    read_s: float = 0.0
    score_s: float = 0.0
    prepare_s: float = 0.0
    map_s: float = 0.0
    commits: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What happened to the ledger."""

    def add(self, report: GroupReport) -> None:
        self.scored += report.units
        self.failed_windows += len(report.failures)
        self.windows += report.windows
        self.km2 += report.km2
        self.mpx += report.mpx
        self.read_s += report.read_s
        self.score_s += report.score_s
        self.commits += [key for _, key in report.commits]


def run_id(plan: Plan) -> str:
    """The event and a digest of the request. The same request gives the same id."""
    return f"{plan.run.event.id}-{plan.run.digest()[:8]}"


def run_record(plan: Plan, work: WorkDone, hazard: FootprintHazard, backend: str) -> dict[str, Any]:
    """The content of run.json without the fields that publishing adds."""
    return {
        "run_id": run_id(plan),
        "run_digest": plan.run.digest(),
        "request": plan.run.recorded(),
        "event": plan.run.event.model_dump(mode="json"),
        "backend": backend,
        "versions": _versions(),
        **_bundles(plan),
        **_other_jobs(plan.jobs[1:]),
        **_hazard_bundle(plan.hazard_model, hazard.evidence),
        "inputs": _inputs(plan),
        "hazard": hazard.table.versions,
        "notes": [*plan.notes, *work.notes],
        **_doubts(plan),
        **({"scenes_not_used": list(plan.not_used)} if plan.not_used else {}),
        "counts": _counts(plan, work),
        "rates": _rates(plan, work),
        "memory": {
            "planned_peak_mb": round(plan.memory(backend).peak_mb),
            "peak_rss_mb": round(peak_rss_mb()),
            "of": "the driver process" if backend != "local" else "the process",
        },
    }


def _doubts(plan: Plan) -> dict[str, list[str]]:
    """`footprint_doubts` of run.json: why footprints may be no buildings. Most runs have none."""
    doubts = plan.footprints.doubts
    return {"footprint_doubts": list(doubts)} if doubts else {}


_MADE_OF = (
    *("run_digest", "versions", "bundle", "landslide_bundle", "hazard_bundle", "jobs"),
    *("inputs", "hazard"),
)


def made_of(run: Mapping[str, Any]) -> dict[str, Any]:
    """What a map is made of, from its run.json: request, models, versions and inputs."""
    return {key: run[key] for key in _MADE_OF if key in run}


def _bundles(plan: Plan) -> dict[str, Any]:
    """`bundle` and `landslide_bundle` of run.json: the models that judge images."""
    names = {"damage": "bundle", "landslide": "landslide_bundle"}
    of_task = {
        "landslide" if job.bundle.spec.task == "landslide" else "damage": job
        for job in reversed(plan.jobs)
    }
    return {
        key: _bundle(of_task[name].bundle, of_task[name].engine.name)
        for name, key in names.items()
        if name in of_task
    }


def _bundle(bundle: Bundle, engine: str) -> dict[str, Any]:
    spec = bundle.spec
    return {
        "name": spec.name,
        "version": spec.version,
        "digest": bundle.digest,
        "uri": bundle.uri,
        "engine": engine,
        **meant_for(bundle.uri, spec.name),
        **({"adapted_to": spec.adapted_to} if spec.adapted_to else {}),
        **({"forced": True} if spec.forced else {}),
        "thresholds": {
            "high_precision": spec.thresholds.high_precision,
            "balanced": spec.thresholds.balanced,
            "high_recall": spec.thresholds.high_recall,
        },
        "metrics": spec.metrics,
        "card": (bundle.file("card.md") or b"").decode("utf-8", "replace"),
        **_catalogue_record(bundle),
    }


def meant_for(uri: str, name: str) -> dict[str, str]:
    """`meant_for`: lists or numbers, for shipped bundles; a copy elsewhere may be another model."""
    known = uri == f"{SHIPPED}{name}" and name in MEANT_FOR
    return {"meant_for": MEANT_FOR[name]} if known else {}


def _catalogue_record(bundle: Bundle) -> dict[str, Any]:
    """`record`: the STAC Item of a model, where its bundle has one that can be read."""
    try:
        record = json.loads(bundle.file("mlm.json") or b"null")
    except ValueError:
        return {}
    return {"record": record} if isinstance(record, dict) else {}


def _other_jobs(jobs: tuple[Job, ...]) -> dict[str, Any]:
    """`jobs` of run.json: the jobs beside the one that judges footprints. Most runs have none."""
    if not jobs:
        return {}
    return {
        "jobs": [
            {"kind": j.kind.name, "bundle": j.bundle.spec.name, "engine": j.engine.name}
            for j in jobs
        ]
    }


def _hazard_bundle(
    model: HazardModel | None, evidence: HazardEvidence | None
) -> dict[str, dict[str, Any]]:
    """`hazard_bundle` of run.json; empty if the run names none."""
    if model is None or evidence is None:
        return {}
    spec = model.bundle.spec
    return {
        "hazard_bundle": {
            **_bundle(model.bundle, evidence.engine),
            "prior": dict(zip(spec.labels, prior_of(spec).tolist(), strict=True)),
            "takes": [one.name for one in spec.hazard],
            "not_given": list(model.not_given),
            "footprints": int(evidence.there_N.sum()),
            "footprints_missing": evidence.missing,
            "added_to_verdicts": model.fuses,
        }
    }


def peak_rss_mb() -> float:
    """Largest resident memory of this process so far, MB (1,000,000 bytes)."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux, getrusage includes the memory that the parent held
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return float(fields["VmHWM"].split()[0]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def _counts(plan: Plan, work: WorkDone) -> dict[str, Any]:
    footprints = plan.footprints
    return {
        "footprints_read": footprints.rows_read,
        "footprints": len(footprints.table),
        "duplicates_collapsed": footprints.duplicates_collapsed,
        "outside_aoi": footprints.outside_aoi,
        "without_position": footprints.without_position,
        "cells": len(plan.units),
        "cells_scored": work.scored,
        "cells_resumed": work.resumed,
        "commits": len(work.commits),
        "windows_failed": work.failed_windows,
        "scenes": len(_scenes(plan)),
        "acquisitions": plan.acquisitions,
        "views": len(plan.views),
    }


def _rates(plan: Plan, work: WorkDone) -> dict[str, float]:
    """What this run did, beside the ground that was asked for. docs/map.md defines each figure."""
    return {
        "aoi_km2": round(plan.aoi_km2, 4),
        "covered_km2": round(plan.covered_km2, 4),
        "km2": round(work.km2, 4),
        "mpx_read": round(work.mpx, 2),
        "prepare_s": round(work.prepare_s, 3),
        "map_s": round(work.map_s, 3),
        "read_cpu_s": round(work.read_s, 3),
        "score_s": round(work.score_s, 3),
        "km2_per_h": round(work.km2 / work.map_s * 3600, 2) if work.map_s else 0.0,
    }


def _scenes(plan: Plan) -> dict[str, Scene]:
    return {s.id: s for v in plan.views for s in v.files}


def _inputs(plan: Plan) -> dict[str, Any]:
    run = plan.run
    return {
        "catalog": run.imagery.catalog,
        "scenes": [_scene(s) for s in _scenes(plan).values()],
        **_footprints(plan),
        "aoi": run.aoi,
        **_other_files(plan),
    }


def _other_files(plan: Plan) -> dict[str, Any]:
    """`files` of run.json: other files that the map is made of, with their etags."""
    run = plan.run
    named = {
        "aoi": run.aoi if aoi_kind(run.aoi) == "place" else None,
        "summary.admin": run.summary and run.summary.admin,
        "roads": run.roads and run.roads.path,
    }
    files = {key: {"path": uri, "etag": _etag(plan, uri)} for key, uri in named.items() if uri}
    for key, uri in run.terrain.files.items() if run.terrain else ():
        etag = try_version(uri, run.storage_options)
        files[f"terrain.{key}"] = {"path": uri, "etag": etag}
    return {"files": files} if files else {}


def _footprints(plan: Plan) -> dict[str, Any]:
    given = plan.run.footprints
    if given is None:
        return {}
    return {"footprints": {"path": given.path, "etag": _etag(plan, given.path)}}


def _scene(scene: Scene) -> dict[str, Any]:
    """A scene, with its `stretch` if its counts had 16 bits, and what its item says of rights.

    `span_s` is there where the time is the middle of a span, such as a day.
    """
    more: dict[str, Any] = {} if scene.gsd_m is None else {"gsd_m": round(scene.gsd_m, 3)}
    more |= {k: v for k in ("credit", "licence") if (v := getattr(scene, k))}
    if scene.span_s:
        more["span_s"] = scene.span_s
    if scene.bands is not None and scene.bands.token:
        more["bands"] = scene.bands.attributes()
    if scene.layers:
        more["layers"] = [layer.attributes() for layer in scene.layers]
    if scene.mask is not None:
        more["mask"] = {"kind": scene.mask.name, "href": scene.mask.file.href}
    if scene.stretch is not None:
        more["stretch"] = scene.stretch.attributes()
    return {
        "id": scene.id,
        "href": scene.href,
        "etag": scene.etag,
        "datetime": scene.datetime.isoformat(),
        **more,
    }


def _etag(plan: Plan, uri: str) -> str:
    try:
        return fingerprint(uri, plan.run.storage_options)
    except (QuakestreamError, OSError):
        return ""


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
