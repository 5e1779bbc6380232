"""`make serve-demo`: the service on loopback over the demo's earthquake, with a token to try it."""

import json
import sys
from contextlib import suppress
from pathlib import Path

import geopandas as gpd

from quakestream.synthetic import make_earthquake
from serving.command import wait
from serving.running import running
from serving.settings import ServiceSettings
from serving.tokens import Permission, new_token

PORT = 8000
SEED = 7


def demo_settings(folder: Path) -> tuple[ServiceSettings, str]:
    """An earthquake with settings of a service over it, and a token."""
    earthquake = make_earthquake(folder, seed=SEED)
    token, entry = new_token("demo", [Permission.READ, Permission.SUBMIT], None)
    (folder / "tokens.yaml").write_text(entry)
    area = json.loads(gpd.read_file(earthquake.aoi).to_json())["features"][0]["geometry"]
    request = {"inputs": {"aoi": area}}
    (folder / "request.json").write_text(json.dumps(request))
    content = {
        "root": "service",
        "tokens": "tokens.yaml",
        "runs": {"demo": str(earthquake.run_file.resolve())},
        "bundles": ["damage-synthetic"],
    }
    return ServiceSettings.of(content, folder.resolve()), token


def main() -> None:
    """Makes the earthquake, starts the service, and says what to try."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo-out")
    settings, token = demo_settings(folder)
    with (
        suppress(KeyboardInterrupt),
        running(settings, "127.0.0.1", PORT) as address,
    ):
        print(_HOW.format(address=address.rstrip("/"), token=token, folder=folder))
        wait()


_HOW = """\
the service listens at {address}; in another terminal:

  export TOKEN={token}
  curl -s -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" \\
       -d @{folder}/request.json {address}/processes/map/execution
  curl -s -H "Authorization: Bearer $TOKEN" {address}/jobs
  curl -s -H "Authorization: Bearer $TOKEN" {address}/jobs/JOB/results

The results hold a link to the map's page that a browser opens. Press Ctrl-C to stop."""


if __name__ == "__main__":
    main()
