"""The page: self-contained, safe with hostile text, small enough, honest about what is missing."""

import base64
import gzip
import json
import re

import geopandas as gpd
import numpy as np
import shapely

from quakestream.domain import REASONS
from quakestream.outputs.buildings import ordered_buildings
from quakestream.outputs.viewer import REASON_TITLES, evidence_sentence, viewer_html
from quakestream.outputs.viewer_rows import building_columns, rings
from tests.helpers.outputs_case import (
    HAZARD_BUNDLE,
    LABELS,
    buildings,
    coverage,
    products,
    with_hazard_evidence,
)


def _page(limit: int = 20_000_000, **changes: object) -> tuple[str, dict, dict]:
    given = products(**changes)
    rows = ordered_buildings(given.buildings, LABELS, ("dpm",))
    text = viewer_html(given, rows, given.run, limit).decode()
    return text, _unpacked(text, "about"), _unpacked(text, "verdicts")


def _unpacked(text: str, name: str) -> dict:
    packed = re.search(rf'id="data-{name}">([^<]*)<', text).group(1)
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def _decoded(packed: dict) -> list[list[np.ndarray]]:
    """What the browser does with `rings`, in Python."""
    xy = np.cumsum(np.array(packed["xy"]).reshape(-1, 2), axis=0) / 1e6
    parts = np.split(xy, np.cumsum(packed["points"])[:-1]) if packed["points"] else []
    ends = np.cumsum(packed["rings"])
    return [parts[a:b] for a, b in zip(np.r_[0, ends[:-1]], ends, strict=True)]


def test_outlines_survive_the_packing():
    hole = shapely.Polygon([(0, 0), (3, 0), (3, 3), (0, 3)], [[(1, 1), (2, 1), (2, 2), (1, 2)]])
    shapes = [
        hole,
        None,
        shapely.MultiPolygon([hole, shapely.box(-5, -5, -4, -4)]),
        shapely.Point(9, 9),
        shapely.Polygon(),
    ]
    back = _decoded(rings(shapes))
    assert [len(parts) for parts in back] == [2, 0, 3, 1, 0]
    solid = shapely.Polygon(back[0][0], [back[0][1]])
    assert solid.equals(hole)
    assert shapely.box(-5, -5, -4, -4).equals(shapely.Polygon(back[2][2]))
    assert shapely.Polygon(back[3][0]).contains(shapely.Point(9, 9))


def test_columns_say_what_the_table_says():
    rows = ordered_buildings(buildings(), LABELS, ("dpm",))
    packed = building_columns(rows, LABELS, ("dpm",))
    assert packed["id"] == rows["building_id"].tolist()
    assert packed["damage"] == rows["damage"].astype("Int64").fillna(-1).tolist()
    p = np.array(packed["p"][1]["values"]) / 1000
    assert np.allclose(p[p >= 0], rows["p_damaged"].dropna(), atol=5e-4)
    reason = packed["text"]["reason"]
    assert {reason["words"][c] for c in reason["codes"] if c >= 0} == {"cloud"}
    assert [h["name"] for h in packed["hazard"]] == ["mmi", "dpm"]  # the others are all null
    assert packed["hazard"][0]["values"] == [8.25] * 12
    assert packed["acquired"]["words"] == ["2023-02-07 08:11 UTC"]


def test_counts_on_the_page_are_those_of_the_table():
    _, about, _ = _page()
    rows = ordered_buildings(buildings(), LABELS, ("dpm",))
    table = rows["damage_label"].value_counts()
    assert {c["label"]: c["count"] for c in about["classes"]} == {
        a: int(table.get(a, 0)) for a in LABELS
    }
    assert about["reasons"] == [{"reason": "cloud", "title": "cloud", "count": 3}]
    assert about["total"] == 12
    assert set(REASON_TITLES) == set(REASONS)


def test_the_page_says_what_its_verdicts_rest_on():
    counts = {"footprints": 12, "evidence": {"image": 1, "image+hazard": 8, "hazard": 2}}
    run = {"counts": counts, "bundle": {"name": "pairs"}, "hazard_bundle": HAZARD_BUNDLE}
    _, about, verdicts = _page(buildings=with_hazard_evidence(buildings()), run=run)
    assert about["evidence"] == (
        "8 verdicts use imagery and hazard values (shaking 2), 1 use imagery alone. "
        "2 not assessed have a probability from hazard values alone."
    )
    assert [m["name"] for m in about["models"]] == ["pairs", "shaking"]
    titles = [h["title"] for h in verdicts["hazard"]]
    assert "destroyed, from hazard values alone" in titles
    assert set(verdicts["text"]["evidence"]["words"]) == {"hazard", "image", "image+hazard"}
    apart = run | {"hazard_bundle": HAZARD_BUNDLE | {"added_to_verdicts": False}}
    assert "probabilities of shaking 2 are shown separately" in evidence_sentence(apart)
    assert evidence_sentence({"counts": {"evidence": {"image": 9}}}) == ""
    took = {"counts": {"evidence": {"image": 1, "image+hazard": 8}}}  # a damage bundle that did
    assert evidence_sentence(took).startswith("8 verdicts use imagery and hazard values, 1")


def test_the_page_asks_for_nothing():
    text, _, _ = _page()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text).group(1)
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy.split("style-src")[0]
    assert not re.search(r"<(link|script|img|iframe)[^>]*(src|href)=", text)
    style = re.search(r"<style>(.*?)</style>", text, re.S).group(1)
    assert not re.search(r"url\(|@import", style)
    assert "{{" not in re.sub(r"<script>.*?</script>", "", text, flags=re.S)


def test_text_from_strangers_stays_text():
    frame = buildings()
    evil = '</script><script>alert("x")</script>{{about}}'
    frame.loc[0, "building_id"] = evil
    run = {"event": {"id": evil}, "counts": {"footprints": 12}}
    text, about, verdicts = _page(buildings=frame, run=run)
    assert "alert(" not in text.replace("&quot;", '"').split("</title>")[1]
    assert "<title>&lt;/script&gt;" in text
    assert about["event"]["id"] == evil
    assert evil in verdicts["id"]


def test_a_page_too_large_keeps_all_damage_and_says_what_it_left_out():
    rng = np.random.default_rng(0)
    n = 4000
    frame = buildings(n)
    frame["building_id"] = [f"{v:032x}" for v in rng.integers(0, 2**62, n)]  # hard to compress
    limit = 300_000 + 60_000
    text, about, verdicts = _page(limit, buildings=frame, run={"counts": {"footprints": n}})
    assert len(text) <= limit
    intact = about["classes"][0]["count"]
    drawn = verdicts["damage"]
    assert drawn.count(0) < intact
    for k in (1, 2):
        assert drawn.count(k) == about["classes"][k]["count"]
    assert drawn.count(-1) == sum(r["count"] for r in about["reasons"])
    left_out = intact - drawn.count(0)
    assert any(f"{left_out:,} of {intact:,} buildings" in note for note in about["notes"])
    assert any("simplified" in note for note in about["notes"])


def test_pages_of_nothing_still_open():
    empty = buildings(4).iloc[:0]
    _, about, verdicts = _page(
        buildings=empty, coverage=coverage().iloc[:0], issues=[], run={"counts": {"footprints": 0}}
    )
    assert about["total"] == 0
    assert verdicts["id"] == []
    assert isinstance(empty, gpd.GeoDataFrame)
