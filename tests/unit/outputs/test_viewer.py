"""The page: self-contained, safe with hostile text, small enough, honest about what is missing."""

import base64
import gzip
import json
import re

import geopandas as gpd
import numpy as np
import shapely

from quakestream.domain import REASONS
from quakestream.outputs.buildings import count, ordered_buildings
from quakestream.outputs.viewer import viewer_html
from quakestream.outputs.viewer_content import REASON_TITLES, evidence_sentence, image_credits
from quakestream.outputs.viewer_rows import core_blob, core_columns, detail_columns, rings
from tests.helpers.outputs_case import (
    HAZARD_BUNDLE,
    LABELS,
    SCALE,
    buildings,
    coverage,
    products,
    with_hazard_evidence,
)


def _page(limit: int = 20_000_000, **changes: object) -> tuple[str, dict, list[dict]]:
    """The page, what it says, and its groups of details."""
    given = products(**changes)
    rows = ordered_buildings(given.buildings, LABELS, ("dpm",))
    run = {"damage_scale": [{"label": c.label, "xbd": c.xbd} for c in SCALE], **given.run}
    run["counts"] = {**run["counts"], **count(rows)}
    text = viewer_html(given, rows, run, limit).decode()
    groups = re.findall(r'class="rows">([^<]*)<', text)
    return text, json.loads(_unpacked(text, "about")), [json.loads(_gunzip(g)) for g in groups]


def _unpacked(text: str, name: str) -> bytes:
    return _gunzip(re.search(rf'id="data-{name}">([^<]*)<', text).group(1))


def _gunzip(packed: str) -> bytes:
    return gzip.decompress(base64.b64decode(packed))


def _core(data: bytes) -> dict[str, np.ndarray]:
    """What the browser does with `core_blob`, in Python."""
    length = int.from_bytes(data[:4], "little")
    header, at, out = json.loads(data[4 : 4 + length]), 4 + length, {}
    for name, kind, size in header["arrays"]:
        n = header["n"]
        planes = np.frombuffer(data[at : at + n * size], np.uint8).reshape(size, n)
        out[name] = np.ascontiguousarray(planes.T).view(f"<{kind}{size}").ravel()
        at += n * size
    assert at == len(data)
    return out | {"reasons": header["reasons"]}


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


def test_details_say_what_the_table_says():
    rows = ordered_buildings(buildings(), LABELS, ("dpm",))
    packed = detail_columns(rows, LABELS, ("dpm",), 0.5, range(len(rows)))
    assert np.cumsum(packed["row"]).tolist() == list(range(12))
    assert packed["id"] == rows["building_id"].tolist()
    p = np.array(packed["p"][1]["values"]) / 1000
    assert np.allclose(p[p >= 0], rows["p_damaged"].dropna(), atol=5e-4)
    reason = packed["text"]["reason"]
    assert {reason["words"][c] for c in reason["codes"] if c >= 0} == {"cloud"}
    assert [h["name"] for h in packed["hazard"]] == ["mmi", "dpm"]  # the others are all null
    assert packed["hazard"][0]["values"] == [8.25] * 12
    assert packed["acquired"]["words"] == ["2023-02-07 08:11 UTC"]
    unseen = rows["status"].eq("not_assessed").to_numpy()
    assert (np.array(packed["decided"]["class"])[unseen] == -1).all()
    assert (np.array(packed["decided"]["clarity"]["codes"])[unseen] == -1).all()


def test_the_core_holds_place_verdict_and_scores_of_every_building():
    frame = buildings()
    frame.loc[2, "geometry"] = None
    rows = ordered_buildings(frame, LABELS, ("dpm",))
    core = _core(gzip.decompress(core_blob(core_columns(rows, LABELS))))
    assert core["damage"].tolist() == rows["damage"].astype("Int64").fillna(-1).tolist()
    lost = rows.geometry.isna().to_numpy()
    lon, lat = np.cumsum(core["lon"]) / 1e5, np.cumsum(core["lat"]) / 1e5
    centres = rows.geometry[~lost].envelope.centroid
    assert np.allclose(lon[~lost], centres.x, atol=6e-6)
    assert np.allclose(lat[~lost], centres.y, atol=6e-6)
    assert lat[lost].tolist() == [91]
    severe = (rows["p_damaged"] + rows["p_destroyed"]).to_numpy()
    seen = rows["status"].eq("assessed").to_numpy()
    assert np.allclose(core["score1"][seen] / 1000, severe[seen], atol=6e-4)
    assert (core["score2"][~seen] == 65_535).all()
    words = [None if c < 0 else core["reasons"][c] for c in core["reason"]]
    assert words == [r if isinstance(r, str) else None for r in rows["reason"]]


def test_counts_on_the_page_are_those_of_the_table():
    text, about, _ = _page()
    rows = ordered_buildings(buildings(), LABELS, ("dpm",))
    table = rows["damage_label"].value_counts()
    assert {c["label"]: c["count"] for c in about["classes"]} == {
        a: int(table.get(a, 0)) for a in LABELS
    }
    assert np.bincount(_core(_unpacked(text, "core"))["damage"] + 1, minlength=4).tolist() == [
        3,
        *(int(table.get(a, 0)) for a in LABELS),
    ]
    assert about["reasons"] == [{"reason": "cloud", "title": "cloud", "count": 3}]
    assert about["total"] == 12
    assert set(REASON_TITLES) == set(REASONS)


def test_the_page_names_areas_credits_and_cards():
    square = shapely.box(36.9, 37.5, 37, 37.6)
    admin = gpd.GeoDataFrame({"name": ["</script>Merkez"]}, geometry=[square], crs=4326)
    card = (
        "# pairs\n\n**Use.** Tests. Never a real event.\n\n<script>x()</script> [a](javascript:b)"
    )
    run = {"counts": {"footprints": 12}, "bundle": {"name": "pairs", "card": card}}
    text, about, _ = _page(aoi=square, admin=admin, admin_id="name", run=run)
    assert about["areas"]["kind"] == ["aoi", "district"]
    assert about["areas"]["name"] == ["", "</script>Merkez"]
    assert about["headline"]["caveat"] == ["The model card: “Never a real event.”"]
    shown = re.search(r'<details class="model-card">(.*?)</details>', text, re.S).group(1)
    assert "<strong>Use.</strong>" in shown
    assert "&lt;script&gt;x()&lt;/script&gt;" in shown
    assert "<a " not in shown


def test_credits_of_images_name_licences_and_what_they_forbid():
    scenes = [
        {"credit": "Vantor", "licence": "CC-BY-NC-4.0"},
        {"credit": "Vantor", "licence": "CC-BY-NC-4.0"},
        {"credit": "", "licence": ""},
    ]
    assert image_credits(scenes) == [
        "2 images: Vantor, licence CC-BY-NC-4.0 (no commercial use: this holds for this map's "
        "pictures too).",
        "1 image: the catalogue states no credit and no licence.",
    ]


def test_the_page_says_what_its_verdicts_rest_on():
    counts = {"footprints": 12, "evidence": {"image": 1, "image+hazard": 8, "hazard": 2}}
    run = {"counts": counts, "bundle": {"name": "pairs"}, "hazard_bundle": HAZARD_BUNDLE}
    _, about, (details,) = _page(buildings=with_hazard_evidence(buildings()), run=run)
    assert about["evidence"] == (
        "8 verdicts use imagery and hazard values (shaking 2), 1 use imagery alone. "
        "2 not assessed have a probability from hazard values alone."
    )
    assert [m["name"] for m in about["models"]] == ["pairs", "shaking"]
    titles = [h["title"] for h in details["hazard"]]
    assert "destroyed, from hazard values alone" in titles
    assert set(details["text"]["evidence"]["words"]) == {"hazard", "image", "image+hazard"}
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
    text, about, (details,) = _page(buildings=frame, run=run)
    assert "alert(" not in text.replace("&quot;", '"').split("</title>")[1]
    assert "<title>&lt;/script&gt;" in text
    assert about["event"]["id"] == evil
    assert evil in details["id"]


def test_a_page_too_large_keeps_every_building_and_says_what_it_left_out():
    rng = np.random.default_rng(0)
    n = 4000
    frame = buildings(n)
    frame["building_id"] = [f"{v:032x}" for v in rng.integers(0, 2**62, n)]  # hard to compress
    limit = 400_000 + 100_000
    text, about, groups = _page(limit, buildings=frame, run={"counts": {"footprints": n}})
    assert len(text) <= limit
    core = _core(_unpacked(text, "core"))
    counts = [c["count"] for c in about["classes"]]
    assert np.bincount(core["damage"] + 1).tolist() == [n - sum(counts), *counts]
    rows = np.concatenate([np.cumsum(g["row"]) for g in groups])
    assert 500 < len(rows) < n
    assert (np.diff(rows) > 0).all()
    # severe verdicts come first: none is missing before another gets its details
    severe = core["damage"] >= 1
    assert severe[rows].all() or severe.sum() == severe[rows].sum()
    missing = np.setdiff1d(np.flatnonzero(severe), rows)
    if len(missing):
        assert core["score1"][missing].max() <= core["score1"][rows].min() + 1
    assert any(f"{n - len(rows):,} are points without outline" in note for note in about["notes"])
    assert any("simplified" in note for note in about["notes"])


def test_pages_of_nothing_still_open():
    empty = buildings(4).iloc[:0]
    text, about, groups = _page(
        buildings=empty, coverage=coverage().iloc[:0], issues=[], run={"counts": {"footprints": 0}}
    )
    assert about["total"] == 0
    assert groups == []
    assert len(_core(_unpacked(text, "core"))["damage"]) == 0
    assert isinstance(empty, gpd.GeoDataFrame)
