"""`models.hazard` over whole runs: verdicts that hazard values move, and what they never touch."""

import base64
import gzip
import json
import re
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score

from quakestream.config import open_run
from quakestream.errors import BundleError, ConfigError
from quakestream.outputs.readback import current_buildings, current_run
from quakestream.pipeline.planning.plan import make_plan
from quakestream.pipeline.run import Result
from quakestream.storage import open_store
from quakestream.testing import write_building_bundle
from tests.helpers.mapping import map_file
from tests.helpers.running import quakestream
from tests.helpers.shaken import (
    FRAGILITY,
    Logistic,
    ShakenWorld,
    make_shaken_world,
    shake_harder,
    write_hazard_bundle,
)

if TYPE_CHECKING:
    from quakestream.pipeline.backends.ray_backend import RayBackend

HAZARD_COLUMNS = ["p_hazard_intact", "p_hazard_destroyed"]


def rows_of(result: Result) -> gpd.GeoDataFrame:
    return result.buildings.set_index("building_id").sort_index()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> ShakenWorld:
    return make_shaken_world(tmp_path_factory.mktemp("shaken") / "world")


@pytest.fixture(scope="module")
def link(world: ShakenWorld) -> Path:
    return write_hazard_bundle(world.folder / "link", prior=world.prior)


@pytest.fixture(scope="module")
def image(world: ShakenWorld) -> gpd.GeoDataFrame:
    """The map without hazard evidence."""
    return rows_of(map_file(world.run("image")))


@pytest.fixture(scope="module")
def fused_run(world: ShakenWorld, link: Path) -> Result:
    return map_file(world.run("fused", models={"hazard": str(link)}))


@pytest.fixture(scope="module")
def fused(fused_run: Result) -> gpd.GeoDataFrame:
    return rows_of(fused_run)


def test_hazard_values_make_a_weak_picture_a_better_map(
    world: ShakenWorld, image: gpd.GeoDataFrame, fused: gpd.GeoDataFrame
) -> None:
    both = world.truth["imaged"] & world.truth["shaken"]
    fallen = world.truth["destroyed"][both]
    by_image = roc_auc_score(fallen, image["p_destroyed"][both])
    by_hazard = roc_auc_score(fallen, fused["p_hazard_destroyed"][both])
    by_both = roc_auc_score(fallen, fused["p_destroyed"][both])
    assert by_image < 0.8
    assert by_both > max(by_image, by_hazard)
    changed = both & (image["damage"] != fused["damage"])
    assert changed.sum() > 20
    right = (fused["damage"][changed] == world.truth["destroyed"][changed]).mean()
    assert right > 0.7


def test_verdicts_are_the_sum_of_both_log_odds(
    world: ShakenWorld, image: gpd.GeoDataFrame, fused: gpd.GeoDataFrame
) -> None:
    both = world.truth["imaged"] & world.truth["shaken"]
    p_image, p_hazard = image["p_destroyed"][both], fused["p_hazard_destroyed"][both]
    expected = expit(logit(p_image) + logit(p_hazard) - logit(world.prior[1]))
    assert fused["p_destroyed"][both].to_numpy() == pytest.approx(expected.to_numpy(), abs=2e-6)
    declared = (expected >= 0.5).astype(int)
    clear = (expected - 0.5).abs() > 1e-5
    assert (fused["damage"][both] == declared)[clear].all()
    p = fused.loc[both, ["p_intact", "p_destroyed"]].max(axis=1)
    assert fused["confidence"][both].to_numpy() == pytest.approx(p.to_numpy(), abs=1e-6)
    assert set(fused["evidence"][both]) == {"image+hazard"}


def test_every_footprint_says_what_it_rests_on(
    world: ShakenWorld, image: gpd.GeoDataFrame, fused: gpd.GeoDataFrame
) -> None:
    imaged, shaken = world.truth["imaged"], world.truth["shaken"]
    beyond = fused[~imaged & shaken]
    assert len(beyond) > 20
    assert (beyond["status"] == "not_assessed").all()
    assert (beyond["reason"] == "no_imagery").all()
    assert beyond[["damage", "p_destroyed", "p_intact", "confidence"]].isna().all(axis=None)
    assert (beyond["evidence"] == "hazard").all()
    assert beyond[HAZARD_COLUMNS].sum(axis=1).to_numpy() == pytest.approx(1.0, abs=1e-6)
    unshaken = fused[imaged & ~shaken]
    assert len(unshaken) > 20
    assert (unshaken["evidence"] == "image").all()
    assert unshaken[HAZARD_COLUMNS].isna().all(axis=None)
    # without a single hazard value the image's answer stands, to the last bit
    own = ["status", "damage", "p_intact", "p_destroyed", "confidence", "uncertainty"]
    pd.testing.assert_frame_equal(
        pd.DataFrame(unshaken[own]), pd.DataFrame(image.loc[unshaken.index, own])
    )
    nothing = fused[~imaged & ~shaken]
    assert len(nothing) > 5
    assert nothing["evidence"].isna().all()
    assert nothing[HAZARD_COLUMNS].isna().all(axis=None)
    assert not set(HAZARD_COLUMNS) & set(image.columns)
    # what is assessed, and why not, is the image's business alone
    pd.testing.assert_frame_equal(
        pd.DataFrame(fused[["status", "reason"]]), pd.DataFrame(image[["status", "reason"]])
    )


def test_the_record_names_the_bundle_and_counts_its_evidence(
    world: ShakenWorld, fused_run: Result, fused: gpd.GeoDataFrame
) -> None:
    run = fused_run.run
    bundle = run["hazard_bundle"]
    assert (bundle["name"], bundle["version"]) == ("link", "1")
    assert len(bundle["digest"]) == 64
    assert bundle["engine"].startswith("onnxruntime")
    assert bundle["prior"] == {
        "standing": pytest.approx(world.prior[0]),
        "fallen": pytest.approx(world.prior[1]),
    }
    assert bundle["footprints"] == int(world.truth["shaken"].sum())
    assert bundle["footprints_missing"]["mmi"] == int((~world.truth["shaken"]).sum())
    assert bundle["added_to_verdicts"] is True
    assert bundle["metrics"] == {"made_for": "tests"}
    assert run["counts"]["evidence"] == fused["evidence"].value_counts().to_dict()
    assert "hazard_bundle" not in current_run(open_store(str(world.folder / "out-image")))


def test_report_page_and_score_know_of_it(
    world: ShakenWorld, fused_run: Result, fused: gpd.GeoDataFrame
) -> None:
    counts = fused_run.run["counts"]["evidence"]
    page = Path(fused_run.out, "index.html").read_text()
    about = json.loads(gzip.decompress(base64.b64decode(_data(page, "about"))))
    assert f"{counts['image+hazard']} verdicts use imagery and hazard values" in about["evidence"]
    assert f"{counts['hazard']} not assessed have a probability" in about["evidence"]
    assert [m["name"] for m in about["models"]] == ["no-network", "link"]
    where = quakestream("report", fused_run.out)
    assert where.code == 0
    report = Path(where.stdout.strip()).read_text()
    assert "link 1" in report
    assert "assumed class shares" in report
    assert f"{counts['hazard']} have a probability of damage from hazard values only" in report
    truth = gpd.GeoDataFrame(
        {
            "building_id": fused.index,
            "damage_label": np.where(world.truth["destroyed"], "destroyed", "intact"),
        },
        geometry=fused.geometry.to_numpy(),
        crs=4326,
    )
    truth.to_parquet(world.folder / "truth.parquet")
    options = ("--truth", world.folder / "truth.parquet", "--bootstrap", 20, "--json")
    scored = quakestream("score", fused_run.out, *options)
    assert scored.code == 0, scored.stderr
    figures = json.loads(scored.stdout)
    assessed = fused["status"] == "assessed"
    expected = roc_auc_score(world.truth["destroyed"][assessed], fused["p_destroyed"][assessed])
    assert figures["auc"]["value"] == pytest.approx(expected, abs=1e-6)


def _data(page: str, name: str) -> str:
    found = re.search(rf'id="data-{name}">([^<]*)<', page)
    assert found is not None
    return found.group(1)


def test_plan_says_what_will_be_added(world: ShakenWorld, link: Path) -> None:
    run_file = world.run("planned", models={"hazard": str(link)})
    shown = quakestream("plan", run_file)
    assert shown.code == 0, shown.stderr
    assert "no-network and hazard evidence of link" in shown.stdout
    statement = json.loads(quakestream("plan", run_file, "--json").stdout)
    assert statement["hazard_bundle"] == "link"
    assert not [n for n in statement["notes"] if "models.hazard" in n]


def test_another_hazard_bundle_or_shakemap_scores_no_pixel_again(tmp_path: Path) -> None:
    world = make_shaken_world(tmp_path, seed=1)
    first = map_file(world.run("map"))
    store = open_store(str(tmp_path / "out-map"))
    commits = {p: p.stat().st_mtime_ns for p in (tmp_path / "out-map/_ledger/cells").iterdir()}
    assert len(commits) > 2
    softer = Logistic(
        intercept=FRAGILITY.intercept, slopes={"mmi": (7.5, 0.4), "vs30_m_s": (340.0, 0.0)}
    )
    maps = [rows_of(first)]
    for model in (FRAGILITY, softer):
        bundle = write_hazard_bundle(tmp_path / "link", model)
        maps.append(rows_of(map_file(world.run("map", models={"hazard": str(bundle)}))))
        assert current_run(store)["counts"]["cells_scored"] == 0
    shake_harder(world, lift=0.5)
    maps.append(rows_of(map_file(world.run("map", models={"hazard": str(bundle)}))))
    assert current_run(store)["counts"]["cells_scored"] == 0
    assert {p: p.stat().st_mtime_ns for p in commits} == commits
    assert len(list((tmp_path / "out-map/_ledger/cells").iterdir())) == len(commits)
    for one, other in combinations(maps, 2):
        moved = (one["damage"] != other["damage"]) & one["damage"].notna()
        assert moved.sum() > 5, "every change moved verdicts"
    assert (maps[3]["p_hazard_destroyed"].dropna() > maps[2]["p_hazard_destroyed"].dropna()).all()
    # taken away again, the map is the first one
    again = rows_of(map_file(world.run("map")))
    pd.testing.assert_series_equal(again["damage"], maps[0]["damage"])
    pd.testing.assert_series_equal(again["p_destroyed"], maps[0]["p_destroyed"])


def test_values_the_run_does_not_give_are_named_once_and_count_as_missing(
    world: ShakenWorld, fused: gpd.GeoDataFrame
) -> None:
    more = Logistic(
        intercept=FRAGILITY.intercept,
        slopes=FRAGILITY.slopes | {"ndbi": (0.0, 5.0), "dpm": (0.0, 9.0)},
    )
    bundle = write_hazard_bundle(world.folder / "more", more, prior=world.prior)
    result = map_file(world.run("more", models={"hazard": str(bundle)}))
    named = [n for n in result.run["notes"] if "models.hazard more" in n]
    assert named == ["models.hazard more: the run gives no ndbi, dpm"]
    assert result.run["hazard_bundle"]["footprints_missing"]["ndbi"] == len(fused)
    assert result.issues == ()
    rows = rows_of(result)
    assert (rows["evidence"].dropna() == fused["evidence"].dropna()).all()
    p = rows["p_destroyed"].to_numpy()
    assert p == pytest.approx(fused["p_destroyed"].to_numpy(), abs=1e-6, nan_ok=True)


def test_a_bundle_without_any_of_its_values_changes_nothing(
    world: ShakenWorld, image: gpd.GeoDataFrame
) -> None:
    radar = Logistic(intercept=2.0, slopes={"dpm": (0.0, 9.0)})
    bundle = write_hazard_bundle(world.folder / "radar", radar)
    result = map_file(world.run("radar", models={"hazard": str(bundle)}))
    assert ["gives none of its hazard values" in n for n in result.run["notes"]].count(True) == 1
    rows = rows_of(result)
    assert set(rows["evidence"].dropna()) == {"image"}
    assert rows[HAZARD_COLUMNS].isna().all(axis=None)
    for column in ("damage", "p_destroyed", "status"):
        pd.testing.assert_series_equal(rows[column], image[column])


def test_a_layer_stands_in_for_a_measure_that_no_file_gives(
    world: ShakenWorld,
) -> None:
    """And a model that takes it in another unit gets it in that one."""
    vs30 = str(world.folder / "vs30.tif")
    model = Logistic(intercept=0.0, slopes={"vs30_m_s": (340.0, -0.01)})
    bundle = write_hazard_bundle(world.folder / "site", model, units={"vs30_m_s": "km/s"})
    result = map_file(
        world.run("site", models={"hazard": str(bundle)}, hazard={"layers": {"vs30_m_s": vs30}})
    )
    rows = rows_of(result)
    known = rows["vs30_m_s"].notna()
    assert known.sum() > 200
    expected = expit(-0.01 * (rows["vs30_m_s"][known] / 1000.0 - 340.0))
    assert rows["p_hazard_destroyed"][known].to_numpy() == pytest.approx(expected, abs=1e-5)
    assert list(rows.columns).count("vs30_m_s") == 1


def test_rows_it_fails_on_keep_the_image_and_are_told_of(
    world: ShakenWorld, image: gpd.GeoDataFrame
) -> None:
    bundle = write_hazard_bundle(world.folder / "cracked", prior=world.prior, broken_above=8.5)
    run_file = world.run("cracked", models={"hazard": str(bundle)})
    done = quakestream("map", run_file, "--quiet")
    assert done.code == 1, "the map is made, but something needs attention"
    store = open_store(str(world.folder / "out-cracked"))
    rows = current_buildings(store, current_run(store)).set_index("building_id").sort_index()
    lost = rows["mmi"] > 8.5
    assert lost.sum() > 40
    assert rows.loc[lost, HAZARD_COLUMNS].isna().all(axis=None)
    assert set(rows.loc[lost, "evidence"].dropna()) == {"image"}
    pd.testing.assert_series_equal(rows["p_destroyed"][lost], image["p_destroyed"][lost])
    assert (rows.loc[~lost & rows["mmi"].notna(), "p_hazard_destroyed"] > 0).all()
    causes = pd.read_parquet(world.folder / "out-cracked/quarantine.parquet")["cause"]
    assert len(causes) == 1
    assert f"failed on {int(lost.sum())} footprints" in causes[0]


def test_a_bundle_of_another_task_is_refused_in_one_line(world: ShakenWorld) -> None:
    wrong = world.run("wrong", models={"hazard": str(world.folder / "difference")})
    with pytest.raises(ConfigError, match="wrong task: expected hazard, got segmentation"):
        make_plan(open_run(wrong))
    done = quakestream("map", wrong)
    assert done.code == 2
    assert "models.hazard" in done.error
    assert not (world.folder / "out-wrong").exists()


def test_bundles_that_cannot_be_run_are_refused_before_the_first_pixel(world: ShakenWorld) -> None:
    unit = write_hazard_bundle(world.folder / "unit", units={"mmi": "furlong"})
    with pytest.raises(BundleError, match=r"unknown unit of input mmi: .*got 'furlong'"):
        make_plan(open_run(world.run("unit", models={"hazard": str(unit)})))
    with pytest.raises(BundleError, match="no bundle"):
        make_plan(open_run(world.run("none", models={"hazard": "./nowhere"})))


def test_a_damage_bundle_that_takes_hazard_values_is_never_given_them_twice(
    world: ShakenWorld, link: Path
) -> None:
    took = write_building_bundle(world.folder / "took", hazard=("mmi",))
    execution = {"execution": {"cell_windows": 1, "group_cells": 4}}
    alone = rows_of(map_file(world.run("took", models={"damage": str(took)}, **execution)))
    models = {"damage": str(took), "hazard": str(link)}
    result = map_file(world.run("both", models=models, **execution))
    both, given = rows_of(result), world.truth["shaken"]
    own = ["status", "damage", "p_intact", "p_destroyed", "confidence"]
    pd.testing.assert_frame_equal(pd.DataFrame(both[own]), pd.DataFrame(alone[own]))
    assert result.run["hazard_bundle"]["added_to_verdicts"] is False
    assert ["not added to its verdicts" in n for n in result.run["notes"]].count(True) == 1
    assert both.loc[given, HAZARD_COLUMNS].notna().all(axis=None)
    assessed = both["status"] == "assessed"
    assert (both["evidence"][assessed & given] == "image+hazard").all()
    assert (both["evidence"][assessed & ~given] == "image").all()
    assert (both["evidence"][~assessed & given] == "hazard").all()
    pd.testing.assert_series_equal(alone["evidence"][assessed], both["evidence"][assessed])
    assert alone["evidence"][~assessed].isna().all()


@pytest.mark.alone
@pytest.mark.slow  # what Ray reads and scores, properties/test_ray_laws.py compares
def test_ray_fuses_what_the_loop_fuses(
    world: ShakenWorld, link: Path, fused: gpd.GeoDataFrame, ray_backend: "RayBackend"
) -> None:
    result = map_file(world.run("ray", models={"hazard": str(link)}), backend=ray_backend)
    other = rows_of(result).drop(columns=["geometry", "run_id"])
    pd.testing.assert_frame_equal(
        pd.DataFrame(other), pd.DataFrame(fused.drop(columns=["geometry", "run_id"]))
    )
