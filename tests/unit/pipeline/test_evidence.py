"""Evidence of hazard values: other scales, damage bundles that took them in, bad answers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from quakestream.bundles import load_bundle, write_manifest
from quakestream.config import HazardSection, RunFile, parse_run
from quakestream.domain import BundleSpec, HazardInput, ScaleClass
from quakestream.errors import BundleError
from quakestream.fusion import prior_of
from quakestream.hazard import HazardTable
from quakestream.pipeline.result.context import FootprintHazard
from quakestream.pipeline.result.evidence import ROWS, HazardEvidence, hazard_evidence, hazard_model
from quakestream.pipeline.result.rows import evidence_column
from quakestream.testing import write_bundle
from tests.helpers.shaken import FRAGILITY, Logistic, write_hazard_bundle

RUN = """\
event: {id: e, time: 2023-02-06T01:17:34Z}
aoi: 36.92,37.57,36.94,37.59
imagery: {catalog: catalog.json, post: {datetime: 2023-02-07}}
footprints: {path: b.parquet}
hazard: {shakemaps: [grid.xml]}
models: {hazard: "BUNDLE"}
"""
FIELD = tuple(
    ScaleClass(index=i, label=f"grade{i}", xbd="no", ems98=(g,), copernicus="Damaged")
    for i, g in enumerate((0, 2, 3, 4, 5))
)


def run_with(bundle: Path) -> RunFile:
    return parse_run(RUN.replace("BUNDLE", str(bundle)), "/d/run.yaml")


@pytest.fixture
def damage(tmp_path: Path) -> BundleSpec:
    return load_bundle(str(write_bundle(tmp_path / "difference"))).spec


def evidence_of(bundle: Path, damage: BundleSpec, values: pd.DataFrame) -> HazardEvidence:
    model = hazard_model(run_with(bundle), damage)
    assert model is not None
    return hazard_evidence(model, values)


def test_a_finer_scale_comes_to_the_damage_bundles_own(tmp_path: Path, damage: BundleSpec) -> None:
    """Five grades with one rising logit; of the damage scale, grades 0-2 and 5 are named."""
    model = Logistic(intercept=1.0, slopes={"mmi": (7.5, 1.0)})
    bundle = write_hazard_bundle(
        tmp_path / "field", model, classes=FIELD, prior=(0.5, 0.2, 0.1, 0.1, 0.1)
    )
    mmi = np.array([5.0, 7.5, 9.0], np.float32)
    found = evidence_of(bundle, damage, pd.DataFrame({"mmi": mmi}))
    worst = np.exp(1.0 + mmi - 7.5) / (4.0 + np.exp(1.0 + mmi - 7.5))
    # grade 3 is nearer to 2 than to 5, grade 4 nearer to 5
    assert found.p_NC[:, 1] == pytest.approx(worst + (1 - worst) / 4, abs=1e-6)
    assert found.p_NC.sum(axis=1) == pytest.approx(1.0, abs=1e-6)
    assert found.prior_C == pytest.approx([0.8, 0.2])


def test_the_images_class_shares_stay_those_of_the_result(
    tmp_path: Path, damage: BundleSpec
) -> None:
    bundle = write_hazard_bundle(tmp_path / "link", prior=(0.9, 0.1))
    values = pd.DataFrame({"mmi": [7.5, np.nan], "vs30_m_s": [340.0, np.nan]}, dtype=np.float32)
    found = evidence_of(bundle, damage, values)
    image_NC = np.array([[0.4, 0.6], [0.4, 0.6]])
    fused_NC = found.revised(image_NC, prior_of(damage))
    p = expit(FRAGILITY.intercept)
    odds = (0.6 / 0.4) * (p / (1 - p)) * (0.9 / 0.1)
    assert fused_NC[0, 1] == pytest.approx(odds / (1 + odds), abs=1e-6)
    assert fused_NC[1].tolist() == [0.4, 0.6]
    assert image_NC.tolist() == [[0.4, 0.6], [0.4, 0.6]]
    # whatever shares the image assumes, they are in its answer already
    skewed = replace(damage, prior=(0.97, 0.03))
    assert found.revised(image_NC, prior_of(skewed))[0, 1] == pytest.approx(fused_NC[0, 1])


def test_more_rows_than_go_at_once_come_out_in_order(tmp_path: Path, damage: BundleSpec) -> None:
    rng = np.random.default_rng(0)
    mmi = rng.uniform(5, 10, 2 * ROWS + 37).astype(np.float32)
    mmi[rng.random(len(mmi)) < 0.3] = np.nan
    values = pd.DataFrame({"mmi": mmi, "vs30_m_s": np.float32(np.nan), "dpm": np.float32(1.0)})
    found = evidence_of(write_hazard_bundle(tmp_path / "link"), damage, values)
    expected = expit(-0.4 + 1.6 * (mmi - 7.5))
    assert found.p_NC[:, 1] == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert (found.there_N == ~np.isnan(mmi)).all()
    assert found.missing == {"mmi": int(np.isnan(mmi).sum()), "vs30_m_s": len(mmi)}
    assert found.issues == ()
    assert evidence_of(tmp_path / "link", damage, values.iloc[:0]).p_NC.shape == (0, 2)


def test_hazard_values_count_once(tmp_path: Path, damage: BundleSpec) -> None:
    """A damage bundle that takes them in has used them; p_hazard_* are still there."""
    took = replace(damage, hazard=(HazardInput(name="mmi", unit="mmi", mean=7.0, std=1.0),))
    model = hazard_model(run_with(write_hazard_bundle(tmp_path / "link")), took)
    assert model is not None
    assert "not added to its verdicts" in " ".join(model.notes)
    values = pd.DataFrame(
        {"mmi": [8.0, np.nan, 8.0, np.nan, np.nan], "vs30_m_s": [np.nan, 200.0] * 2 + [np.nan]},
        dtype=np.float32,
    )
    found = hazard_evidence(model, values)
    image_NC = np.tile([0.4, 0.6], (5, 1))
    assert found.revised(image_NC, prior_of(took)).tolist() == image_NC.tolist()
    assert found.there_N.tolist() == [True, True, True, True, False]
    table = HazardTable(values=values, missing_N=[[]] * 5, issues=[], versions={})
    assessed_N = np.array([True, True, False, False, False])
    column = evidence_column(assessed_N, FootprintHazard(table=table, evidence=found), took)
    # the second row's VS30 is none of the damage bundle's values
    assert column.tolist() == ["image+hazard", "image", "hazard", "hazard", None]
    alone = evidence_column(assessed_N, FootprintHazard(table=table, evidence=None), took)
    assert alone.tolist() == ["image+hazard", "image", None, None, None]
    plain = evidence_column(assessed_N, FootprintHazard(table=table, evidence=found), damage)
    assert plain.tolist() == ["image+hazard", "image+hazard", "hazard", "hazard", None]


def test_answers_that_are_no_probabilities_are_left_out(tmp_path: Path, damage: BundleSpec) -> None:
    bundle = write_hazard_bundle(tmp_path / "link", broken_above=8.0)
    values = pd.DataFrame({"mmi": [7.0, 9.0, 9.5], "vs30_m_s": [340.0] * 3}, dtype=np.float32)
    found = evidence_of(bundle, damage, values)
    assert found.there_N.tolist() == [True, False, False]
    assert [i.subject for i in found.issues] == [str(bundle)]
    assert "failed on 2 footprints" in found.issues[0].cause


def test_a_graph_that_takes_other_values_than_its_manifest_leaves_the_map_to_the_image(
    tmp_path: Path, damage: BundleSpec
) -> None:
    bundle = write_hazard_bundle(tmp_path / "link")
    other = write_hazard_bundle(
        tmp_path / "other", Logistic(intercept=0.0, slopes={"pga_g": (0.3, 1.0)})
    )
    wrong = replace(load_bundle(str(bundle)), files=load_bundle(str(other)).files)
    model = hazard_model(run_with(bundle), damage)
    assert model is not None
    values = pd.DataFrame({"mmi": [7.0], "vs30_m_s": [340.0]}, dtype=np.float32)
    found = hazard_evidence(replace(model, bundle=wrong), values)
    assert not found.there_N.any()
    assert "ONNX Runtime failed" in found.issues[0].cause


def test_a_graph_that_does_not_load_is_a_wrong_request(tmp_path: Path, damage: BundleSpec) -> None:
    bundle = write_hazard_bundle(tmp_path / "link")
    spec = load_bundle(str(bundle)).spec
    (bundle / "model.onnx").write_bytes(b"no graph")
    write_manifest(bundle, spec)
    with pytest.raises(BundleError, match="does not load"):
        hazard_model(run_with(bundle), damage)


def test_no_hazard_bundle_is_no_hazard_model(damage: BundleSpec) -> None:
    run = parse_run(RUN.replace('models: {hazard: "BUNDLE"}', ""), "/d/run.yaml")
    assert hazard_model(run, damage) is None
    assert run.hazard == HazardSection(shakemaps=["/d/grid.xml"])
