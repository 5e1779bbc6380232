"""index.html in a real browser, from disk: it draws, it filters, it asks nothing of a network."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from quakestream.domain import Issue, ScaleClass, View
from quakestream.outputs.products import RunProducts
from quakestream.outputs.publish import publish
from quakestream.outputs.readback import current_buildings, current_run
from quakestream.storage import open_store
from tests.helpers.browsing import Browser, opened_browser
from tests.helpers.grey_scenes import NORTH, WEST, grey_scene

pytestmark = [pytest.mark.browser, pytest.mark.alone, pytest.mark.usefixtures("pictures")]

HOSTILE = '<img src="https://evil.example/x" onerror="document.title=\'owned\'">'
SCALE = tuple(
    ScaleClass(index=i, label=label, xbd=xbd, ems98=(i,), copernicus=copernicus)
    for i, (label, xbd, copernicus) in enumerate(
        (
            ("intact", "no", "No visible damage"),
            ("damaged", "major", "Damaged"),
            ("destroyed", "destroyed", "Destroyed"),
        )
    )
)


def _buildings(n: int = 60) -> gpd.GeoDataFrame:
    """Squares of 8 m on a lattice over the scene; one has a hostile id."""
    rng = np.random.default_rng(5)
    east, north = WEST + 12 + 18.0 * (np.arange(n) % 10), NORTH - 20 - 20.0 * (np.arange(n) // 10)
    shapes = gpd.GeoSeries(shapely.box(east, north, east + 8, north + 8), crs=32637).to_crs(4326)
    p_NK = rng.dirichlet([2, 1, 1], n)
    lost = np.arange(n) % 7 == 6
    frame = gpd.GeoDataFrame(
        {
            "building_id": [HOSTILE, *(f"b{i:02d}" for i in range(1, n))],
            "status": np.where(lost, "not_assessed", "assessed"),
            "reason": np.where(lost, np.where(np.arange(n) % 2, "cloud", "nodata"), None),
            "damage": pd.array(np.where(lost, None, p_NK.argmax(axis=1)), dtype="Int8"),
            "scene_post": "post-1",
            "scene_pre": "pre-1",
            "mmi": 8.25,
            "hazard_missing": [["psa30_g"]] * n,
        },
        geometry=shapes,
    )
    for k, one in enumerate(SCALE):
        frame[f"p_{one.label}"] = np.where(lost, np.nan, p_NK[:, k])
    return frame


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published map over a dark picture before and a bright one after."""
    folder = tmp_path_factory.mktemp("viewer")
    post = grey_scene(folder, "post-1", datetime(2023, 2, 7, 8, 11, tzinfo=UTC), 200)
    pre = grey_scene(folder, "pre-1", datetime(2021, 4, 3, 8, 20, tzinfo=UTC), 60)
    return _published(folder / "out", View(id="post-1__pre-1", post=post, pre=pre))


def _published(folder: Path, *views: View) -> Path:
    rows = _buildings()
    coverage = {
        "cell_id": ["c"],
        "status": ["scored"],
        "reason": [None],
        "scenes": [["post-1"]],
        "valid_fraction": [1.0],
        "cloud_fraction": [0.0],
        "shift_m": [0.0],
    }
    products = RunProducts(
        buildings=rows,
        coverage=gpd.GeoDataFrame(coverage, geometry=[shapely.box(*rows.total_bounds)], crs=4326),
        issues=[Issue(subject=HOSTILE, kind="scene", cause="403 Forbidden")],
        run={"event": {"id": "test-2023"}, "counts": {"footprints": len(rows)}},
        classes=SCALE,
        views=list(views),
    )
    publish(open_store(str(folder)), products)
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    yield from opened_browser(tmp_path_factory.mktemp("chromium"))


@pytest.fixture
def page(browser: Browser, out: Path) -> Browser:
    browser.open((out / "index.html").as_uri())
    return browser


def _counts(page: Browser, selector: str, key: str) -> dict[str, int]:
    return page.evaluate(
        f"Object.fromEntries([...document.querySelectorAll('{selector}')]"
        f".map((e) => [e.dataset.{key}, Number(e.textContent.replaceAll(',', ''))]))"
    )


def _wait(page: Browser, script: str) -> None:
    """Until the script gives something that is true."""
    for _ in range(100):
        if page.evaluate(f"Boolean({script})"):
            return
        time.sleep(0.02)
    raise AssertionError(f"never true: {script}")


def _visible(page: Browser) -> int:
    return page.evaluate("page.visible.reduce((a, b) => a + b, 0)")


def test_the_legend_counts_what_the_table_counts(page: Browser, out: Path):
    store = open_store(str(out))
    rows = current_buildings(store, current_run(store))
    expected = rows["damage_label"].value_counts().to_dict()
    expected["not_assessed"] = int((rows["status"] == "not_assessed").sum())
    assert _counts(page, "#legend .count", "class") == expected
    reasons = rows["reason"].value_counts().to_dict()
    assert _counts(page, ".reason-count", "reason") == reasons
    assert sum(expected.values()) == len(rows) == _visible(page)


def test_nothing_leaves_the_page_and_nothing_complains(page: Browser):
    page.evaluate("page.select(0, true)")
    page.screenshot()
    outside = [url for url in page.requests if not url.startswith(("file:", "data:"))]
    assert page.requests
    assert outside == []
    assert page.complaints == []
    blocked = page.evaluate("fetch('https://evil.example/').then(() => 'sent', () => 'refused')")
    assert blocked == "refused"


def test_hostile_text_is_shown_not_run(page: Browser):
    index = page.evaluate("page.data.groups.get(0).id.findIndex((id) => id.includes('onerror'))")
    page.evaluate(f"page.select({index}, true)")
    assert page.evaluate("document.querySelector('#card .id').textContent") == HOSTILE
    assert page.evaluate("document.querySelector('#issues').textContent").count("onerror") == 1
    assert page.evaluate("document.title") == "test-2023: building damage"
    assert page.evaluate("document.querySelectorAll('img[onerror]').length") == 0


def test_the_swipe_shows_before_left_and_after_right(page: Browser):
    page.evaluate("page.showOnly(-1); page.map.fitBounds(page.home, {padding: [-40, -40]}); 0")
    assert page.evaluate("document.getElementById('before').textContent") == "before · 2021-04-03"
    page.evaluate("page.swipe.moveTo(0.5)")
    half = page.screenshot()
    x = page.evaluate("document.getElementById('divider').getBoundingClientRect().x + 16")
    middle = half[250:500, :, 0]
    assert np.median(middle[:, int(x) - 200 : int(x) - 40]) == pytest.approx(60, abs=15)
    assert np.median(middle[:, int(x) + 40 : int(x) + 200]) == pytest.approx(200, abs=15)
    page.evaluate("document.getElementById('divider').focus()")
    for _ in range(3):
        page.call("Input.dispatchKeyEvent", type="keyDown", key="PageUp", code="PageUp")
    assert page.evaluate("page.swipe.share") == pytest.approx(0.8)
    moved = page.screenshot()[250:500, :, 0]
    assert np.median(moved[:, int(x) + 40 : int(x) + 200]) == pytest.approx(60, abs=15)
    page.evaluate("page.swipe.setMode('post')")
    assert np.median(page.screenshot()[250:500, 100:300, 0]) == pytest.approx(200, abs=15)


def test_dragging_the_divider_moves_it(page: Browser):
    box = page.evaluate("document.getElementById('divider').getBoundingClientRect().toJSON()")
    y = box["y"] + box["height"] / 3
    for kind, x in (("mousePressed", box["x"] + 16), ("mouseMoved", 200), ("mouseReleased", 200)):
        page.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
    wide = page.evaluate("document.getElementById('stage').clientWidth")
    assert page.evaluate("page.swipe.share") == pytest.approx(200 / wide, abs=0.01)


def test_filters_change_the_drawing_and_come_back(page: Browser):
    counts = _counts(page, "#legend .count", "class")
    page.evaluate("document.querySelector('#legend input[data-key=\"0\"]').click()")
    assert _visible(page) == 60 - counts["intact"]
    page.evaluate("document.querySelector('#legend input[data-key=\"0\"]').click()")
    page.evaluate("document.querySelector('.reason').click()")
    assert _visible(page) == max(_counts(page, ".reason-count", "reason").values())
    page.evaluate("document.querySelector('.reason').click()")
    page.evaluate("page.showOnly(2)")
    assert _visible(page) == counts["destroyed"]
    page.evaluate("page.showOnly(2)")


def test_next_walks_what_is_shown_also_the_unseen_alone(page: Browser):
    page.evaluate("page.showOnly(-1)")
    seen = [page.evaluate("page.step(1); page.selected") for _ in range(3)]
    assert len(set(seen)) == 3
    assert all(page.evaluate(f"page.data.damage[{i}]") == -1 for i in seen)
    assert "Filter: the map shows 8 of 60" in page.evaluate(
        "document.getElementById('filtered').innerText"
    )
    page.evaluate("document.getElementById('filter-off').click()")
    assert _visible(page) == 60


def test_the_slider_changes_verdicts_counts_and_says_what_if(page: Browser, out: Path):
    published = _counts(page, "#legend .count", "class")
    page.evaluate(
        "e = document.getElementById('score-input'); e.value = 70;"
        "e.dispatchEvent(new Event('input'))"
    )
    store = open_store(str(out))
    rows = current_buildings(store, current_run(store))
    destroyed = rows["p_destroyed"].round(3) >= 0.7
    damaged = ~destroyed & ((rows["p_damaged"] + rows["p_destroyed"]).round(3) >= 0.7)
    now = _counts(page, "#legend .count", "class")
    assert (now["destroyed"], now["damaged"]) == (destroyed.sum(), damaged.sum())
    assert now["destroyed"] < published["destroyed"]
    headline = page.evaluate("document.getElementById('headline').innerText")
    assert headline.startswith(f"{destroyed.sum() + damaged.sum()} ")
    assert "8 of 60 not seen" in headline
    assert "published verdicts" in page.evaluate("document.getElementById('what-if').innerText")
    page.evaluate("document.getElementById('score-back').click()")
    assert _counts(page, "#legend .count", "class") == published
    assert page.evaluate("document.getElementById('what-if').hidden")


def test_far_away_shares_are_drawn_and_near_buildings(page: Browser):
    assert not page.evaluate("page.layer.far()")
    page.evaluate("page.map.setZoom(14, {animate: false}); 0")
    assert page.evaluate("page.layer.far()")
    cells = page.evaluate(
        "(({seen, unseen, severe}) => [seen, unseen, severe].map((v) => v.reduce((a, b) => a + b)))"
        "(page.layer.hexagons.at(14, page))"
    )
    counts = _counts(page, "#legend .count", "class")
    assert cells == [52, 8, counts["damaged"] + counts["destroyed"]]
    assert not page.evaluate("document.getElementById('hexes-key').hidden")


def test_verdicts_are_drawn_in_their_colours(page: Browser):
    page.evaluate("page.swipe.setMode('none'); page.showOnly(2)")
    red = np.array([181, 18, 43])  # --c-destroyed, light theme
    near = (np.abs(page.screenshot()[:, :800].astype(int) - red).max(axis=2) < 30).sum()
    page.evaluate("page.showOnly(2); page.showOnly(0)")
    gone = (np.abs(page.screenshot()[:, :800].astype(int) - red).max(axis=2) < 30).sum()
    assert near > 500
    assert gone == 0


def test_clicking_a_building_tells_all_of_it(page: Browser, out: Path):
    index = page.evaluate("page.walk()[0]")
    at = page.evaluate(
        f"(() => {{ const c = page.positionOf({index}).split(',').map(Number);"
        "const p = page.map.latLngToContainerPoint(c);"
        "const r = document.getElementById('map').getBoundingClientRect();"
        "return [p.x + r.x, p.y + r.y]; })()"
    )
    page.evaluate("page.swipe.moveTo(0)")
    for kind in ("mousePressed", "mouseReleased"):
        page.call(
            "Input.dispatchMouseEvent", type=kind, x=at[0], y=at[1], button="left", clickCount=1
        )
    card = page.evaluate("document.getElementById('card').innerText")
    store = open_store(str(out))
    rows = current_buildings(store, current_run(store)).set_index("building_id")
    row = rows.loc[page.evaluate("page.selectedId")]
    assert f"{100 * row['p_destroyed'].round(3):.1f}" in card
    assert f"{100 * (row['p_damaged'] + row['p_destroyed']).round(3):.1f}" in card
    assert "Confidence" not in card
    for text in ("post-1, 2023-02-07 08:11 UTC", "pre-1, 2021-04-03 08:20 UTC", "8.25", "psa30_g"):
        assert text in card
    assert page.evaluate("document.querySelectorAll('#card canvas').length") == 2
    assert "reduced" not in card
    assert "0.5 m a pixel" in card


def test_search_and_links_find_a_building(page: Browser, out: Path):
    page.evaluate("document.getElementById('query').focus()")
    page.call("Input.insertText", text="b17")
    _wait(page, "document.querySelectorAll('#found li').length")
    assert page.evaluate("document.querySelectorAll('#found li').length") == 1
    page.call("Input.dispatchKeyEvent", type="keyDown", key="Enter", code="Enter", text="\r")
    _wait(page, "document.querySelector('#card .id')")
    assert page.evaluate("document.querySelector('#card .id').textContent") == "b17"
    page.evaluate("page.showOnly(2); page.setThreshold(0.7); page.swipe.setMode('post')")
    link = page.evaluate("page.link()")
    zoom = page.evaluate("page.map.getZoom()")
    page.open(link)
    assert page.evaluate("document.querySelector('#card .id').textContent") == "b17"
    assert page.evaluate("[...page.shown]") == [2]
    assert page.evaluate("[page.threshold, page.swipe.mode, page.map.getZoom()]") == [
        0.7,
        "post",
        zoom,
    ]
    page.open((out / "index.html").as_uri() + "#b=b23&at=x/y&show=evil&only=9&score=7")
    assert page.evaluate("document.querySelector('#card .id').textContent") == "b23"


def test_coordinates_are_understood_as_people_write_them(page: Browser):
    for text, place in {
        "37.58, 36.93": [37.58, 36.93],
        "37,58 36,93": [37.58, 36.93],
        "36.93E 37.58N": [37.58, 36.93],
        "-12.5 -77": [-12.5, -77],
        "12.5S, 77W": [-12.5, -77],
        "37°34'48\"N 36°55'48\"E": [37.58, 36.93],
        "b17": None,
        "37.58": None,
        "12 500 7": None,
        "99, 200": None,
    }.items():
        got = page.evaluate(
            f"(p => p && [p.lat, p.lon].map((v) => Number(v.toFixed(6))))"
            f"(parsePosition({json.dumps(text)}))"
        )
        assert got == place, text


def test_a_phone_sees_the_map_and_the_panel_without_sideways_scrolling(page: Browser):
    page.call(
        "Emulation.setDeviceMetricsOverride",
        width=390,
        height=844,
        deviceScaleFactor=2,
        mobile=True,
    )
    try:
        page.evaluate("page.select(page.walk()[0], true)")
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        boxes = page.evaluate(
            "['map', 'panel', 'modes'].map((id) => document.getElementById(id)"
            ".getBoundingClientRect().toJSON())"
        )
        assert all(b["left"] >= 0 and b["right"] <= 390 for b in boxes)
        small = page.evaluate(
            "[...document.querySelectorAll('button, #query, a.button')].filter((e) => "
            "e.offsetParent && e.getBoundingClientRect().height < 43)"
            ".map((e) => e.id || e.textContent)"
        )
        assert small == []
        assert boxes[0]["height"] > 240
        assert boxes[1]["height"] > 240
    finally:
        page.call("Emulation.clearDeviceMetricsOverride")


@pytest.mark.parametrize("pictures", [0, 1])
def test_maps_without_a_before_or_any_picture_open_too(
    browser: Browser, tmp_path: Path, pictures: int
):
    post = grey_scene(tmp_path, "post-1", datetime(2023, 2, 7, 8, 11, tzinfo=UTC), 200)
    folder = _published(tmp_path / "out", *[View(id="post-1", post=post)] * pictures)
    browser.open((folder / "index.html").as_uri())
    assert browser.evaluate("page.swipe.mode") == ("post" if pictures else "none")
    assert browser.evaluate("document.getElementById('divider').hidden")
    browser.evaluate("page.step(1); document.getElementById('cells').click()")
    assert browser.evaluate("document.querySelectorAll('#card canvas').length") == pictures
    browser.screenshot()
    assert browser.complaints == []
