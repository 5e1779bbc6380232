"""The answer sheet and the spot checks of the map, in a real browser with a keyboard."""

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from typer.testing import CliRunner

from quakestream.cli.main import load
from quakestream.cli.view import map_server
from quakestream.domain import View
from quakestream.outputs.answers import read_answers
from quakestream.outputs.publish import publish
from quakestream.storage import StorageOptions, open_store
from tests.helpers.browsing import Browser, opened_browser
from tests.helpers.grey_scenes import NORTH, WEST, grey_scene
from tests.helpers.outputs_case import SCALE, products

pytestmark = [pytest.mark.browser, pytest.mark.alone]

SIZES = {"desktop": (1280, 800, False), "phone": (390, 844, True)}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    yield from opened_browser(tmp_path_factory.mktemp("chromium"))


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A map of 24 buildings over a dark picture before and a bright one after, with a sample."""
    folder = tmp_path_factory.mktemp("checks")
    post, pre = (
        grey_scene(folder, name, datetime(year, 2, 7, tzinfo=UTC), grey)
        for name, year, grey in (("post-1", 2023, 200), ("pre-1", 2021, 60))
    )
    run: dict[str, Any] = {"event": {"id": "test-2023"}, "counts": {"footprints": 24}}
    scenes = [
        {"id": s.id, "href": s.href, "datetime": s.datetime.isoformat(), "gsd_m": 0.5}
        for s in (post, pre)
    ]
    run["inputs"] = {"scenes": scenes}
    view = View(id="post-1__pre-1", post=post, pre=pre)
    store = open_store(str(folder / "out"))
    publish(store, products(buildings=_buildings(24), run=run, views=[view], layers=()))
    done = CliRunner().invoke(
        _app(), ["sample", store.uri, "--n", "8", "-o", str(folder / "to-check")]
    )
    assert done.exit_code == 0, done.output
    return folder


def _app() -> Any:
    import typer

    app = typer.Typer()
    for name in ("sample", "verify"):
        app.command(name)(load(name))
    return app


def _buildings(n: int) -> gpd.GeoDataFrame:
    rng = np.random.default_rng(5)
    east, north = WEST + 20 + 24.0 * (np.arange(n) % 6), NORTH - 30 - 24.0 * (np.arange(n) // 6)
    shapes = gpd.GeoSeries(shapely.box(east, north, east + 9, north + 9), crs=32637).to_crs(4326)
    p_NC = rng.dirichlet([2, 1, 1], n)
    frame = gpd.GeoDataFrame(
        {
            "building_id": ['b<i>,"0"', *(f"b{i:02d}" for i in range(1, n))],
            "status": "assessed",
            "reason": None,
            "damage": pd.array(p_NC.argmax(axis=1), dtype="Int8"),
            "scene_post": "post-1",
            "scene_pre": "pre-1",
        },
        geometry=shapes,
    )
    for k, one in enumerate(SCALE):
        frame[f"p_{one.label}"] = p_NC[:, k]
    return frame


def _press(page: Browser, *keys: str) -> None:
    for key in keys:
        for kind in ("keyDown", "keyUp"):
            text = {"text": key} if len(key) == 1 and kind == "keyDown" else {}
            page.call("Input.dispatchKeyEvent", type=kind, key=key, **text)


def _shape(page: Browser, size: str, *, dark: bool) -> None:
    wide, high, mobile = SIZES[size]
    page.call(
        "Emulation.setDeviceMetricsOverride",
        width=wide,
        height=high,
        deviceScaleFactor=1,
        mobile=mobile,
    )
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    page.call("Emulation.setEmulatedMedia", features=[scheme])


def _text(page: Browser, identity: str) -> str:
    return str(page.evaluate(f"document.getElementById('{identity}').textContent"))


def test_a_sheet_is_answered_with_the_keyboard_and_verified(browser: Browser, out: Path):
    _shape(browser, "desktop", dark=False)
    browser.open((out / "to-check" / "sheet.html").as_uri())
    browser.evaluate("localStorage.clear()")
    browser.open((out / "to-check" / "sheet.html").as_uri())
    ids = pd.read_csv(out / "to-check" / "sample.csv")["building_id"].tolist()
    assert _text(browser, "id") == ids[0]
    _press(browser, "1")  # nobody said who answers
    assert _text(browser, "done") == "0 of 8"
    assert browser.evaluate("document.activeElement.id") == "annotator"
    _press(browser, "A", "y", "Enter")
    _press(browser, "1", "2", "ArrowLeft", "3", "4", "u")
    assert _text(browser, "id") == ids[2]
    _press(browser, "4", "n", "1", "1", "1", "1")
    time.sleep(0.5)  # the browser itself keeps them a moment later
    browser.open((out / "to-check" / "sheet.html").as_uri())  # answers outlive the page
    assert _text(browser, "done") == "7 of 8"
    said = browser.evaluate("sheet.book.csv()")
    (out / "a.csv").write_text(said)
    (out / "a.geojson").write_text(browser.evaluate("sheet.book.geojson()"))
    told = read_answers([str(out / "a.csv")], StorageOptions())
    assert [told.settled[b] for b in ids[:3]] == ["destroyed", "intact", "cannot_tell"]
    assert {a.annotator for a in told.rows} == {"Ay"}
    assert told.settled == read_answers([str(out / "a.geojson")], StorageOptions()).settled
    done = CliRunner().invoke(
        _app(), ["verify", str(out / "out"), str(out / "a.csv"), "--json", "--dry-run"]
    )
    assert json.loads(done.output)["answers"]["cannot_tell"] == 1


def test_a_sheet_is_blind_until_asked_and_shows_its_pictures(browser: Browser, out: Path):
    browser.open((out / "to-check" / "sheet.html").as_uri())
    assert browser.evaluate("document.getElementById('verdict').hidden")
    labels = [c.label for c in SCALE]
    main = browser.evaluate("document.querySelector('main').innerText").lower()
    assert not any(label in main for label in labels)
    browser.evaluate("document.getElementById('reveal').click()")
    assert any(label in _text(browser, "verdict") for label in labels)
    _press(browser, "1")
    assert browser.evaluate("sheet.book.rows().some((one) => one.saw_verdict === 'true')")
    browser.evaluate("document.getElementById('reveal').click()")
    browser.evaluate("Promise.all([...document.images].map((one) => one.decode()))")
    for epoch, grey in (("before", 60), ("after", 200)):
        box = browser.evaluate(
            f"document.querySelector('#{epoch} .picture').getBoundingClientRect().toJSON()"
        )
        shown = browser.screenshot()[int(box["y"]) + 12, int(box["x"]) + 12]
        assert shown == pytest.approx(np.full(3, grey), abs=12)
    white = browser.evaluate("document.querySelectorAll('.picture path.over').length")
    assert white == 2
    _press(browser, "o")
    hidden = "getComputedStyle(document.querySelector('.picture svg')).display"
    assert browser.evaluate(hidden) == "none"
    assert [url for url in browser.requests if not url.startswith(("file:", "data:"))] == []
    assert browser.complaints == []


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_sheet_fits_its_screen(browser: Browser, out: Path, size: str, dark: bool):
    _shape(browser, size, dark=dark)
    try:
        browser.open((out / "to-check" / "sheet.html").as_uri())
        wide = SIZES[size][0]
        assert browser.evaluate("document.documentElement.scrollWidth") <= wide
        buttons = browser.evaluate(
            "[...document.querySelectorAll('#answers button')].map((one) => "
            "one.getBoundingClientRect().toJSON())"
        )
        assert all(one["bottom"] <= SIZES[size][1] and one["height"] >= 44 for one in buttons)
        first, second = browser.evaluate(
            "[...document.querySelectorAll('.picture')].map((one) => "
            "one.getBoundingClientRect().toJSON())"
        )
        above = browser.evaluate("document.getElementById('place').getBoundingClientRect().bottom")
        assert above <= first["top"] == second["top"]
        assert first["right"] < second["left"]
        assert first["width"] > 150
        assert first["bottom"] < min(one["top"] for one in buttons)
        assert (browser.screenshot()[-3, 3].mean() < 128) == dark
    finally:
        browser.call("Emulation.clearDeviceMetricsOverride")
        browser.call("Emulation.setEmulatedMedia", features=[])


def test_the_map_walks_the_sample_without_verdicts(browser: Browser, out: Path):
    server = map_server(open_store(str(out / "out")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        browser.open(f"http://127.0.0.1:{server.server_port}/")
        browser.evaluate("page.check.start()")
        ids = pd.read_csv(out / "to-check" / "sample.csv")["building_id"].tolist()
        assert browser.evaluate("document.body.classList.contains('checking')")
        _until(browser, f"page.selectedId === {json.dumps(ids[0])}")
        panel = browser.evaluate("document.getElementById('panel').innerText").lower()
        card = browser.evaluate("document.getElementById('card').innerText").lower()
        assert "score" not in panel
        assert not any(c.label in card for c in SCALE)
        browser.evaluate("page.check.book.name('Ben')")
        _press(browser, "3")
        _until(browser, f"page.selectedId === {json.dumps(ids[1])}")
        _press(browser, "1", "u")
        _until(browser, f"page.selectedId === {json.dumps(ids[1])}")
        rows = browser.evaluate("page.check.book.rows()")
        assert [one["answer"] for one in rows[:2]] == ["intact", ""]
        assert rows[0] | {"answered_at": ""} == {
            "building_id": ids[0],
            "answer": "intact",
            "annotator": "Ben",
            "answered_at": "",
            "saw_verdict": "false",
        }
        _press(browser, "Escape")
        assert not browser.evaluate("page.blind")
        assert browser.complaints == []
    finally:
        server.shutdown()
        server.server_close()


def test_a_page_from_disk_takes_the_file_of_the_sample(browser: Browser, out: Path):
    browser.open((out / "out" / "index.html").as_uri())
    browser.evaluate("page.check.open('{}')")
    assert "sample.geojson" in _text(browser, "check-refused")
    text = (out / "to-check" / "sample.geojson").read_text()
    browser.evaluate(f"page.check.open({json.dumps(text)})")
    first = json.loads(text)["features"][0]["properties"]["building_id"]
    _until(browser, f"page.selectedId === {json.dumps(first)}")
    assert _text(browser, "check-number") == "1 of 8"
    browser.evaluate("page.check.end()")


def _until(page: Browser, script: str) -> None:
    waits = "new Promise((done) => setTimeout(done, 20))"
    for _ in range(150):
        if page.evaluate(f"Boolean({script})"):
            return
        page.evaluate(waits)
    raise AssertionError(f"never true: {script}")
