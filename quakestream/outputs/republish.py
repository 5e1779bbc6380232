"""The products of a finished map, so that it can be published again with other rows.

No pixel is read: pictures of the page are taken over from the page.
"""

import io
import json
import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import geopandas as gpd
from shapely.geometry.base import BaseGeometry

from quakestream.domain import Issue
from quakestream.errors import StorageError
from quakestream.outputs.areas import AOI, DISTRICT
from quakestream.outputs.buildings import arrow_types
from quakestream.outputs.fixed_names import inventory
from quakestream.outputs.products import LargeProduct, RunProducts
from quakestream.outputs.readback import current_object, current_table, scale_of
from quakestream.outputs.table import OPTIONAL
from quakestream.storage import MissingObjectError, Store

_ADDED = ("snapshot", "published", "products", "damage_scale")
"""Keys of run.json that publishing adds."""


def snapshot_products(store: Store, run: Mapping[str, Any]) -> RunProducts:
    """The products of a snapshot, as a run would publish them.

    Raises:
        StorageError: if a product is missing or damaged.
    """
    known = dict(run)
    rows = _frame(store, known, "buildings.parquet")
    assert rows is not None
    areas = _frame(store, known, "areas.parquet")
    labels = tuple(c.label for c in scale_of(known))
    columns = {*arrow_types(labels, tuple(rows.columns)), "geometry", "bbox"}
    coverage = _frame(store, known, "coverage.parquet")
    assert coverage is not None
    return RunProducts(
        buildings=rows,
        coverage=coverage,
        landslides=_frame(store, known, "landslides.parquet"),
        prior=_bytes(store, known, "prior.tif"),
        **_optional(store, known),
        issues=[
            Issue(
                subject=one["subject"],
                kind=one["kind"],
                cause=one["cause"],
                attempts=int(one["attempts"]),
                retryable=bool(one["retryable"]),
            )
            for one in current_table(store, known, "quarantine.parquet").to_dict("records")
        ],
        run={key: value for key, value in known.items() if key not in _ADDED},
        classes=scale_of(known),
        layers=tuple(c for c in rows.columns if c not in columns),
        **_areas(areas),
        pictures=tuple(_pictures(store, known)),
    )


def _frame(store: Store, run: dict[str, Any], name: str) -> gpd.GeoDataFrame | None:
    data = _bytes(store, run, name)
    if data is None:
        return None
    frame = gpd.read_parquet(io.BytesIO(data))
    return frame.drop(columns="bbox", errors="ignore")


def _bytes(store: Store, run: dict[str, Any], name: str) -> bytes | None:
    try:
        return current_object(store, run, name)
    except MissingObjectError:
        return None


def _areas(areas: gpd.GeoDataFrame | None) -> dict[str, Any]:
    """The AOI and the districts as fields of `RunProducts`."""
    if areas is None:
        return {}
    outlines = areas.geometry[areas["kind"] == AOI]
    aoi: BaseGeometry | None = outlines.iloc[0] if len(outlines) else None
    districts = areas[areas["kind"] == DISTRICT]
    if districts.empty:
        return {"aoi": aoi}
    coded = "code" in districts and bool(districts["code"].notna().any())
    code = {"admin_code": "code"} if coded else {}
    return {"aoi": aoi, "admin": districts, "admin_id": "name", **code}


def _optional(store: Store, run: dict[str, Any]) -> dict[str, Any]:
    """Optional products as they are, but those of the rows are written anew."""
    outputs, large = [], {}
    for name, extra in OPTIONAL.items():
        entries = {k: v for k, v in inventory(run).items() if k.startswith(extra.prefix)}
        if not entries:
            continue
        outputs.append(name)
        if extra.of_rows:
            continue
        identity = " ".join(str(one["sha256"]) for one in entries.values())
        large[name] = LargeProduct(
            identity=identity, objects=partial(_copies, store, run, tuple(entries))
        )
    return {"outputs": tuple(outputs), "large": large}


def _copies(
    store: Store, run: dict[str, Any], names: tuple[str, ...]
) -> Iterator[tuple[str, bytes]]:
    for name in names:
        yield name, current_object(store, run, name)


def _pictures(store: Store, run: dict[str, Any]) -> list[dict[str, Any]]:
    """Pictures in the index.html of a snapshot; none if it cannot be read."""
    try:
        text = current_object(store, run, "index.html").decode()
    except (StorageError, UnicodeDecodeError):
        return []
    found = re.search(r'<script type="application/json" id="data-pictures">(.*?)</script>', text)
    return list(json.loads(found.group(1))) if found else []
