"""Administrative units for summary.csv."""

import geopandas as gpd

from quakestream.config import RunFile
from quakestream.domain import Issue
from quakestream.errors import RequestError
from quakestream.storage import local_copy


def read_admin(run: RunFile, issues: list[Issue]) -> tuple[gpd.GeoDataFrame | None, str]:
    """The units of the run file, EPSG:4326, and their id column; None for 500 m squares.

    A file that cannot be used becomes an issue and the squares are taken.
    """
    if run.summary is None:
        return None, ""
    try:
        with local_copy(run.summary.admin, run.storage_options) as path:
            frame = gpd.read_file(path)
        if run.summary.id not in frame.columns:
            columns = ", ".join(c for c in frame.columns if c != "geometry")
            raise RequestError(
                f"no column {run.summary.id!r}", "summary.id", expected=f"one of {columns}"
            )
        return frame.to_crs(4326), run.summary.id
    except (OSError, ValueError, RuntimeError) as error:
        cause = f"cannot be used as administrative units, 500 m squares are used instead: {error}"
        issues.append(Issue(subject=run.summary.admin, kind="admin", cause=cause))
        return None, ""
