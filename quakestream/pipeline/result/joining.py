"""The products of a run out of those of its jobs."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence

import geopandas as gpd
import pandas as pd

from quakestream.domain import Issue
from quakestream.outputs.coverage import BUILDINGS, KIND, LANDSLIDES
from quakestream.outputs.products import LargeProduct
from quakestream.pipeline.result.context import KindProducts, RunContext
from quakestream.pipeline.result.rows import unjudged_rows
from quakestream.pipeline.result.slide_contacts import with_contacts, with_roads


def joined(products: Sequence[KindProducts], context: RunContext) -> KindProducts:
    """All products of a run, with what landslides and buildings say of each other.

    Its issues are those found here, not those of the jobs.
    """
    buildings = next((p.buildings for p in products if p.buildings is not None), None)
    if buildings is None:
        buildings = unjudged_rows(context)
    slides = next((p.landslides for p in products if p.landslides is not None), None)
    coverage = [p.coverage for p in products if p.coverage is not None]
    issues: tuple[Issue, ...] = ()
    if slides is not None:
        slides, buildings = with_contacts(slides, buildings, context.plan)
        slides, issues = with_roads(slides, context.plan.run)
        coverage = _named(products)
    names = dict.fromkeys(name for p in products for name in p.large)
    large = {n: _one([p.large[n] for p in products if n in p.large]) for n in names}
    return KindProducts(
        buildings=buildings,
        landslides=slides,
        coverage=gpd.GeoDataFrame(pd.concat(coverage, ignore_index=True), crs=4326),
        large=large,
        record={key: value for p in products for key, value in p.record.items()},
        issues=issues,
    )


def _named(products: Iterable[KindProducts]) -> list[gpd.GeoDataFrame]:
    """Coverage with a column that says what cells were read for."""
    return [
        p.coverage.assign(**{KIND: BUILDINGS if p.landslides is None else LANDSLIDES})
        for p in products
        if p.coverage is not None
    ]


def _one(parts: Sequence[LargeProduct]) -> LargeProduct:
    """A product of which several jobs make a part."""
    if len(parts) == 1:
        return parts[0]

    def objects() -> Iterator[tuple[str, bytes]]:
        for part in parts:
            yield from part.objects()

    text = "".join(part.identity for part in parts)
    return LargeProduct(identity=hashlib.sha256(text.encode()).hexdigest(), objects=objects)
