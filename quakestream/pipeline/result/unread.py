"""Tells a map that is all holes from a run in which nothing could be read, which is no map."""

from collections.abc import Iterable, Sequence

import geopandas as gpd
import numpy as np

from quakestream.domain import Issue
from quakestream.errors import NothingReadError

UNREAD = ("read_error", "model_error")
"""Reasons of footprints that should have been judged and were not."""
WITHOUT_PIXELS = (*UNREAD, "no_imagery", "no_pre", "outside_model_scale", "invalid_geometry")
"""Reasons that need no pixel: where all rows have one of them, no scene was read."""
SHOWN = 3
"""Causes that the error names."""


def check_something_was_read(reasons: Iterable[str | None], issues: Sequence[Issue]) -> None:
    """Does nothing if a pixel was read, or if there was none to read.

    Args:
        reasons: of each footprint; None for one that was assessed.
        issues: faults of the inputs, for the message.

    Raises:
        NothingReadError: footprints should have been judged, and nothing could be read or scored.
    """
    reason_N = np.array([reason or "" for reason in reasons], np.str_)
    unread = int(np.isin(reason_N, UNREAD).sum())
    # where a scene was lost, "no imagery" of all may say no more than that it could not be opened
    lost = any(i.kind == "scene" for i in issues) and (reason_N == "no_imagery").all()
    if not unread and not (len(reason_N) and lost):
        return
    if not np.isin(reason_N, WITHOUT_PIXELS).all():
        return
    kinds = ", ".join(name for name in UNREAD if (reason_N == name).any()) or "no_imagery"
    raise NothingReadError(
        f"no footprint could be read: {unread or len(reason_N):,} of {len(reason_N):,} {kinds}",
        got=_causes(issues),
        remedy=_NOTHING_PUBLISHED,
    )


def check_ground_was_read(coverage: gpd.GeoDataFrame, issues: Sequence[Issue]) -> None:
    """Does nothing if a pixel was read, or if there was none to read.

    Args:
        coverage: rows of a run without a damage model.
        issues: faults of the inputs, for the message.

    Raises:
        NothingReadError: ground should have been scored, and nothing could be read or scored.
    """
    unread = int(coverage["reason"].isin(UNREAD).sum())
    lost = any(i.kind == "scene" for i in issues) and not (coverage["status"] == "scored").any()
    if not (unread or lost) or coverage["valid_fraction"].notna().any():
        return
    raise NothingReadError(
        f"no ground could be read: {unread or len(coverage):,} of {len(coverage):,} cells",
        got=_causes(issues),
        remedy=_NOTHING_PUBLISHED,
    )


_NOTHING_PUBLISHED = (
    "nothing was published, and an earlier map stays as it is; remove the cause and "
    "run the same command again"
)


def _causes(issues: Sequence[Issue]) -> str:
    causes = list(dict.fromkeys(i.cause for i in issues if i.kind not in ("item", "footprint")))
    more = f"; and {len(causes) - SHOWN} more causes" if len(causes) > SHOWN else ""
    return " | ".join(causes[:SHOWN]) + more
