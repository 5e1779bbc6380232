"""The table of products: what is written under a run's output, and by which function.

To add a product, write its file, add a row here, and name it in `config/fields.py` if a run file
has to ask for it. docs/extending.md shows how.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import geopandas as gpd

from quakestream.outputs.areas import areas_parquet
from quakestream.outputs.buildings import buildings_parquet
from quakestream.outputs.coverage import coverage_parquet
from quakestream.outputs.exports import EXPORTS
from quakestream.outputs.landslides import landslides_parquet, ordered_landslides
from quakestream.outputs.layout import SCORES
from quakestream.outputs.map_layers import MapLayers, layers_of
from quakestream.outputs.products import LargeProduct, RunProducts
from quakestream.outputs.quarantine import quarantine_parquet
from quakestream.outputs.readback import table_of
from quakestream.outputs.report import REPORTED, report_page
from quakestream.outputs.summary import summary_csv, summary_of
from quakestream.outputs.viewer import viewer_html


@dataclass(frozen=True, kw_only=True, eq=False)
class PublishContext:
    """What products are written from."""

    products: RunProducts
    rows: gpd.GeoDataFrame
    """Rows of `products.buildings` in the order of the product."""
    now: datetime
    first_seen: Mapping[tuple[str, str, str], datetime]
    """When each issue was published first, for issues of the map that is there already."""

    @cached_property
    def layers(self) -> MapLayers:
        """The features of the map, from which files for other programs are written."""
        return layers_of(self.products, self.rows)


def _buildings(context: PublishContext) -> bytes:
    products = context.products
    return buildings_parquet(context.rows, products.labels, products.layers)


def _coverage(context: PublishContext) -> bytes:
    return coverage_parquet(context.products.coverage)


def _quarantine(context: PublishContext) -> bytes:
    now = context.now.replace(microsecond=0)
    return quarantine_parquet(context.products.issues, now, dict(context.first_seen))


def _summary(context: PublishContext) -> bytes:
    return summary_csv(summary_of(context.products, context.rows))


def _landslides(context: PublishContext) -> bytes | None:
    slides = context.products.landslides
    return None if slides is None else landslides_parquet(ordered_landslides(slides))


def _areas(context: PublishContext) -> bytes:
    return areas_parquet(context.products)


TABLES: Mapping[str, Callable[[PublishContext], bytes | None]] = {
    "buildings.parquet": _buildings,
    "coverage.parquet": _coverage,
    "quarantine.parquet": _quarantine,
    "summary.csv": _summary,
    "areas.parquet": _areas,
    "landslides.parquet": _landslides,
    "prior.tif": lambda context: context.products.prior,
    "verification.json": lambda context: context.products.verification.get("verification.json"),
    "answers.csv": lambda context: context.products.verification.get("answers.csv"),
}
"""Products that every map has; None for one that this map has nothing of. Their content
identifies a snapshot."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PageContext(PublishContext):
    """What pages are written from."""

    run: dict[str, Any]
    """The content of run.json."""
    tables: Mapping[str, bytes]
    """The products of `TABLES`."""


def _index(context: PageContext) -> bytes:
    return viewer_html(context.products, context.rows, context.run)


def _report(context: PageContext) -> bytes:
    summary, quarantine = (table_of(name, context.tables[name]) for name in REPORTED)
    return report_page(context.run, summary, quarantine)


PAGES: Mapping[str, Callable[[PageContext], bytes]] = {
    "index.html": _index,
    "report.html": _report,
}
"""Products that show what the others hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionalProduct:
    """A product that a run file asks for under `outputs`. It may be many large objects."""

    objects: Callable[[PublishContext], Iterator[tuple[str, bytes]]]
    """Names and contents, one in memory at a time."""
    identity: Callable[[PublishContext], str]
    """Digest of the content, known without making it: it identifies a snapshot too."""
    prefix: str
    """Where the objects lie."""
    of_rows: bool = False
    """Whether it is written from the rows, so that a map with other rows has another one."""


_NOTHING = LargeProduct(identity=hashlib.sha256(b"").hexdigest(), objects=lambda: iter(()))


def _made_by_kind(name: str, prefix: str) -> OptionalProduct:
    """A product whose objects the kind of that name in `kinds/table.py` makes."""
    return OptionalProduct(
        objects=lambda context: context.products.large.get(name, _NOTHING).objects(),
        identity=lambda context: context.products.large.get(name, _NOTHING).identity,
        prefix=prefix,
    )


def _exported(name: str) -> OptionalProduct:
    """A file for other programs. Its content follows from the tables and its format."""
    made = EXPORTS[name]
    return OptionalProduct(
        objects=lambda context: made.files(context.layers),
        identity=lambda _: name,
        prefix=made.prefix,
        of_rows=True,
    )


OPTIONAL: Mapping[str, OptionalProduct] = {
    "scores": _made_by_kind("scores", SCORES),
    **{name: _exported(name) for name in EXPORTS},
}
"""Products by the name they have under `outputs` in a run file."""
