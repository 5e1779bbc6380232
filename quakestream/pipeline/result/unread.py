"""Tells a map that is all holes from a run in which nothing could be read, which is no map."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import geopandas as gpd
import numpy as np

from quakestream.domain import Issue
from quakestream.errors import NoPairError, NothingReadError

UNREAD = ("read_error", "model_error")
"""Reasons of footprints that should have been judged and were not."""
WITHOUT_PIXELS = (*UNREAD, "no_imagery", "no_pre", "outside_model_scale", "invalid_geometry")
"""Reasons that need no pixel: where all rows have one of them, no scene was read."""
LOST = ("item", "scene")
"""Kinds of issues of images that were left out."""
SHOWN = 3
"""Causes that the error names."""


def check_something_is_shown(reasons: Iterable[str | None], issues: Sequence[Issue]) -> None:
    """Refuses a run that has nothing to read, since no building has the images it needs.

    Args:
        reasons: of each footprint of a plan without units.
        issues: faults of the inputs that planning found.

    Raises:
        NothingReadError: images were left out for a fault, so that another try may find some.
        NoPairError: no image was left out: the AOI, the dates or the catalogue are wrong.
    """
    counts = Counter(reason or "covered" for reason in reasons)
    if not counts.keys() - {"invalid_geometry"}:
        return  # images have nothing to do with it
    told = f"no building can be assessed: {_counted(counts)}"
    if any(issue.kind in LOST for issue in issues) or not counts.keys().isdisjoint(UNREAD):
        raise NothingReadError(told, got=_causes(issues), remedy=_NOTHING_PUBLISHED)
    raise NoPairError(
        told,
        "imagery.pre" if counts.keys() == {"no_pre"} else "imagery",
        expected="images over a building from before and after the event, as the model needs them",
        remedy=f"nothing was published; {_WHERE_TO_LOOK}, and `quakestream plan` says more",
    )


def check_verdicts_stay(
    reasons: Iterable[str | None], published: Mapping[str, Any], issues: Sequence[Issue]
) -> None:
    """Keeps a map that has verdicts from being replaced by one that has none.

    Args:
        reasons: of each footprint of the new map; None for one that was assessed.
        published: run.json of the map that is there; empty where there is none.
        issues: faults of the inputs, for the message.

    Raises:
        NothingReadError: nothing was assessed, and the map that is there has verdicts.
    """
    had = int(published.get("counts", {}).get("assessed") or 0)
    counts = Counter(
        reason if isinstance(reason, str) else "" for reason in reasons
    )  # a table: NaN
    if not had or "" in counts:
        return
    lost = _causes(issues)
    raise NothingReadError(
        f"no building could be assessed: {_counted(counts)}",
        got=lost or "images that show no building",
        remedy=(
            f"nothing was published, and the earlier map with {had:,} assessed stays as it is; "
            f"{_WHERE_TO_LOOK}, or give another --out for a map without verdicts"
        ),
    )


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


_WHERE_TO_LOOK = "check the AOI, the dates and the catalogue"


def _counted(counts: Mapping[str, int]) -> str:
    """`447 of 447 no_pre`, or `29 no_imagery, 3 no_pre of 32`."""
    total = sum(counts.values())
    if len(counts) == 1:
        return f"{total:,} of {total:,} {next(iter(counts))}"
    return ", ".join(f"{n:,} {reason}" for reason, n in sorted(counts.items())) + f" of {total:,}"


def _causes(issues: Sequence[Issue]) -> str:
    """The first causes; items, which have no file that could be opened, where there is no other."""
    causes = list(dict.fromkeys(i.cause for i in issues if i.kind not in ("item", "footprint")))
    if not causes:
        named = (f"{i.subject}: {i.cause.removeprefix(f'{i.subject}: ')}" for i in issues)
        items = (name for name, i in zip(named, issues, strict=True) if i.kind == "item")
        causes = list(dict.fromkeys(items))
    more = f"; and {len(causes) - SHOWN} more causes" if len(causes) > SHOWN else ""
    return " | ".join(causes[:SHOWN]) + more
