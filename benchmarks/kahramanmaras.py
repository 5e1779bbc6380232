"""How right is the map where no model was trained? Kahramanmaraş, once per shipped model.

Footprints: the detector boxes seen before the event. Headline: EMS points within 5 m,
Destroyed and Damaged against No visible damage. Second: boxes that overlap an OSM
destroyed polygon against boxes EMS calls undamaged. Next to both the mean pre/post
difference and the class prior. Nothing is chosen by these figures.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import geopandas as gpd
import yaml

from benchmarks.common import as_row, data_dir, main, quakestream
from quakestream.config import DEFAULT_DAMAGE_MODEL

DEFAULT, HAZARD = DEFAULT_DAMAGE_MODEL, "hazard-kahramanmaras-2023"
CASES: dict[str, dict[str, Any]] = {
    **{
        f"{bundle}{words}": {"bundle": bundle, **options}
        for bundle in (DEFAULT, "damage-context-2023")
        for words, options in (
            ("", {}),
            (", float32", {"runtime": "onnxruntime"}),
            (" with hazard evidence", {"hazard": HAZARD}),
        )
    },
    "damage-synthetic": {"bundle": "damage-synthetic"},
}


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    source = data_dir() / "kahramanmaras-2023-main"
    folder = Path(tempfile.mkdtemp(prefix="quakestream-km-"))
    rows = []
    for n, (name, case) in enumerate(CASES.items()):
        run_file = write_run(source, folder, **case)
        out = folder / f"out-{n}"
        done = quakestream("map", str(run_file), "--out", str(out), "--json", "--quiet")
        if done.returncode not in (0, 1):
            raise RuntimeError(done.stderr)
        told = json.loads(done.stdout)
        rows.append(
            {
                "bundle": name,
                "engine": told["bundle"]["engine"],
                **as_row(done),
                "counts": told["counts"],
                "ems": _score(out, source),
                "osm_against_ems": _score(out, source, osm=True),
            }
        )
    return {"bundles": list(CASES)}, {"rows": rows}


def write_run(
    source: Path, folder: Path, bundle: str, *, hazard: str | None = None, runtime: str = "auto"
) -> Path:
    """The run file, and the boxes with ids next to it."""
    boxes = gpd.read_file(source / "labels" / "km_merkez4_detection_boxes.geojson")
    boxes["id"] = [f"box{n:03}" for n in range(len(boxes))]
    boxes = boxes[boxes["status"] != "only_in_post"][["id", "geometry"]]
    boxes.to_file(folder / "boxes.geojson")
    fusion = source / "fusion"
    content = {
        "event": {"id": "kahramanmaras-2023", "time": "2023-02-06T01:17:34Z"},
        "aoi": "36.9215,37.5755,36.9335,37.5820",
        "imagery": {
            "catalog": sorted(str(p) for p in (source / "imagery").glob("*.tif")),
            "post": {"datetime": "2023-02-06/2023-03-01"},
            "pre": {"datetime": "2018-01-01/2023-02-05"},
        },
        "footprints": {"path": "boxes.geojson", "id": "id"},
        "hazard": {
            "layers": {
                "pga_g": str(fusion / "pga_g.tif"),
                "dpm_s1": str(fusion / "dpm_sentinel1.tif"),
                "dpm_alos2": str(fusion / "dpm_alos2.tif"),
                "adi": str(fusion / "amplitude_dispersion_index.tif"),
                "ndbi": str(fusion / "ndbi.tif"),
            }
        },
        "models": {"damage": bundle, "hazard": hazard},
        "execution": {"runtime": runtime},
    }
    path = folder / f"run-{bundle}-{hazard}-{runtime}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def _score(out: Path, source: Path, *, osm: bool = False) -> dict[str, Any]:
    labels = source / "labels"
    truth = labels / "EMSR648_AOI04_GRA_MONIT01_builtUpP_r1_v1.json"
    polygons = labels / "km_merkez4_osm_destroyed_buildings.geojson"
    extra = ["--positive-file", str(polygons)] if osm else []
    done = quakestream("score", str(out), "--truth", str(truth), "--json", *extra)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    parsed: dict[str, Any] = json.loads(done.stdout)
    return {k: v for k, v in parsed.items() if k not in ("out", "truth")}


if __name__ == "__main__":
    main("kahramanmaras", run)
