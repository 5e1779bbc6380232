"""Labels of a map become a bundle of its event, and the next map is made with it."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import typer
from rasterio.features import rasterize

from quakestream.bundles import load_bundle
from quakestream.cli.map import map_command
from quakestream.config import open_run
from quakestream.errors import RequestError
from quakestream.outputs.figures import card_use
from quakestream.outputs.readback import current_buildings, current_run
from quakestream.pipeline.planning.plan import make_plan
from quakestream.reduce.metrics import roc_auc
from quakestream.storage import open_store
from quakestream.testing import make_world
from quakestream.testing.bundles import write_building_bundle
from tests.helpers.mapping import edit, map_file, same
from training.adapt.command import adapt
from training.adapt.suggest import suggest

if TYPE_CHECKING:
    from quakestream.pipeline.backends.ray_backend import RayBackend


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bool]]:
    """A map of 80 buildings by a model of brightness; rubble on every third has its brightness."""
    folder = tmp_path_factory.mktemp("world")
    made = make_world(folder, seed=5, buildings=80, execution={"runtime": "onnxruntime"})
    write_building_bundle(folder / "old")
    outlines = gpd.read_file(made.footprints).to_crs(32637)
    destroyed = np.arange(len(outlines)) % 3 == 0
    with rasterio.open(made.post, "r+") as scene:
        shapes = [(g.buffer(2), 1) for g in outlines.geometry[destroyed]]
        where = rasterize(shapes, out_shape=scene.shape, transform=scene.transform) > 0
        pixels = scene.read()
        rows, cols = np.indices(scene.shape)
        stripes = np.where((rows // 3 + cols // 5) % 2, 70, 160).astype(np.uint8)
        scene.write(np.where(where, stripes, pixels))
    edit(made.run_file, lambda c: c["models"].update(damage=str(folder / "old")))
    map_command(str(made.run_file), backend="local", quiet=True)
    return folder, dict(zip(outlines["id"].astype(str), destroyed.tolist(), strict=True))


def answers(folder: Path, truth: dict[str, bool]) -> str:
    path = folder / "answers.csv"
    words = ["destroyed" if d else "intact" for d in truth.values()]
    pd.DataFrame({"building_id": list(truth), "answer": words}).to_csv(path, index=False)
    return str(path)


@pytest.mark.slow
def test_labels_become_a_bundle_and_a_better_map(
    world: tuple[Path, dict[str, bool]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, truth = world
    some = dict(list(truth.items())[:60])
    adapt(str(folder / "out"), answers(tmp_path, some), tmp_path / "event")
    said = capsys.readouterr().out
    assert said.count("ROC-AUC") == 1
    assert "its gain" in said
    bundle = load_bundle(str(tmp_path / "event"))
    assert bundle.spec.adapted_to == "small-world"
    assert bundle.spec.calibration is not None
    origin = bundle.spec.training["adapted"]
    assert origin["parent_digest"] == load_bundle(str(folder / "old")).digest
    assert "A bundle of one event, **small-world**" in bundle.files["card.md"].decode()

    def other(content: dict) -> None:
        content["models"] = {"damage": str(tmp_path / "event")}
        content["event"]["id"] = "another-town"

    edit(folder / "run.yaml", other)
    map_command(str(folder / "run.yaml"), out=str(tmp_path / "out"), backend="local", quiet=True)
    assert "adapted to event small-world" in capsys.readouterr().out
    record = current_run(open_store(str(tmp_path / "out")))
    assert any("small-world" in note for note in record["notes"])
    rows = current_buildings(open_store(str(tmp_path / "out")), record)
    unseen = rows[~rows["building_id"].isin(some) & (rows["status"] == "assessed")]
    assert roc_auc([truth[i] for i in unseen["building_id"]], unseen["score"]) > 0.8


@pytest.mark.slow
@pytest.mark.alone
def test_an_adapted_bundle_gives_on_ray_what_it_gives_here(
    world: tuple[Path, dict[str, bool]], tmp_path: Path, ray_backend: "RayBackend"
) -> None:
    folder, truth = world
    adapt(str(folder / "out"), answers(tmp_path, truth), tmp_path / "event", force=True)
    run_file = folder / "on-ray.yaml"
    shutil.copy(folder / "run.yaml", run_file)
    edit(run_file, lambda c: c.update(models={"damage": str(tmp_path / "event")}))
    here = map_file(run_file, tmp_path / "here")
    there = map_file(run_file, tmp_path / "there", ray_backend)
    same(here.buildings, there.buildings)
    assert there.run["backend"] == "ray"
    assert there.run["bundle"]["adapted_to"] == "small-world"
    assert there.run["shares"] == here.run["shares"]
    assert there.run["counts"]["assessed"] == here.run["counts"]["assessed"] > 60


def test_labels_that_mean_nothing_are_refused(
    world: tuple[Path, dict[str, bool]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, truth = world
    drawn = np.random.default_rng(0).permutation(list(truth.values()))[:40]
    noise = dict(zip(list(truth)[:40], drawn.tolist(), strict=True))
    labels = answers(tmp_path, noise)
    with pytest.raises(typer.Exit) as ended:
        adapt(str(folder / "out"), labels, tmp_path / "event")
    assert ended.value.exit_code == 2
    said = capsys.readouterr()
    assert "not shown to be better, so no bundle was written" in said.err
    with pytest.raises(RequestError, match=r"answers\.csv is a file"):
        adapt(str(folder / "out"), labels, Path(labels))
    with pytest.raises(RequestError, match="cannot make the folder"):
        adapt(str(folder / "out"), labels, Path("/proc/none/event"))
    assert not (tmp_path / "event").exists()

    adapt(str(folder / "out"), labels, tmp_path / "event", force=True)
    assert capsys.readouterr().out.startswith("Not shown to be better")
    bundle = load_bundle(str(tmp_path / "event"))
    assert bundle.spec.forced
    (quoted,) = card_use(bundle.files["card.md"].decode())
    assert quoted.startswith(
        "The model card: “Not shown to be better than the map it was made from"
    )
    assert "Expect too few destroyed buildings" in quoted
    assert quoted.endswith("Not for decisions about single buildings.”")
    shutil.copy(folder / "run.yaml", folder / "forced.yaml")
    edit(folder / "forced.yaml", lambda c: c.update(models={"damage": str(tmp_path / "event")}))
    notes = make_plan(open_run(str(folder / "forced.yaml"))).notes
    assert any("was not shown to be better than the map it was made from" in n for n in notes)


def test_suggestions_can_be_filled_in(
    world: tuple[Path, dict[str, bool]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, truth = world
    taken = dict(list(truth.items())[:10])
    out, labels = str(folder / "out"), answers(tmp_path, taken)
    suggest(out, n=12, labels=labels, to=tmp_path / "new" / "next", as_json=True)
    listed = json.loads(capsys.readouterr().out)["buildings"]
    table = pd.read_csv(tmp_path / "new" / "next.csv")
    assert len(listed) == len(table) == len(gpd.read_file(tmp_path / "new" / "next.geojson")) == 12
    assert not set(table["building_id"]) & set(taken)
    assert table["answer"].isna().all()
