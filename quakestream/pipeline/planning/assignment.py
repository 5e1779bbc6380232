"""Which views each footprint is judged from."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from quakestream.catalog import Footprints, Views, assign_views
from quakestream.domain import BundleSpec, Scene, View
from quakestream.pipeline.planning.scenes import EpochScenes

COARSE_SHOWN = 3
"""Scenes too coarse for a bundle that are named; the others are counted."""
MAX_SCALE = 2.0
"""Scenes coarser than this many times the bundle's GSD cannot show what the model knows."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Assignment:
    """Footprints and the views they are judged from."""

    views: tuple[View, ...]
    footprint_A: NDArray[np.int64]
    view_A: NDArray[np.int64]
    """Pairs of footprint and view, in order of footprint, best view first."""
    reason_N: NDArray[np.object_]
    """Why a footprint has no view, None where it has one."""

    @classmethod
    def of(cls, parts: list[Views], invalid_N: NDArray[np.bool_]) -> Self:
        """Joins assignments; a footprint with an invalid outline has no view."""
        views: dict[str, View] = {}
        pairs: dict[tuple[int, int], None] = {}
        reason_N = np.full(len(invalid_N), None, object)
        place: dict[str, int] = {}
        for part in parts:
            for view in part.views:
                place.setdefault(view.id, len(place))
                views.setdefault(view.id, view)
            assigned = np.flatnonzero((np.asarray(part.view_of_N) >= 0) & ~invalid_N)
            for footprint in assigned.tolist():
                pairs[footprint, place[part.views[int(part.view_of_N[footprint])].id]] = None
        footprint_A = np.array([f for f, _ in pairs], np.int64)
        view_A = np.array([v for _, v in pairs], np.int64)
        order = np.argsort(footprint_A, kind="stable")
        for part in parts:  # keep the reason of the view that came nearest to showing it
            missing = np.array([r is not None for r in part.reason_of_N], np.bool_)
            keep = missing & (reason_N != "no_pre")
            reason_N[keep] = part.reason_of_N[keep]
        reason_N[footprint_A] = None
        reason_N[invalid_N] = "invalid_geometry"
        return cls(
            views=tuple(views.values()),
            footprint_A=footprint_A[order],
            view_A=view_A[order],
            reason_N=reason_N,
        )

    @classmethod
    def none(cls, count: int) -> Self:
        """For a run that judges no building."""
        none = np.empty(0, np.int64)
        reason_N = np.full(count, "no_model", object)
        return cls(views=(), footprint_A=none, view_A=none, reason_N=reason_N)

    @property
    def views_N(self) -> NDArray[np.int64]:
        """Number of views of each footprint."""
        return np.bincount(self.footprint_A, minlength=len(self.reason_N))


def sharp(scenes: Sequence[Scene], spec: BundleSpec) -> list[Scene]:
    """Scenes fine enough for a bundle."""
    return [s for s in scenes if (s.gsd_m or 0) <= MAX_SCALE * spec.gsd_m]


def not_used(post: EpochScenes, spec: BundleSpec, views: Iterable[View]) -> tuple[str, ...]:
    """Ids of images after the event that are sharp enough, and show no building better."""
    used = {part.id for view in views for part in view.files}
    scenes = sharp(post.scenes, spec)
    return tuple(s.id for s in scenes if used.isdisjoint(part.id for part in s.parts))


def coarse_notes(epochs: Iterable[EpochScenes], spec: BundleSpec) -> tuple[str, ...]:
    """Names the scenes that are too coarse for a bundle; empty where none is."""
    scenes = [scene for epoch in epochs for scene in epoch.scenes]
    coarse = [s for s in scenes if (s.gsd_m or 0) > MAX_SCALE * spec.gsd_m]
    if not coarse:
        return ()
    shown = ", ".join(f"{s.id} ({s.gsd_m:g} m)" for s in coarse[:COARSE_SHOWN])
    more = f" and {len(coarse) - COARSE_SHOWN:,} more" if len(coarse) > COARSE_SHOWN else ""
    number = "1 scene is" if len(coarse) == 1 else f"{len(coarse):,} scenes are"
    return (
        f"{number} too coarse for {spec.name}, which takes pixels of up to "
        f"{MAX_SCALE * spec.gsd_m:g} m: {shown}{more}",
    )


def assign(
    footprints: Footprints,
    post: EpochScenes,
    pre: EpochScenes,
    spec: BundleSpec,
    *,
    all_views: bool,
) -> Assignment:
    """Views per footprint.

    Footprints that only coarser scenes show get a reason of their own, and so do those that
    only scenes show which cannot be opened.
    """
    sharp_post, sharp_pre = sharp(post.scenes, spec), sharp(pre.scenes, spec)
    groups = [sharp_post]
    if all_views:
        groups += [[scene] for scene in sharp_post]  # the best view stays the first
    parts = [assign_views(footprints, g, sharp_pre, spec.needs_pre) for g in groups]
    assignment = Assignment.of(parts, np.asarray(footprints.invalid))
    reason_N = assignment.reason_N.copy()
    open_N = (assignment.views_N == 0) & ~np.asarray(footprints.invalid)
    coarse = len(post.scenes) + len(pre.scenes) > len(sharp_post) + len(sharp_pre)
    for reason, there_is_more, more_post, more_pre in (
        ("read_error", post.unusable or pre.unusable, post.listed(), pre.listed()),
        ("outside_model_scale", coarse, post.scenes, pre.scenes),
    ):
        if there_is_more:
            there = assign_views(footprints, more_post, more_pre, spec.needs_pre)
            reason_N[open_N & (np.asarray(there.view_of_N) >= 0)] = reason
    return replace(assignment, reason_N=reason_N)
