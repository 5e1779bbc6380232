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
    """Makes the earthquake, starts the service, and says what to try.

    Arguments: the folder, and the port.
    """
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo-out")
    port = int(sys.argv[2]) if len(sys.argv) > 2 else PORT
    settings, token = demo_settings(folder)
    with (
        suppress(KeyboardInterrupt),
        running(settings, "127.0.0.1", port) as address,
    ):
        print(how_to(address.rstrip("/"), token, str(folder)), flush=True)
        wait()


def how_to(address: str, token: str, folder: str) -> str:
    """What to type in another terminal; the README shows the same."""
    return _HOW.format(address=address, token=token, folder=folder)


_HOW = """\
the service listens at {address}; in another terminal:

export TOKEN={token}
curl -s -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" \\
    -d @{folder}/request.json {address}/processes/map/execution
export JOB=...    # the jobID of that answer
curl -s -H "Authorization: Bearer $TOKEN" {address}/jobs/$JOB
curl -s -H "Authorization: Bearer $TOKEN" {address}/jobs/$JOB/results

The last one, once the job is successful, names the files of the map, and under `links` its page
for a browser. Press Ctrl-C to stop."""


if __name__ == "__main__":
    main()
