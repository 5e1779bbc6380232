"""What the page says besides buildings and pictures: counts, caveats, areas, credits, notes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import geopandas as gpd
import pandas as pd

from quakestream.domain import REASONS, ScaleClass, Scene
from quakestream.outputs.areas import DISTRICT, areas_frame
from quakestream.outputs.coverage import BUILDINGS, KIND
from quakestream.outputs.expected import Expected, amount, share_interval
from quakestream.outputs.figures import check_advice, headline
from quakestream.outputs.landslides import ordered_landslides
from quakestream.outputs.layout import INTERIM
from quakestream.outputs.numerals import flat_metrics
from quakestream.outputs.products import RunProducts
from quakestream.outputs.quarantine import merged_issues
from quakestream.outputs.units import unit_title
from quakestream.outputs.viewer_rows import rings

CELLS_AT_MOST = 20_000
ISSUES_AT_MOST = 500
DISTRICTS_AT_MOST = 2000
UNITS_AT_MOST = 50
SLIDES_AT_MOST = 5000
SLIDE_SIMPLIFY_DEG = 5e-6
"""About 0.5 m."""
MODEL_KEYS = ("bundle", "landslide_bundle", "hazard_bundle")
"""Models in run.json."""
AREA_SIMPLIFY_DEG = 2e-5
"""About 2 m: areas are drawn as thin lines."""

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
    "no_model": "the run has no model of building damage",
    "pending": "not read yet: the run goes on",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MapContent:
    """A finished map without its buildings."""

    run: Mapping[str, Any]
    """run.json, with `counts` and `damage_scale`."""
    classes: tuple[ScaleClass, ...]
    layers: tuple[str, ...]
    coverage: gpd.GeoDataFrame
    areas: gpd.GeoDataFrame
    issues: Sequence[Mapping[str, Any]]
    """Records with `kind, subject, cause, retryable`."""
    scenes: Sequence[Mapping[str, Any]]
    """Records of the scenes as in run.json."""
    landslides: gpd.GeoDataFrame | None = None
    """None in a run that looks for none."""

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(c.label for c in self.classes)

    @property
    def threshold(self) -> float:
        """The threshold by which verdicts were declared."""
        if shares := self.run.get("shares"):
            return float(shares["threshold"])
        thresholds = (self.run.get("bundle") or {}).get("thresholds") or {}
        return float(thresholds.get("balanced", 0.5))

    @property
    def title(self) -> str:
        return f"{(self.run.get('event') or {}).get('id', 'earthquake')}: {subject(self.run)}"

    def cards(self) -> list[tuple[str, str]]:
        """Name and text of the model cards."""
        models = [self.run.get(key) or {} for key in MODEL_KEYS]
        return [(str(m.get("name", "model")), str(m["card"])) for m in models if m.get("card")]


def content_of(products: RunProducts, run: Mapping[str, Any]) -> MapContent:
    """The content of a run that is being published; `run` is the content of run.json."""
    scenes = {s.id: s for v in products.views for s in v.files}
    return MapContent(
        run=run,
        classes=products.classes,
        layers=products.layers,
        coverage=products.coverage,
        areas=areas_frame(products),
        issues=[asdict(issue) for issue in merged_issues(products.issues)],
        scenes=[_scene_record(s) for s in scenes.values()]
        if products.pictures is None
        else list((run.get("inputs") or {}).get("scenes", [])),
        landslides=None if products.landslides is None else ordered_landslides(products.landslides),
    )


def subject(run: Mapping[str, Any]) -> str:
    """What a map shows: `building damage`, `landslides`, or both."""
    named = {"bundle": "building damage", "landslide_bundle": "landslides"}
    return " and ".join(text for key, text in named.items() if run.get(key)) or "building damage"


def _scene_record(scene: Scene) -> dict[str, Any]:
    return {
        "id": scene.id,
        "datetime": scene.datetime.isoformat(),
        "gsd_m": scene.gsd_m,
        "credit": scene.credit,
        "licence": scene.licence,
    }


def about(content: MapContent, notes: Sequence[str]) -> dict[str, Any]:
    """Everything on the page except buildings and pictures, as JSON.

    Args:
        notes: what the page itself leaves out or reduces.
    """
    run, counts = content.run, content.run["counts"]
    said = list(notes)
    cells, areas = _cells(content.coverage, said), _areas(content.areas, said)
    more = len(content.issues) - ISSUES_AT_MOST
    operators = [str(n) for n in run.get("notes", [])]
    if more > 0:
        operators.append(f"quarantine.parquet lists {more:,} more inputs.")
    first = headline(run)
    damage = counts.get("damage", {})
    return {
        "event": run.get("event", {}),
        "run": {k: run[k] for k in ("run_id", "snapshot", "published", INTERIM) if k in run},
        "models": [_model(run[key]) for key in MODEL_KEYS if run.get(key)],
        "evidence": evidence_sentence(run),
        "headline": {
            "names": first.names,
            "caveat": list(first.caveat),
            "advice": check_advice(run),
            "expected": _expected(first.expected),
        },
        "shares": _shares(run, said),
        "total": first.total,
        "threshold": content.threshold,
        "thresholds": (run.get("bundle") or {}).get("thresholds") or {},
        "classes": [
            {"label": c.label, "xbd": c.xbd, "count": int(damage.get(c.label, 0))}
            for c in content.classes
        ],
        "reasons": _reasons(counts.get("reasons", {})),
        "cells": cells,
        "areas": areas,
        "slides": _slides(content.landslides, said),
        "issues": [
            {k: issue[k] for k in ("kind", "subject", "cause")}
            | {"retryable": bool(issue["retryable"])}
            for issue in content.issues[:ISSUES_AT_MOST]
        ],
        "notes": said,
        "operators": operators,
        "scenes": _scenes(content.scenes),
        "credits": image_credits(content.scenes),
    }


def _expected(found: Expected | None) -> dict[str, Any] | None:
    """The expected number in figures; None where the map has none."""
    if found is None:
        return None
    return {
        "label": found.label,
        "amount": found.amount,
        "interval": found.interval,
        "buildings": found.buildings,
    }


def _shares(run: Mapping[str, Any], notes: list[str]) -> list[dict[str, Any]] | None:
    """Units with the most destroyed buildings; None for a bundle without calibration."""
    shares = run.get("shares")
    if shares is None:
        return None
    areas = sorted(shares["areas"], key=lambda a: (-a["expected"], a["id"]))
    if len(areas) > UNITS_AT_MOST:
        notes.append(
            f"This page lists the {UNITS_AT_MOST} units with most destroyed buildings of "
            f"{len(areas):,}; summary.csv holds all."
        )
    return [
        {
            "id": a["id"],
            "title": unit_title(a["id"], a.get("name")),
            "buildings": a["buildings"],
            "declared": a["declared"],
            "expected": amount(a["expected"]),
            "interval": f"{amount(a['expected_low'])} to {amount(a['expected_high'])}",
            "share": share_interval(a),
        }
        for a in areas[:UNITS_AT_MOST]
    ]


def _reasons(counts: Mapping[str, int]) -> list[dict[str, Any]]:
    return [
        {"reason": r, "title": REASON_TITLES[r], "count": int(counts[r])}
        for r in sorted(REASONS, key=lambda r: -counts.get(r, 0))
        if counts.get(r)
    ]


def _cells(coverage: gpd.GeoDataFrame, notes: list[str]) -> dict[str, Any]:
    if KIND in coverage.columns:  # cells of two jobs lie over each other
        of_buildings = coverage[KIND] == BUILDINGS
        coverage = coverage[of_buildings] if of_buildings.any() else coverage
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


def _slides(slides: gpd.GeoDataFrame | None, notes: list[str]) -> dict[str, Any] | None:
    """Landslides for the map, the largest where there are many; None where none was looked for."""
    if slides is None:
        return None
    figures = {"count": len(slides), "km2": round(float(slides["area_m2"].sum()) / 1e6, 4)}
    if len(slides) > SLIDES_AT_MOST:
        notes.append(
            f"This page draws the {SLIDES_AT_MOST:,} largest of {len(slides):,} landslides; "
            "landslides.parquet holds all."
        )
        slides = slides.nlargest(SLIDES_AT_MOST, "area_m2")
    shapes = slides.geometry.simplify(SLIDE_SIMPLIFY_DEG)
    return {
        **figures,
        "id": slides["landslide_id"].tolist(),
        "area": slides["area_m2"].round().astype(int).tolist(),
        "p": slides["probability"].astype(float).round(2).tolist(),
        "buildings": [
            None if n != n else int(n) for n in slides["buildings_touched"].astype(float)
        ],
        "shape": rings(shapes),
    }


def _areas(areas: gpd.GeoDataFrame, notes: list[str]) -> dict[str, Any]:
    if (districts := int((areas["kind"] == DISTRICT).sum())) > DISTRICTS_AT_MOST:
        notes.append(f"This page does not draw the {districts:,} districts.")
        areas = areas[areas["kind"] != DISTRICT]
    simple = areas.geometry.simplify(AREA_SIMPLIFY_DEG)
    code = areas["code"].fillna("")
    return {
        "kind": areas["kind"].tolist(),
        "name": areas["name"].tolist(),
        "unit": code.where(code != "", areas["name"]).tolist(),
        "shape": rings(simple),
    }


def _scenes(scenes: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Time, GSD, credit and licence by scene id."""
    return {
        str(s["id"]): {
            "time": pd.Timestamp(s["datetime"]).strftime("%Y-%m-%d %H:%M UTC"),
            "gsd": s.get("gsd_m"),
            "credit": " · ".join(filter(None, (s.get("credit"), s.get("licence")))),
        }
        for s in scenes
    }


def image_credits(scenes: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line per credit and licence of the images, the most frequent first."""
    counts: dict[tuple[str, str], int] = {}
    for s in scenes:
        key = (str(s.get("credit") or ""), str(s.get("licence") or ""))
        counts[key] = counts.get(key, 0) + 1
    lines = []
    for (credit, licence), number in sorted(counts.items(), key=lambda item: -item[1]):
        images = "1 image" if number == 1 else f"{number:,} images"
        if not credit and not licence:
            lines.append(f"{images}: the catalogue states no credit and no licence.")
            continue
        text = f"{images}: {credit or 'no credit stated'}, licence {licence or 'not stated'}"
        lines.append(f"{text}{_not_commercial(licence)}.")
    return lines


def _not_commercial(licence: str) -> str:
    words = licence.upper().replace("-", " ").replace("/", " ").split()
    return " (no commercial use: this holds for this map's pictures too)" if "NC" in words else ""


def _model(model: Mapping[str, Any]) -> dict[str, Any]:
    """Name, version, digest and flat metrics of a bundle in run.json."""
    card = {k: str(model[k]) for k in ("name", "version", "digest", "engine") if k in model}
    return card | {"metrics": flat_metrics(model.get("metrics", {}))}


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
