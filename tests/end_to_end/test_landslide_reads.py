"""One read serves both kinds: what a run with landslides fetches beyond one of damage alone."""

from pathlib import Path

import geopandas as gpd
import pytest
import yaml

from quakestream.synthetic import HILLS, SyntheticEarthquake, make_earthquake
from tests.helpers.running import quakestream
from tests.helpers.servers import web_server
from tests.helpers.soil_bundle import write_soil_bundle

MOST = 1.05


def fetched(
    demo: SyntheticEarthquake,
    folder: Path,
    name: str,
    models: dict[str, object],
    aoi: str | None = None,
) -> int:
    """Bytes of the scenes that a run of its own process fetches over HTTP."""
    with web_server(demo.out) as server:
        content = yaml.safe_load(demo.run_file.read_text())
        content["imagery"]["catalog"] = f"{server.url}/imagery/catalog.json"
        content["aoi"] = aoi or _in_the_middle(demo)
        content["footprints"] = {"path": str(demo.footprints), "id": "id"}
        if aoi:  # with the prior
            terrain = content["terrain"].items()
            content["terrain"] = {key: str(demo.out / value) for key, value in terrain}
            content["hazard"] = {"shakemaps": [str(demo.shakemap)]}
        if models["damage"] is None:
            del content["footprints"], content["imagery"]["pre"]
        if not aoi:
            del content["hazard"]
        run_file = folder / f"{name}.yaml"
        run_file.write_text(yaml.safe_dump({**content, "models": models, "out": f"{name}-out"}))
        done = quakestream("map", run_file, "--quiet", timeout_s=400)
        assert done.code in (0, 1), done.stderr
        return sum(size for path, size in server.sent.items() if path.endswith(".tif"))


def _in_the_middle(demo: SyntheticEarthquake) -> str:
    """A box that scenes of both epochs show: south of it lies ground without a pre image."""
    west, south, east, north = gpd.read_file(demo.aoi).total_bounds
    width, height = east - west, north - south
    box = (west + 0.05 * width, south + 0.1 * height, west + 0.8 * width, north - 0.02 * height)
    return ",".join(f"{v:.6f}" for v in box)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> SyntheticEarthquake:
    """The demo's inputs, without its map."""
    return make_earthquake(tmp_path_factory.mktemp("demo"), seed=7)


@pytest.mark.slow
@pytest.mark.alone
def test_both_models_fetch_what_damage_alone_fetches(
    demo: SyntheticEarthquake, tmp_path: Path
) -> None:
    """Over the part of the demo's town that both epochs show; most windows have buildings.

    The windows of the two bundles lie on different lattices and overlap by their halos.
    """
    soil = str(write_soil_bundle(tmp_path / "soil"))
    damage = fetched(demo, tmp_path, "damage", {"damage": "damage-synthetic"})
    both = fetched(demo, tmp_path, "both", {"damage": "damage-synthetic", "landslide": soil})
    assert both <= MOST * damage


@pytest.fixture(scope="module")
def hills(tmp_path_factory: pytest.TempPathFactory) -> SyntheticEarthquake:
    return make_earthquake(tmp_path_factory.mktemp("hills"), seed=7, size=HILLS)


@pytest.mark.slow
@pytest.mark.alone
def test_with_hills_and_their_prior_hardly_more_is_fetched(
    hills: SyntheticEarthquake, tmp_path: Path
) -> None:
    """Damage, landslides and prior over town and hills, against damage alone."""
    soil = str(write_soil_bundle(tmp_path / "soil"))
    aoi = ",".join(f"{v:.6f}" for v in gpd.read_file(hills.aoi).total_bounds)
    damage = fetched(hills, tmp_path, "damage", {"damage": "damage-synthetic"}, aoi)
    models = {"damage": "damage-synthetic", "landslide": soil}
    assert 0 < fetched(hills, tmp_path, "both", models, aoi) <= MOST * damage
