"""map.pdf: a page of A4 to print, to mail and to hang up: the verdicts, the numbers, the caveat.

Buildings are drawn by class, the mildest first, so that no ruin is hidden. A building smaller than
a dot of the page is a dot. The page has no imagery, which index.html and the GeoPackage are for.
"""

import io
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from shapely.geometry.base import BaseGeometry

from quakestream.outputs.map_layers import COLOURS, SLIDE_COLOUR, MapLayers, model_names
from quakestream.outputs.page_letters import Typeface, lettering, wrapped
from quakestream.outputs.viewer_content import image_credits
from quakestream.tiling.antimeridian import spans_side_by_side

DPI = 200
PAGE = 2339, 1654
"""A4, landscape, dots."""
MARGIN, COLUMN, GAP = 60, 560, 30
"""Rim of the page, width of the column of text and room between it and the map, dots."""
TITLE, TEXT, SMALL = 44, 28, 22
"""Heights of letters, dots."""
RIM_FROM = 14
"""Buildings so wide have a white rim that keeps them apart, dots."""
INK, PALE, LINE = "#22282e", "#f8fafb", "#7b8794"
PLAIN = Typeface(None)
SCALE_BARS_M = tuple(step * 10**power for power in range(7) for step in (1, 2, 5))
METRES_PER_DEGREE = 111_195.0
"""Of latitude, on a sphere of 6,371 km."""


def pdf_map(layers: MapLayers) -> bytes:
    """The page as PDF. The same map gives the same bytes."""
    out = io.BytesIO()
    when = time.gmtime(0)  # a time of its making would change the bytes of an equal map
    dates = {"creationDate": when, "modDate": when}
    map_page(layers).save(out, "PDF", resolution=DPI, title=layers.title, quality=90, **dates)
    return out.getvalue()


def map_page(layers: MapLayers) -> Image.Image:
    """The page as a picture."""
    page = Image.new("RGB", PAGE, "white")
    draw = ImageDraw.Draw(page)
    frame = MARGIN, MARGIN, PAGE[0] - MARGIN - COLUMN - GAP, PAGE[1] - MARGIN
    wide, high = frame[2] - frame[0], frame[3] - frame[1]
    map_ = Image.new("RGB", (wide, high), PALE)
    if (view := _view(layers, wide, high)) is not None:
        _draw_map(ImageDraw.Draw(map_), layers, view, (0, 0, wide, high))
    page.paste(map_, frame[:2])
    draw.rectangle(frame, outline=LINE)
    _draw_text(draw, layers, frame[2] + GAP)
    return page


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """How degrees become dots of the page: north is up, a metre is as wide as it is high."""

    west: float
    north: float
    dots_per_degree: tuple[float, float]
    left: float
    top: float

    def dots(self, lonlat_N2: NDArray[np.float64]) -> NDArray[np.float64]:
        """Positions on the page. Longitudes of the other side of 180° are moved beside."""
        lon_N = self.west + np.mod(lonlat_N2[:, 0] - self.west + 180.0, 360.0) - 180.0
        across, down = self.dots_per_degree
        x_N = self.left + (lon_N - self.west) * across
        return np.column_stack([x_N, self.top + (self.north - lonlat_N2[:, 1]) * down])

    def degrees(self, x: float, y: float) -> tuple[float, float]:
        """(latitude, longitude) of a dot."""
        across, down = self.dots_per_degree
        lon = self.west + (x - self.left) / across
        return self.north - (y - self.top) / down, (lon + 180.0) % 360.0 - 180.0

    @property
    def metres_per_dot(self) -> float:
        return METRES_PER_DEGREE / self.dots_per_degree[1]


def _view(layers: MapLayers, wide: int, high: int) -> _View | None:
    """What was found, or else the AOI, in the middle; None where nothing has a place."""
    slides = layers.landslides
    found = [f for f in (layers.buildings, slides) if f is not None and len(f)]
    given = found or [f for f in (layers.areas, layers.cells) if len(f)]
    bounds = [frame.geometry.bounds.to_numpy() for frame in given]
    bounds_N4 = np.concatenate([np.empty((0, 4)), *bounds])
    west_N, south_N, east_N, north_N = bounds_N4[np.isfinite(bounds_N4).all(axis=1)].T
    if not len(west_N):
        return None
    west_N, east_N = spans_side_by_side(west_N, east_N)
    west, south, east, north = west_N.min(), south_N.min(), east_N.max(), north_N.max()
    squeeze = max(math.cos(math.radians((south + north) / 2)), 1e-3)
    pad = 40
    wide, high = wide - 2 * pad, high - 2 * pad
    down = min(wide / max((east - west) * squeeze, 1e-6), high / max(north - south, 1e-6))
    across = down * squeeze
    return _View(
        west=float(west),
        north=float(north),
        dots_per_degree=(across, down),
        left=pad + (wide - (east - west) * across) / 2,
        top=pad + (high - (north - south) * down) / 2,
    )


def _draw_map(
    draw: ImageDraw.ImageDraw, layers: MapLayers, view: _View, frame: tuple[int, int, int, int]
) -> None:
    for shape in layers.areas.geometry:
        _outline(draw, shape, view)
    if layers.landslides is not None:
        _fill(draw, layers.landslides.geometry, view, SLIDE_COLOUR)
    labels = layers.buildings["damage_label"]
    rows = layers.buildings.geometry
    _fill(draw, rows[labels.isna()], view, COLOURS[None])
    for one in layers.classes:
        _fill(draw, rows[(labels == one.label).fillna(False)], view, COLOURS[one.xbd])
    _scale_bar(draw, view, frame)


def _fill(
    draw: ImageDraw.ImageDraw, shapes: Iterable[BaseGeometry], view: _View, colour: str
) -> None:
    for shape in shapes:
        if shape is None or shape.is_empty:
            continue
        for part in shapely.get_parts(shape):
            ring = part.exterior if part.geom_type == "Polygon" else part
            dots_N2 = view.dots(shapely.get_coordinates(ring))
            (left, top), (right, low) = dots_N2.min(axis=0), dots_N2.max(axis=0)
            side = max(right - left, low - top)
            if len(dots_N2) > 2 and side >= 2:
                rim = "white" if side >= RIM_FROM else None
                draw.polygon([tuple(xy) for xy in dots_N2.tolist()], fill=colour, outline=rim)
                for hole in getattr(part, "interiors", ()):
                    inside_N2 = view.dots(shapely.get_coordinates(hole))
                    draw.polygon([tuple(xy) for xy in inside_N2.tolist()], fill=PALE)
            else:
                x, y = round((left + right) / 2), round((top + low) / 2)
                draw.rectangle((x, y, x + 1, y + 1), fill=colour)


def _outline(draw: ImageDraw.ImageDraw, shape: BaseGeometry, view: _View) -> None:
    for part in shapely.get_parts(shape):
        if part.geom_type == "Polygon":
            for ring in shapely.get_rings(part):
                dots_N2 = view.dots(shapely.get_coordinates(ring))
                draw.line([tuple(xy) for xy in dots_N2.tolist()], fill=LINE, width=3)


def _scale_bar(draw: ImageDraw.ImageDraw, view: _View, frame: tuple[int, int, int, int]) -> None:
    fitting = [m for m in SCALE_BARS_M if m / view.metres_per_dot <= 320] or [1]
    length_m = fitting[-1]
    wide = length_m / view.metres_per_dot
    left, low = frame[0] + 30, frame[3] - 30
    text = f"{length_m / 1000:g} km" if length_m >= 1000 else f"{length_m:g} m"
    draw.rectangle((left - 12, low - 52, left + wide + 70, low + 14), fill="white")
    middle = view.degrees((frame[0] + frame[2]) / 2, (frame[1] + frame[3]) / 2)
    text_at = left + wide + 90, low - 26
    draw.text(text_at, "middle {:.4f}, {:.4f}".format(*middle), fill=INK, font=PLAIN.at(SMALL))
    draw.line((left, low, left + wide, low), fill=INK, width=5)
    draw.text((left, low - 44), text, fill=INK, font=PLAIN.at(TEXT))
    draw.text((left + wide + 24, low - 44), "N", fill=INK, font=PLAIN.at(TEXT))
    draw.polygon(
        [(left + wide + 34, low - 14), (left + wide + 26, low + 4), (left + wide + 42, low + 4)],
        fill=INK,
    )


def _draw_text(draw: ImageDraw.ImageDraw, layers: MapLayers, left: int) -> None:
    """The column beside the map, from the top down."""
    y = MARGIN
    y = _lines(draw, (left, y), layers.title, TITLE) + 10
    scenes = sorted(f"{str(s['datetime'])[:10]}  {s['id']}" for s in layers.scenes)
    if layers.headline:
        y = _lines(draw, (left, y), layers.headline, TEXT) + 16
    y = _legend(draw, layers, (left, y)) + 16
    y = _lines(draw, (left, y), layers.caveat, SMALL) + 16
    if layers.event_time is not None:
        y = _lines(draw, (left, y), f"Event: {layers.event_time:%Y-%m-%d %H:%M} UTC", SMALL)
    for text in model_names(layers.run):
        y = _lines(draw, (left, y), f"Model: {text}", SMALL)
    y += 16
    more = [f"… and {len(scenes) - 8} more"] if len(scenes) > 8 else []
    y = _lines(draw, (left, y), "Images", TEXT)
    for text in [*scenes[:8], *more]:
        y = _lines(draw, (left, y), text, SMALL)
    for text in image_credits(layers.scenes):
        y = _lines(draw, (left, y), text, SMALL)
    _lines(
        draw,
        (left, PAGE[1] - MARGIN - SMALL),
        f"quakestream · {layers.run.get('run_id', '')}",
        SMALL,
    )


def _legend(draw: ImageDraw.ImageDraw, layers: MapLayers, at: tuple[int, int]) -> int:
    labels = layers.buildings["damage_label"]
    rows = [
        (COLOURS[one.xbd], one.label, int((labels == one.label).sum()))
        for one in reversed(layers.classes)
    ]
    rows.append((COLOURS[None], "not assessed", int(labels.isna().sum())))
    if not len(labels):
        rows = []
    if layers.landslides is not None:
        rows.append((SLIDE_COLOUR, "landslides", len(layers.landslides)))
    left, y = at
    for colour, name, count in rows:
        draw.rectangle((left, y + 4, left + 26, y + 30), fill=colour)
        y = _lines(draw, (left + 42, y), f"{name}: {count:,}", TEXT)
    return y


def _lines(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, height: int) -> int:
    """Draws a text in lines that fit the column; the height of the place below it."""
    left, y = at
    text, face = lettering(text)
    for line in wrapped(text, face, height, PAGE[0] - MARGIN - left):
        draw.text((left, y), line, fill=INK, font=face.at(height))
        y += round(1.3 * height)
    return y
