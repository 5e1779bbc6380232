"""index.html: map, pictures and uncertainty in one file that opens from disk.

Browsers refuse to fetch from file://, so the file holds everything: Leaflet, the verdicts (gzip,
base64) and previews of the scenes. The page uses no network, and its content security policy
forbids it.
"""

import base64
import gzip
import hashlib
import html
import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

import geopandas as gpd
import numpy as np

from quakestream.domain import REASONS
from quakestream.outputs.previews import Previews, scene_previews
from quakestream.outputs.products import RunProducts
from quakestream.outputs.quarantine import merged_issues
from quakestream.outputs.viewer_rows import building_columns, rings

PAGE_LIMIT_BYTES = 20_000_000
PICTURES_AT_MOST_BYTES = 9_000_000
"""Before base64, which makes 12 MB of it. Verdicts have priority over pictures."""
SHELL_BYTES = 300_000
"""Size of Leaflet, script, style and markup, rounded up."""
SIMPLIFY_DEG = 5e-6
"""About 0.5 m. Outlines are simplified only if the page would be too large."""
CELLS_AT_MOST = 20_000
ISSUES_AT_MOST = 500

REASON_TITLES = {
    "no_imagery": "no post-event image covers it",
    "no_pre": "no pre-event image covers it",
    "misaligned": "pre and post image do not match",
    "nodata": "image has no data there",
    "cloud": "cloud",
    "snow": "snow",
    "saturated": "saturated pixels",
    "too_small": "too small for the image",
    "outside_model_scale": "outside the model's scale",
    "invalid_geometry": "invalid outline",
    "read_error": "image could not be read",
    "model_error": "model failed",
    "abstained": "model abstained",
}


def viewer_html(
    products: RunProducts,
    rows: gpd.GeoDataFrame,
    run: Mapping[str, Any],
    limit_bytes: int = PAGE_LIMIT_BYTES,
) -> bytes:
    """The page for `rows` (ordered buildings) and `run` (the content of run.json).

    Where the page would exceed `limit_bytes`, outlines are simplified first, then intact
    buildings are left out, then pictures shrink. The page states each of these.
    """
    notes: list[str] = []
    room = limit_bytes - SHELL_BYTES
    verdicts = _packed_verdicts(products, rows, room, notes)
    left = (room - len(verdicts)) * 3 // 4
    previews = scene_previews(products.views, min(PICTURES_AT_MOST_BYTES, left), products.storage)
    about = _about(products, rows, run, previews, notes)
    title = f"{_event_name(run)}: building damage"
    return _page(title, {"about": _packed(about), "verdicts": verdicts}, previews)


def _packed_verdicts(
    products: RunProducts, rows: gpd.GeoDataFrame, room: int, notes: list[str]
) -> str:
    """Verdict columns within `room` bytes; `notes` gets what was simplified or left out."""
    packed = _packed(building_columns(rows, products.labels, products.layers))
    if len(packed) <= room:
        return packed
    rows = rows.set_geometry(rows.geometry.simplify(SIMPLIFY_DEG))
    notes.append("Outlines are simplified by up to 0.5 m.")
    remaining = rows
    packed = _packed(building_columns(remaining, products.labels, products.layers))
    intact = np.flatnonzero((rows["damage"] == 0).fillna(False).to_numpy(dtype=bool))
    spread = np.random.default_rng(0).permutation(intact)
    dropped = 0
    while len(packed) > room and dropped < len(spread):
        excess = 1.1 * (len(packed) - room) / len(packed) * len(remaining)
        dropped = min(len(spread), dropped + max(1, int(excess)))
        remaining = rows.drop(index=rows.index[spread[:dropped]])
        packed = _packed(building_columns(remaining, products.labels, products.layers))
    if dropped:
        label = products.labels[0]
        notes.append(
            f"{dropped:,} of {len(spread):,} buildings with the verdict “{label}”, chosen at "
            "random, are not on this page; buildings.parquet holds all of them."
        )
    return packed


def _about(
    products: RunProducts,
    rows: gpd.GeoDataFrame,
    run: Mapping[str, Any],
    previews: Previews,
    notes: list[str],
) -> dict[str, Any]:
    """Everything on the page except the buildings and the pictures."""
    counts = rows["damage"].value_counts()
    reasons = rows["reason"].value_counts()
    issues = merged_issues(products.issues)
    notes = [*run.get("notes", []), *notes]
    notes += [f"Scene {s} has no picture: {why}." for s, why in previews.left_out]
    if (coarsest := max((p.reduction for p in previews.shown), default=1.0)) > 1.5:
        notes.append(
            f"Pictures are reduced, up to {coarsest:.1f} pixels to one; the model read all pixels."
        )
    if len(issues) > ISSUES_AT_MOST:
        notes.append(f"quarantine.parquet lists {len(issues) - ISSUES_AT_MOST:,} more inputs.")
    return {
        "event": run.get("event", {}),
        "run": {k: run[k] for k in ("run_id", "snapshot", "published") if k in run},
        "models": [_model_card(run[key]) for key in ("bundle", "hazard_bundle") if key in run],
        "evidence": evidence_sentence(run),
        "total": len(rows),
        "classes": [
            {"label": c.label, "xbd": c.xbd, "count": int(counts.get(c.index, 0))}
            for c in products.classes
        ],
        "reasons": [
            {"reason": r, "title": REASON_TITLES[r], "count": int(reasons[r])}
            for r in sorted(REASONS, key=lambda r: -reasons.get(r, 0))
            if r in reasons.index
        ],
        "cells": _cells(products.coverage, notes),
        "issues": [
            {"kind": i.kind, "subject": i.subject, "cause": i.cause, "retryable": i.retryable}
            for i in issues[:ISSUES_AT_MOST]
        ],
        "notes": notes,
        "scenes": _scene_dates(products),
    }


def _cells(coverage: gpd.GeoDataFrame, notes: list[str]) -> dict[str, Any]:
    if len(coverage) > CELLS_AT_MOST:
        notes.append(
            f"This page does not show the {len(coverage):,} cells; coverage.parquet holds them."
        )
        coverage = coverage.iloc[:0]
    return {
        "shape": rings(coverage.geometry),
        "status": coverage["status"].astype(str).tolist(),
        "reason": [r if isinstance(r, str) else None for r in coverage["reason"]],
    }


def _scene_dates(products: RunProducts) -> dict[str, str]:
    scenes = [s for v in products.views for s in (v.post, v.pre) if s is not None]
    return {s.id: s.datetime.strftime("%Y-%m-%d %H:%M UTC") for s in scenes}


def _model_card(model: Mapping[str, Any]) -> dict[str, Any]:
    """Name, version, digest and flat metrics of a bundle in run.json."""
    card = {k: str(model[k]) for k in ("name", "version", "digest") if k in model}
    return card | {"metrics": flat_metrics(model.get("metrics", {}))}


def flat_metrics(metrics: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested figures as (path, text) pairs, numbers to three decimals."""
    if isinstance(metrics, Mapping):
        return [p for k, v in metrics.items() for p in flat_metrics(v, f"{prefix}{k} · ")]
    if isinstance(metrics, (list, tuple)):
        text = " – ".join(f"{v:.3f}" if isinstance(v, float) else str(v) for v in metrics)
    else:
        text = f"{metrics:.3f}" if isinstance(metrics, float) else str(metrics)
    return [(prefix.removesuffix(" · "), text)]


def evidence_sentence(run: Mapping[str, Any]) -> str:
    """The evidence behind the verdicts in one sentence; empty for imagery alone."""
    counts = run.get("counts", {}).get("evidence", {})
    both, image, alone = (int(counts.get(e, 0)) for e in ("image+hazard", "image", "hazard"))
    if not both + alone and "hazard_bundle" not in run:
        return ""
    bundle = run.get("hazard_bundle", {})
    by = f" ({bundle['name']} {bundle['version']})" if "name" in bundle else ""
    text = f"{both:,} verdicts use imagery and hazard values{by}, {image:,} use imagery alone."
    if "name" in bundle and not bundle.get("added_to_verdicts", True):
        text = (
            f"{both:,} verdicts use imagery and hazard values, {image:,} use imagery alone; "
            f"probabilities of {bundle['name']} {bundle['version']} are shown separately."
        )
    if alone:
        text += f" {alone:,} not assessed have a probability from hazard values alone."
    return text


def _event_name(run: Mapping[str, Any]) -> str:
    return str(run.get("event", {}).get("id", "earthquake"))


def _packed(value: Any) -> str:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str)
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


def _page(title: str, data: Mapping[str, str], previews: Previews) -> bytes:
    pictures = [
        {
            "scene": p.scene,
            "epoch": p.epoch,
            "acquired": p.acquired,
            "bounds": p.bounds,
            "src": "data:image/webp;base64," + base64.b64encode(p.webp).decode(),
        }
        for p in previews.shown
    ]
    scripts = [
        re.sub(r"\n//# sourceMappingURL=.*", "", static("leaflet.js")),
        "\n".join(static(n) for n in ("viewer_data.js", "viewer_map.js", "viewer.js")),
    ]
    leaflet_css = re.sub(r"url\([^)]*\)", "none", static("leaflet.css"))
    parts = {
        "csp": content_security_policy(scripts),
        "title": html.escape(title),
        "style": "\n".join([leaflet_css, static("base.css"), static("viewer.css")]),
        "pictures": json.dumps(pictures, separators=(",", ":")).replace("<", "\\u003c"),
        "leaflet": scripts[0],
        "viewer": scripts[1],
        **data,
    }
    return fill(static("viewer.html"), parts).encode()


def content_security_policy(scripts: list[str]) -> str:
    """A policy that runs only these scripts and fetches nothing."""
    digests = (base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts)
    allowed = " ".join(f"'sha256-{d}'" for d in digests) or "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def static(name: str) -> str:
    """A file of `outputs/static`."""
    return (resources.files("quakestream.outputs") / "static" / name).read_text("utf-8")


def fill(template: str, parts: Mapping[str, str]) -> str:
    """The template with `{{name}}` replaced in one pass: values are never read as a template."""
    return re.sub(r"\{\{(\w+)\}\}", lambda m: parts[m.group(1)], template)
