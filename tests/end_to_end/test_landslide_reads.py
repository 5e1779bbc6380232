"""One read serves both kinds: what a run with landslides fetches beyond one of damage alone."""

from pathlib import Path

import geopandas as gpd
import pytest
import yaml

from quakestream.synthetic import SyntheticEarthquake, make_earthquake
from tests.helpers.running import quakestream
from tests.helpers.servers import web_server
from tests.helpers.soil_bundle import write_soil_bundle

MOST = 1.05


def fetched(demo: SyntheticEarthquake, folder: Path, name: str, models: dict[str, object]) -> int:
    """Bytes of the scenes that a run of its own process fetches over HTTP."""
    with web_server(demo.out) as server:
        content = yaml.safe_load(demo.run_file.read_text())
        content["imagery"]["catalog"] = f"{server.url}/imagery/catalog.json"
        content["aoi"] = _in_the_middle(demo)
        content["footprints"] = {"path": str(demo.footprints), "id": "id"}
        if models["damage"] is None:
            del content["footprints"], content["imagery"]["pre"]
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
