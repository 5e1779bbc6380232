"""What is known of missions whose items say little: band numbers, scale, offset, nodata.

Sentinel-2: since processing baseline 04.00 (25 January 2022) counts are 1,000 higher, so that dark
pixels are not cut off (ESA, "Sentinel-2 Products Specification", RADIO_ADD_OFFSET and
BOA_ADD_OFFSET). Some catalogues took that off again and say so. HLS: user guide v2.0, table 10.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Document = Mapping[str, Any]
SHIFTED_SINCE = 4.0
"""Processing baseline of Sentinel-2 from which counts are shifted."""
SENTINEL_2_SCALE, SENTINEL_2_OFFSET = 0.0001, -0.1
HLS_SCALE, HLS_NODATA = 0.0001, -9999.0
_BASELINE = re.compile(r"_N(\d{2})(\d{2})_")
_BASELINE_KEYS = (
    "s2:processing_baseline",
    "sentinel2:processing_baseline",
    "sentinel:processing_baseline",
    "processing:version",
)
_APPLIED_KEYS = (
    "earthsearch:boa_offset_applied",
    "sentinel:boa_offset_applied",
    "sentinel2:boa_offset_applied",
)
_PRODUCT_KEYS = ("s2:product_uri", "s2:product_id", "sentinel:product_id", "title")


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What counts of a band mean: reflectance = scale × count + offset. None where it is open."""

    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None


def mission_of(item: Document) -> str:
    """A key of `domain.spectrum.NUMBERED`; empty for other missions."""
    properties = _properties(item)
    name, collection = str(item.get("id") or ""), str(item.get("collection") or "").lower()
    hls = re.match(r"(?i)hls[.\-_]?(s|l)30", name) or re.match(r"hls(?:2-)?(s|l)30", collection)
    if hls:
        return f"hls-{hls[1].lower()}30"
    said = " ".join(
        str(properties.get(key) or "").lower() for key in ("platform", "constellation", "mission")
    )
    if "sentinel-2" in said or "sentinel-2" in collection or re.match(r"S2[A-D]_", name):
        return "sentinel-2"
    if re.search(r"landsat-[89]", said) or re.match(r"L[CO]0[89]_", name):
        return "landsat"
    return ""


def known_meaning(item: Document, mission: str, stated: Meaning) -> Meaning:
    """What counts mean by the item's own words, completed by what is known of its mission."""
    if mission == "sentinel-2":
        scale = SENTINEL_2_SCALE if stated.scale is None else stated.scale
        nodata = 0.0 if stated.nodata is None else stated.nodata
        return Meaning(scale=scale, offset=_sentinel_2_offset(item, stated, scale), nodata=nodata)
    if mission.startswith("hls-"):
        return Meaning(
            scale=HLS_SCALE if stated.scale is None else stated.scale,
            offset=0.0 if stated.offset is None else stated.offset,
            nodata=HLS_NODATA if stated.nodata is None else stated.nodata,
        )
    if stated.scale is None and stated.offset is None:
        return stated
    return Meaning(
        scale=1.0 if stated.scale is None else stated.scale,
        offset=0.0 if stated.offset is None else stated.offset,
        nodata=stated.nodata,
    )


def _sentinel_2_offset(item: Document, stated: Meaning, scale: float) -> float:
    """The offset, once: 0 where the catalogue took it off, even if its items still state it."""
    properties = _properties(item)
    if any(properties.get(key) in (True, "true", "True") for key in _APPLIED_KEYS):
        return 0.0
    if stated.offset is not None:
        return stated.offset
    shifted = baseline_of(item) >= SHIFTED_SINCE
    return SENTINEL_2_OFFSET * scale / SENTINEL_2_SCALE if shifted else 0.0


def baseline_of(item: Document) -> float:
    """Processing baseline of a Sentinel-2 item, such as 4.0; 0 where it says nothing."""
    properties = _properties(item)
    for key in _BASELINE_KEYS:
        try:
            return float(properties[key])
        except (KeyError, TypeError, ValueError):
            continue
    for text in (*(properties.get(key) for key in _PRODUCT_KEYS), item.get("id")):
        if found := _BASELINE.search(str(text or "")):
            return float(f"{found[1]}.{found[2]}")
    return 0.0


def _properties(item: Document) -> Document:
    properties = item.get("properties")
    return properties if isinstance(properties, Mapping) else {}
