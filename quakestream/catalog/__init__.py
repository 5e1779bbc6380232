"""STAC search, static catalogues, vendor quirks, footprints, pairing and coverage."""

from quakestream.catalog.acquisitions import acquisitions, of_tiles
from quakestream.catalog.admin import AdminUnits, read_admin
from quakestream.catalog.aoi import read_aoi
from quakestream.catalog.doubtful_outlines import building_doubts
from quakestream.catalog.extents import extent_issues, scene_extent
from quakestream.catalog.footprints import FootprintRequest, Footprints, read_footprints
from quakestream.catalog.ground import view_rank, views_of_ground
from quakestream.catalog.pairing import Views, assign_views, coverage_reasons
from quakestream.catalog.search import SearchResult, find_items, search
from quakestream.catalog.times_file import read_times
from quakestream.catalog.writing import WrittenCatalogue, write_catalogue

__all__ = [
    "AdminUnits",
    "FootprintRequest",
    "Footprints",
    "SearchResult",
    "Views",
    "WrittenCatalogue",
    "acquisitions",
    "assign_views",
    "building_doubts",
    "coverage_reasons",
    "extent_issues",
    "find_items",
    "of_tiles",
    "read_admin",
    "read_aoi",
    "read_footprints",
    "read_times",
    "scene_extent",
    "search",
    "view_rank",
    "views_of_ground",
    "write_catalogue",
]
