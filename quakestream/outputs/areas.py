"""areas.parquet: outlines of the AOI and of the districts that summary.csv counts by."""

import geopandas as gpd
import pandas as pd
import pyarrow as pa

from quakestream.outputs.geoparquet import geoparquet_bytes
from quakestream.outputs.products import RunProducts
from quakestream.outputs.units import UNNAMED, as_text

AREA_TYPES: dict[str, pa.DataType] = {"kind": pa.string(), "name": pa.string(), "code": pa.string()}
AOI, DISTRICT = "aoi", "district"
"""Values of `kind`."""


def areas_frame(products: RunProducts) -> gpd.GeoDataFrame:
    """The AOI, then the districts in the order of their file, EPSG:4326."""
    aoi = [] if products.aoi is None else [products.aoi]
    kinds, names, shapes = [AOI] * len(aoi), [""] * len(aoi), list(aoi)
    codes: list[str | None] = [None] * len(aoi)
    if products.admin is not None:
        admin = products.admin.to_crs(4326)
        kinds += [DISTRICT] * len(admin)
        names += [UNNAMED if pd.isna(n) else as_text(n) for n in admin[products.admin_id]]
        shapes += admin.geometry.tolist()
        coded = admin[products.admin_code] if products.admin_code else [None] * len(admin)
        codes += [None if pd.isna(code) else as_text(code) for code in coded]
    columns = {"kind": kinds, "name": names, "code": codes}
    return gpd.GeoDataFrame(columns, geometry=shapes, crs=4326)


def areas_parquet(products: RunProducts) -> bytes:
    """The areas as GeoParquet 1.1."""
    return geoparquet_bytes(areas_frame(products), AREA_TYPES)
