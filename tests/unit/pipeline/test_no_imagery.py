"""A search without an image after the event says what was searched and what is there."""

import json
from pathlib import Path
from typing import Any

import pytest

from quakestream.bundles import load_bundle
from quakestream.catalog import read_aoi
from quakestream.config import open_run
from quakestream.errors import NoImageryError, Problem
from quakestream.pipeline.planning.imagery import find_imagery
from tests.unit.catalog.test_search import StacApi, api, item

__all__ = ["api"]
HERE, ELSEWHERE = "37,37,38,38", "10,50,11,51"
WAITS = "; `quakestream watch` waits for the first image"


def refusal(catalog: str, aoi: str = HERE, **post: Any) -> Problem:
    """What a run is told whose dates are March 2023."""
    run = open_run(
        {
            "event": {"id": "e", "time": "2023-02-06T01:17:34Z"},
            "aoi": aoi,
            "imagery": {
                "catalog": catalog,
                "post": {"datetime": "2023-03-01/2023-03-31"} | post,
                "pre": {"datetime": "2018-01-01/2023-02-05"},
            },
            "footprints": {"path": "none.gpkg"},
            "models": {"damage": "damage-turkiye-2023"},
        }
    )
    with pytest.raises(NoImageryError) as raised:
        find_imagery(run, read_aoi(aoi), [load_bundle("damage-turkiye-2023").spec])
    return raised.value.problem


def listed(folder: Path, *items: dict[str, Any]) -> str:
    path = folder / "items.ndjson"
    path.write_text("\n".join(map(json.dumps, items)))
    return str(path)


def test_dates_that_exclude_everything_are_named(tmp_path: Path) -> None:
    before = item("before", "2022-05-01T08:00:00Z")
    catalog = listed(tmp_path, item("a"), item("b", "2023-02-09T08:00:00Z"), before)
    told = refusal(catalog, max_cloud=60)
    assert told.expected == (
        f"a scene of {catalog} in 37.0000, 37.0000, 38.0000, 38.0000 at 2023-03-01/2023-03-31 "
        "with max_cloud 60"
    )
    assert told.got == (
        "3 items in the catalogue, 3 of them in the AOI: 2 at other times (2023-02-07 to "
        "2023-02-09), 1 in imagery.pre.datetime"
    )
    assert told.remedy == "check imagery.post.datetime" + WAITS


def test_filters_that_exclude_everything_are_named(tmp_path: Path) -> None:
    when = "2023-03-07T08:00:00Z"
    cloudy = [item(f"c{n}", when, **{"eo:cloud_cover": n}) for n in (71, 88)]
    oblique = item("o", when, **{"view:off_nadir": 45.5})
    told = refusal(listed(tmp_path, *cloudy, oblique), max_cloud=60, max_off_nadir=40)
    assert told.expected.endswith("with max_cloud 60 and max_off_nadir 40")
    assert told.got.endswith(
        "3 of them in the AOI: 2 above max_cloud 60 (the clearest 71 %), 1 above max_off_nadir 40 "
        "(the steepest 45.5°)"
    )
    assert told.remedy == (
        "raise imagery.post.max_cloud or raise imagery.post.max_off_nadir" + WAITS
    )


def test_a_catalogue_of_another_place_is_named(tmp_path: Path) -> None:
    told = refusal(listed(tmp_path, item("a")), ELSEWHERE)
    assert told.got == "1 item in the catalogue, 0 of them in the AOI"
    assert told.remedy == "check the AOI and imagery.catalog" + WAITS


def test_a_service_is_asked_once_more_for_any_date(api: tuple[str, type[StacApi]]) -> None:
    root, handler = api
    told = refusal(f"{root}/")
    assert "3 or more items in the catalogue, 3 of them in the AOI" in told.got
    assert "3 at other times (2023-02-07)" in told.got
    assert "datetime" not in handler.searches[-1]
    assert sum("datetime" not in query for query in handler.searches) == 1, "a page, not all"
    handler.items = []
    assert refusal(f"{root}/").got == "0 items in the catalogue"
