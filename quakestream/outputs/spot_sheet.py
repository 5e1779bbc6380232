"""sheet.html: the answer sheet of spot checks, one file that works without a network."""

import base64
import html
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from quakestream.outputs.buildings import TILES_JOINT
from quakestream.outputs.live import LiveMap
from quakestream.outputs.pages import content_security_policy, fill, static
from quakestream.outputs.pictures import READ_ERRORS
from quakestream.outputs.previews import chip_frame, mercator
from quakestream.outputs.spot_sample import SpotSample
from quakestream.outputs.units import unit_title

EPOCHS = (("before", "scene_pre"), ("after", "scene_post"))
ATTEMPTS = 2
"""Times that a scene may fail before it is left alone: a server that is gone answers slowly."""
Tell = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """The page, and how many of its buildings have no picture after the event."""

    page: bytes
    without_picture: int


def spot_sheet(
    live: LiveMap, rows: gpd.GeoDataFrame, sample: SpotSample, tell: Tell = lambda done, of: None
) -> Sheet:
    """The sheet for a sample, with pictures at full resolution.

    Args:
        rows: buildings of the map that the sample was drawn from.
        tell: is given the number of buildings that are done, and of all.
    """
    by_id = rows.set_index(rows["building_id"].astype(str))
    table: list[dict[str, Any]] = [
        {str(k): v for k, v in one.items()} for one in sample.table.to_dict("records")
    ]
    items: list[dict[str, Any]] = []
    failed: Counter[str] = Counter()
    for n, record in enumerate(table):
        tell(n, len(table))
        items.append(_item(live, by_id.loc[record["building_id"]], record, failed))
    run = live.run
    about = {
        "event": str((run.get("event") or {}).get("id", "earthquake")),
        "snapshot": sample.snapshot,
        "key": f"{run.get('run_id', '')} {sample.snapshot} {sample.request.seed} {len(items)}",
        "items": items,
    }
    script = static("answers.js") + "\n" + static("sheet.js")
    page = fill(
        static("sheet.html"),
        {
            "csp": content_security_policy([script]),
            "title": html.escape(f"Spot checks: {about['event']}"),
            "style": static("base.css") + static("sheet.css"),
            "data": json.dumps(about, ensure_ascii=False).replace("<", "\\u003c"),
            "script": script,
        },
    )
    lost = sum(not one["pictures"]["after"] for one in items)
    return Sheet(page=page.encode(), without_picture=lost)


def _item(
    live: LiveMap, row: Any, record: dict[str, Any], failed: "Counter[str]"
) -> dict[str, Any]:
    """One building: its pictures, its outline in them, its place, and the hidden verdict."""
    shape: BaseGeometry | None = row.geometry
    usable = shape is not None and not shape.is_empty and np.isfinite(shape.bounds).all()
    label = row["damage_label"] if isinstance(row["damage_label"], str) else "not assessed"
    p_names = [name for name in record if str(name).startswith("p_")]
    p = record[p_names[0]] if p_names else None
    return {
        "id": record["building_id"],
        "lon": record["longitude"],
        "lat": record["latitude"],
        "district": unit_title(str(record["district"]), record["district_name"]),
        "verdict": label,
        "p": None if p is None or p != p else round(float(p), 3),
        "outline": _outline(shape) if usable and shape is not None else "",
        "pictures": {
            epoch: _pictures(live, row[column], shape.bounds, failed)
            if usable and shape is not None
            else []
            for epoch, column in EPOCHS
        },
    }


def _pictures(
    live: LiveMap,
    scenes: Any,
    bounds: tuple[float, float, float, float],
    failed: "Counter[str]",
) -> list[dict[str, str]]:
    """Pictures of a building by the tiles that show it, the one that shows most of it last."""
    found = []
    for scene in reversed(str(scenes).split(TILES_JOINT) if isinstance(scenes, str) else []):
        if failed[scene] >= ATTEMPTS:
            continue
        try:
            data = live.window(scene, bounds)
        except READ_ERRORS:
            failed[scene] += 1
            continue
        if data is not None:
            time = str(live.scene_record(scene).get("datetime", ""))[:10]
            src = "data:image/webp;base64," + base64.b64encode(data).decode()
            found.append({"src": src, "date": time, "scene": scene})
    return found


def _outline(shape: BaseGeometry) -> str:
    """The outline as an SVG path in a square of side 1: the picture of the building."""
    frame = chip_frame(shape.bounds, 1.0)
    side = frame.east - frame.west
    rings = [shapely.get_coordinates(r) for r in shapely.get_rings(shapely.get_parts(shape))]
    if not rings:
        point = shape.representative_point()
        rings = [shapely.get_coordinates(point.buffer(2e-5, quad_segs=1))]
    parts = []
    for ring in rings:
        xy = np.array([mercator(lon, lat) for lon, lat in ring])
        x, y = (xy[:, 0] - frame.west) / side, (frame.north - xy[:, 1]) / side
        parts.append("M" + "L".join(f"{a:.4f} {b:.4f}" for a, b in zip(x, y, strict=True)) + "Z")
    return "".join(parts)
