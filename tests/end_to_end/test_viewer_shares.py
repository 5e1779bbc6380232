"""The page of a calibrated bundle in a real browser: how many, how sure, and where."""

from collections.abc import Iterator

import pytest

from quakestream.outputs.publish import publish
from quakestream.storage import open_store
from tests.helpers.browsing import Browser, opened_browser
from tests.helpers.outputs_case import SHARES, buildings, products, with_shares

pytestmark = [pytest.mark.browser, pytest.mark.alone, pytest.mark.usefixtures("pictures")]
HOSTILE = "<img src=x onerror=document.title='owned'>"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    out = tmp_path_factory.mktemp("shares") / "out"
    shares = {**SHARES, "areas": [*SHARES["areas"], {**SHARES["areas"][0], "id": HOSTILE}]}
    run = {
        "event": {"id": "test-2023"},
        "counts": {"footprints": 12},
        "bundle": {"name": "b", "thresholds": {"balanced": 0.39}},
        "shares": shares,
    }
    publish(open_store(str(out)), products(buildings=with_shares(buildings()), run=run))
    for browser in opened_browser(tmp_path_factory.mktemp("chromium")):
        browser.open((out / "index.html").as_uri())
        yield browser


def text(page: Browser, name: str) -> str:
    said: str = page.evaluate(f"document.getElementById('{name}').innerText")
    return " ".join(said.split())


def test_the_expected_number_stands_first_and_the_slider_does_not_move_it(page: Browser) -> None:
    first = text(page, "headline")
    assert first.startswith("About 1.8 destroyed (90 %: 0.9 to 2.7), estimated Of the 9")
    assert "declared damaged or destroyed" in first
    assert "quote the estimated number with its interval" in first
    declared = text(page, "declared")
    page.evaluate("page.setThreshold(0.05)")
    assert text(page, "expected") == "About 1.8 destroyed (90 %: 0.9 to 2.7), estimated"
    assert text(page, "declared") != declared
    assert "the estimated number does not depend on it" in text(page, "what-if")
    assert "from a probability of 5 %" in text(page, "score")
    page.evaluate("page.setThreshold(null)")
    assert text(page, "declared") == declared
    assert page.complaints == []


def test_units_are_listed_with_their_intervals_and_texts_stay_text(page: Browser) -> None:
    rows = page.evaluate(
        "[...document.querySelectorAll('#units-table tr')].map((r) => "
        "[...r.children].map((c) => c.textContent))"
    )
    assert rows[0] == ["unit", "declared", "estimated (90 %)", "share (90 %)"]
    assert rows[1][1:] == ["2 of 3", "1.2 (0.9 to 1.5)", "40 % (30 to 50 %)"]
    assert {rows[1][0], rows[2][0]} == {"east", HOSTILE}
    assert rows[3] == ["west", "0 of 6", "0.6 (0.1 to 1.2)", "10 % (2 to 20 %)"]
    assert page.evaluate("document.title") == "test-2023: building damage"


def test_a_building_says_the_share_around_it(page: Browser) -> None:
    page.evaluate("page.select(page.data.groups.get(0).id.indexOf('b00'), true)")
    card = text(page, "card")
    assert "Probability, % — declared from 50.0 %" in card
    assert "10.0 % (90 %: 2.0 to 20.0 %)" in card.replace("2.0 % to", "2.0 to")
    assert "west" in card
    page.evaluate("page.select(page.data.groups.get(0).id.indexOf('b03'), true)")
    assert "Share around it" not in text(page, "card")
    page.evaluate("page.select(-1)")


def test_a_phone_needs_no_sideways_scrolling(page: Browser) -> None:
    page.call(
        "Emulation.setDeviceMetricsOverride",
        width=390,
        height=844,
        deviceScaleFactor=2,
        mobile=True,
    )
    try:
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        small = page.evaluate(
            "[...document.querySelectorAll('button')].filter((e) => e.offsetParent && "
            "e.getBoundingClientRect().height < 43).map((e) => e.id || e.textContent)"
        )
        assert small == []
    finally:
        page.call("Emulation.clearDeviceMetricsOverride")
