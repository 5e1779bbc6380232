"""`quakestream bundle` for every task a bundle may have."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from quakestream.bundles import load_bundle, write_manifest
from quakestream.bundles.files import SHIPPED
from quakestream.cli.bundle import bundle_app
from quakestream.testing import write_building_bundle, write_hazard_bundle

MODELS_PAGE = Path(__file__).parents[3] / "docs" / "models.md"


def bundle(folder: Path, task: str) -> Path:
    if task == "hazard":
        return write_hazard_bundle(folder)
    return write_building_bundle(folder, hazard=("mmi", "dpm"))


def said(*arguments: object) -> str:
    result = CliRunner().invoke(bundle_app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("task", ["building", "hazard"])
def test_verify_scores_the_golden_batch(tmp_path: Path, task: str) -> None:
    folder = bundle(tmp_path / "b", task)
    report = json.loads(said("verify", folder, "--json"))
    assert report["ok"]
    assert 0 <= report["difference"] < 1e-3


@pytest.mark.parametrize("task", ["building", "hazard"])
def test_verify_tells_another_model(tmp_path: Path, task: str) -> None:
    folder = bundle(tmp_path / "b", task)
    made = load_bundle(str(folder))
    golden = {**made.golden, "logits": made.golden["logits"] + np.float32(0.01)}
    np.savez(folder / "golden.npz", allow_pickle=False, **golden)
    write_manifest(folder, made.spec)
    result = CliRunner().invoke(bundle_app, ["verify", str(folder)])
    assert result.exit_code == 3
    assert "NOT the same model" in result.output


def test_the_list_says_the_sizes_that_the_documents_say() -> None:
    listed = {
        line.split()[0]: line.rsplit(", ", 1)[1] for line in said("list").strip().splitlines()
    }
    rows = [line.split("|") for line in MODELS_PAGE.read_text().splitlines()]
    told = {row[1].split("`")[1]: row[-2].strip() for row in rows if row[-2:-1] and "`" in row[1]}
    assert {name: told[name] for name in listed} == listed
    assert len(listed) == 7
    folder = SHIPPED / "damage-turkiye-2023"
    whole = sum(path.stat().st_size for path in folder.iterdir())
    assert listed["damage-turkiye-2023"] == f"{whole / 1e6:.2f} MB"


def test_show_says_what_a_building_bundle_takes(tmp_path: Path) -> None:
    text = said("show", bundle(tmp_path / "b", "building"))
    assert "task building, needs pre and post" in text
    assert "a crop of 48 px (24 m) around a building" in text
    assert "hazard values mmi (MMI), dpm (1)" in text


def test_show_says_what_a_hazard_bundle_takes(tmp_path: Path) -> None:
    text = said("show", bundle(tmp_path / "b", "hazard"))
    assert "task hazard, needs no imagery" in text
    assert "px" not in text
    shown = json.loads(said("show", bundle(tmp_path / "b", "hazard"), "--json"))
    assert shown["prior"] == [0.7, 0.3]
