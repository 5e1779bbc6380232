"""index.html: map, pictures and uncertainty in one file that opens from disk.

Browsers refuse to fetch from file://, so the file holds everything: Leaflet, a few numbers of every
building, outlines and details of as many as fit, and pictures. The page uses no network, and its
content security policy forbids it. `quakestream view` serves the same page over a server
(outputs/live.py), which has details and pictures of all buildings.
"""

import base64
import gzip
import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray

from quakestream.outputs.figures import SEVERE
from quakestream.outputs.pages import cards_html, content_security_policy, fill, static
from quakestream.outputs.previews import REDUCED, Preview, Previews, page_pictures
from quakestream.outputs.products import RunProducts
from quakestream.outputs.viewer_content import MapContent, about, content_of
from quakestream.outputs.viewer_rows import (
    CoreColumns,
    core_blob,
    core_columns,
    detail_columns,
)
from quakestream.tiling.antimeridian import side_by_side, turned

PAGE_LIMIT_BYTES = 20_000_000
PICTURES_AT_MOST_BYTES = 9_000_000
"""Before base64, which makes 12 MB of it. Verdicts have priority over pictures."""
PICTURES_AT_LEAST_BYTES = 2_500_000
"""Kept for pictures where outlines and details of a large map would take everything."""
SHELL_BYTES = 400_000
"""Size of Leaflet, script, style, markup and notes, rounded up."""
SIMPLIFY_DEG = 5e-6
"""About 0.5 m. Outlines are simplified only if the page would be too large."""
GROUP_ROWS = 5000
"""Rows of a group of details."""
SAMPLE_ROWS = 2000
SCRIPTS = (
    "viewer_data.js",
    "viewer_map.js",
    "viewer_pictures.js",
    "viewer_find.js",
    "answers.js",
    "viewer_check.js",
    "viewer.js",
)


def viewer_html(
    products: RunProducts,
    rows: gpd.GeoDataFrame,
    run: Mapping[str, Any],
    limit_bytes: int = PAGE_LIMIT_BYTES,
) -> bytes:
    """The page for `rows` (ordered buildings) and `run` (the content of run.json).

    Every building is on the page with its verdict and its place. Where the page would exceed
    `limit_bytes`, outlines are simplified first; then the most severe verdicts and a random
    sample of the others keep their outlines and details; then pictures shrink. The page states
    each of these.
    """
    content = content_of(products, run)
    rows = rows.set_geometry(side_by_side(np.asarray(rows.geometry.values, object)), crs=4326)
    west, _, east, _ = rows.total_bounds
    core = core_columns(rows, content.labels)
    notes: list[str] = []
    packed = _base64(core_blob(core))
    small = json.dumps(about(content, []), default=str, ensure_ascii=False)
    room = limit_bytes - SHELL_BYTES - len(packed) - len(packed_text(small))
    given = products.pictures
    for_pictures = PICTURES_AT_LEAST_BYTES if products.views else 0
    if given is not None:
        for_pictures = sum(len(p["src"]) for p in given)
    details = _Details(content=content, rows=rows, score_N=severe_score(core, content))
    groups = details.packed(max(room - for_pictures, room // 2), notes)
    left = (room - sum(map(len, groups))) * 3 // 4
    room = max(min(PICTURES_AT_MOST_BYTES, left), 0)
    previews = page_pictures(products.views, rows, details.score_N, room, products.storage)
    notes += _picture_notes(previews)
    pictures = [_picture(p, (west + east) / 2) for p in (*previews.shown, *previews.chips)]
    pictures = pictures if given is None else [dict(p) for p in given]
    text = json.dumps(about(content, notes), separators=(",", ":"), ensure_ascii=False, default=str)
    return page(
        content,
        {"about": packed_text(text), "core": packed},
        groups,
        pictures,
    )


def severe_score(core: CoreColumns, content: MapContent) -> NDArray[np.float64]:
    """Probability of severe damage of each building, NaN where not assessed."""
    first = next((k for k, c in enumerate(content.classes) if c.xbd in SEVERE), None)
    if first is None:
        return np.where(core.damage_N >= 0, 0.0, np.nan)
    score_N: NDArray[np.float64] = core.cumulative_NC[:, first]
    return score_N


@dataclass(slots=True, kw_only=True)
class _Details:
    """Outlines and details of as many buildings as fit, the most severe first."""

    content: MapContent
    rows: gpd.GeoDataFrame
    score_N: NDArray[np.float64]
    order: NDArray[np.int64] = field(init=False)
    """Rows by importance: severe verdicts by score, then the others in random order."""

    def __post_init__(self) -> None:
        worst = [k for k, c in enumerate(self.content.classes) if c.xbd in SEVERE]
        severe_N = self.rows["damage"].isin(worst).to_numpy(dtype=bool, na_value=False)
        severe = np.flatnonzero(severe_N)
        severe = severe[np.argsort(-self.score_N[severe], kind="stable")]
        others = np.random.default_rng(0).permutation(np.flatnonzero(~severe_N))
        self.order = np.concatenate([severe, others])

    def packed(self, room: int, notes: list[str]) -> list[str]:
        """Groups of details within `room` bytes; `notes` gets what was left out."""
        total = len(self.order)
        if total <= SAMPLE_ROWS or self._estimate(total) <= 1.1 * room:
            groups = self._groups(total)
            if sum(map(len, groups)) <= room:
                return groups
        self.rows = self.rows.set_geometry(self.rows.geometry.simplify(SIMPLIFY_DEG))
        number = min(total, int(total * room / max(self._estimate(total), 1)))
        groups = self._groups(number)
        while number and (size := sum(map(len, groups))) > room:
            number = int(number * 0.97 * min(room / size, 1))
            groups = self._groups(number)
        notes.append("Outlines are simplified by up to 0.5 m.")
        if number < total:
            notes.append(self._left_out(number))
        return groups

    def _estimate(self, number: int) -> float:
        """Bytes of the details of so many rows, from a sample of them."""
        some = min(number, SAMPLE_ROWS)
        return sum(map(len, self._groups(some))) * number / max(some, 1)

    def _groups(self, number: int) -> list[str]:
        chosen = np.sort(self.order[:number])
        return [
            packed_text(self._columns(chosen[n : n + GROUP_ROWS]))
            for n in range(0, number, GROUP_ROWS)
        ]

    def _columns(self, chosen: NDArray[np.int64]) -> str:
        content = self.content
        columns = detail_columns(
            self.rows.iloc[chosen],
            content.labels,
            content.layers,
            content.threshold,
            chosen.tolist(),
        )
        return json.dumps(columns, separators=(",", ":"), ensure_ascii=False)

    def _left_out(self, number: int) -> str:
        total = len(self.order)
        return (
            f"Of {total:,} buildings, {total - number:,} are points without outline, id and "
            f"details on this page: {number:,} have them, the highest scores first and then a "
            "random sample. All counts are of all buildings. `quakestream view` shows everything."
        )


def _picture_notes(previews: Previews) -> list[str]:
    notes = [f"Scene {s} has no picture: {why}." for s, why in previews.left_out]
    coarsest = max((p.ground_m for p in previews.shown if p.reduction > REDUCED), default=0.0)
    if coarsest:
        number = len({p.row for p in previews.chips})
        sharp = f"{number:,} buildings have chips at full resolution; " if number else ""
        notes.append(
            f"Pictures are reduced, the coarsest to {coarsest:.1f} m a pixel; the model read all "
            f"pixels. {sharp}`quakestream view` shows all of them."
        )
    return notes


def _picture(preview: Preview, near: float) -> dict[str, Any]:
    """A picture, on the side of 180° where the buildings lie."""
    south, west, north, east = preview.bounds
    middle = (west + east) / 2
    moved = turned(middle, near) - middle if np.isfinite(near) else 0.0
    return {
        "scene": preview.scene,
        "epoch": preview.epoch,
        "acquired": preview.acquired,
        "bounds": (south, west + moved, north, east + moved),
        "ground": round(preview.ground_m, 3),
        "reduced": preview.reduction > REDUCED,
        "row": preview.row,
        "src": "data:image/webp;base64," + base64.b64encode(preview.webp).decode(),
    }


def page(
    content: MapContent,
    data: Mapping[str, str],
    groups: Sequence[str],
    pictures: Sequence[Mapping[str, Any]],
    *,
    served: bool = False,
) -> bytes:
    """The page as HTML.

    Args:
        data: `about` and `core`, packed; empty texts where a server has them.
        groups: packed details.
        served: the page asks its own server for what it does not hold.
    """
    scripts = [
        re.sub(r"\n//# sourceMappingURL=.*", "", static("leaflet.js")),
        "\n".join(static(n) for n in SCRIPTS),
    ]
    leaflet_css = re.sub(r"url\([^)]*\)", "none", static("leaflet.css"))
    parts = {
        "csp": content_security_policy(scripts, served=served),
        "title": html.escape(content.title),
        "served": "yes" if served else "no",
        "style": "\n".join([leaflet_css, static("base.css"), static("viewer.css")]),
        "cards": cards_html(content.cards()),
        "pictures": json.dumps(pictures, separators=(",", ":")).replace("<", "\\u003c"),
        "groups": "".join(f'<script type="text/plain" class="rows">{g}</script>' for g in groups),
        "leaflet": scripts[0],
        "viewer": scripts[1],
        **data,
    }
    return fill(static("viewer.html"), parts).encode()


def packed_text(text: str) -> str:
    """Text as gzip in base64."""
    return _base64(gzip.compress(text.encode(), 9, mtime=0))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
