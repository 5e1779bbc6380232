"""The public surface, that importing it is cheap, and that its values read well."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import quakestream as qs
from quakestream.config import open_run
from quakestream.errors import ConfigError

PUBLIC = {
    "QuakestreamError",
    "__version__",
    "map",
    "open_run",
    "plan",
    "report",
    "score",
    "status",
}


def test_the_public_names_are_these_and_nothing_foreign_is_shown() -> None:
    assert set(qs.__all__) == PUBLIC
    assert all(hasattr(qs, name) for name in qs.__all__)
    assert set(dir(qs)) == PUBLIC
    with pytest.raises(AttributeError, match="no attribute 'pandas'"):
        _ = qs.pandas


def test_types_ship_with_the_package() -> None:
    assert (Path(qs.__file__).parent / "py.typed").is_file()


def test_importing_opens_nothing_heavy() -> None:
    code = "import sys, quakestream; print(sorted(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(out.stdout.replace("'", " ").replace(",", " ").split())
    assert "quakestream.errors" in loaded
    assert not loaded & {"numpy", "rasterio", "geopandas", "torch", "ray", "dask", "pydantic"}


def content(folder: Path) -> dict[str, object]:
    return {
        "event": {"id": "here", "time": "2023-02-06T01:17:34Z"},
        "aoi": "36.9,37.5,37.0,37.6",
        "imagery": {
            "catalog": [folder / "a.tif", folder / "b.tif"],
            "post": {"datetime": "2023-02-06/2023-03-01"},
        },
        "footprints": {"path": folder / "buildings.geojson"},
    }


def test_a_run_comes_from_a_dictionary_as_from_a_file(tmp_path: Path) -> None:
    import yaml

    given = content(tmp_path)
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(json.loads(json.dumps(given, default=str))))
    from_dict, from_file = qs.open_run(given), qs.open_run(file)
    assert from_dict.digest() == from_file.digest()
    assert from_dict.footprints.path == str(tmp_path / "buildings.geojson")
    assert repr(from_file) == f"<run here of {file}, {from_file.digest()[:8]}>"


def test_problems_of_a_dictionary_name_its_keys(tmp_path: Path) -> None:
    wrong = content(tmp_path) | {"imagry": {}}
    with pytest.raises(ConfigError) as caught:
        qs.open_run(wrong)
    assert "run file, imagry: unknown key; did you mean 'imagery'?" in str(caught.value)


def test_a_dictionary_that_holds_itself_is_refused(tmp_path: Path) -> None:
    endless = content(tmp_path)
    endless["storage"] = endless
    with pytest.raises(ConfigError, match="sections inside each other"):
        qs.open_run(endless)


def test_settings_of_stores_replace_those_of_the_file_key_by_key(tmp_path: Path) -> None:
    from quakestream.storage import StorageOptions

    given = content(tmp_path) | {
        "storage": {"s3": {"endpoint_url": "http://old", "region": "r"}, "gs": {}},
    }
    run = open_run(given, StorageOptions(protocols={"s3": {"endpoint_url": "http://new"}}))
    assert run.storage == {"s3": {"endpoint_url": "http://new", "region": "r"}, "gs": {}}
