"""Administrative units for summary.csv."""

from dataclasses import dataclass

import geopandas as gpd
import numpy as np

from quakestream.config import SummarySection
from quakestream.errors import RequestError
from quakestream.storage import StorageOptions
from quakestream.tiling.antimeridian import cut_at_180
from quakestream.vectors import Attributes, VectorRequest, read_vectors


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AdminUnits:
    """Polygons of districts or provinces."""

    table: gpd.GeoDataFrame
    """EPSG:4326, cut at 180°."""
    id_column: str
    """The column with the names of units."""
    code_column: str | None = None
    """The column with their codes (P-codes)."""


def read_admin(summary: SummarySection | None, options: StorageOptions) -> AdminUnits | None:
    """The units of a run file; None where it names none and 500 m squares are taken.

    Raises:
        RequestError: if the file, its layer or a column is unusable.
        StorageError: if the store fails.
    """
    if summary is None:
        return None
    columns = (summary.id, *((summary.pcode,) if summary.pcode else ()))
    request = VectorRequest(
        uri=summary.admin,
        layer=summary.layer,
        attributes=Attributes(
            required=columns, remedy="name the column of a unit's name with summary.id"
        ),
    )
    table = read_vectors(request, options, RequestError)
    shapes = cut_at_180(np.asarray(table.geometry.values, object))
    table = table.set_geometry(gpd.GeoSeries(list(shapes), index=table.index, crs=table.crs))
    return AdminUnits(table=table, id_column=summary.id, code_column=summary.pcode)
