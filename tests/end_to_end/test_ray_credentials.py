"""Tokens of a cluster and credentials of its workers: what is missing is one line, soon."""

import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from quakestream.storage import open_store
from quakestream.synthetic import SyntheticEarthquake
from tests.helpers.ray_heads import Head, ray_head
from tests.helpers.running import CommandResult, quakestream, run_content, write_run
from tests.helpers.servers import S3Server

pytest.importorskip("ray")

pytestmark = [pytest.mark.alone, pytest.mark.slow]
BOUND_S = 90.0
"""Most of it is for a busy machine; the check itself waits 20 s at most."""
SECRETS = ("AKIAWORKERS", "a-secret-of-the-driver")


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """A cluster whose processes were started without credentials."""
    with ray_head({"AWS_EC2_METADATA_DISABLED": "true"}) as started:
        yield started


@pytest.fixture
def run_file(
    town: SyntheticEarthquake, bundle: Path, moto: S3Server, tmp_path: Path
) -> tuple[Path, str]:
    """A run whose scenes and output lie in a bucket, and the bucket."""
    bucket = moto.make_bucket(tmp_path.name.replace("_", "-"))
    moto.upload(town.out / "imagery", f"{bucket}/imagery")
    content: dict[str, Any] = run_content(town, bundle, storage=moto.storage)
    content["imagery"]["catalog"] = f"{bucket}/imagery/catalog.json"
    content["out"] = f"{bucket}/run"
    return write_run(tmp_path / "run.yaml", content), bucket


def driven(head: Head, *arguments: object) -> tuple[CommandResult, float]:
    """A command whose own process has credentials, and how long it took."""
    env = head.token | dict(
        zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), SECRETS, strict=True)
    )
    began = time.monotonic()
    done = quakestream(*arguments, "--address", head.address, env=env)
    return done, time.monotonic() - began


def assert_names_the_cause(done: CommandResult, bucket: str) -> None:
    assert done.code == 3, done.stderr
    assert done.error.startswith(f"error: {bucket}/imagery/")
    assert ": worker on node " in done.error
    assert f" has no credentials for {bucket}; " in done.error
    assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY on every machine" in done.error
    assert not any(secret in done.stderr + done.stdout for secret in SECRETS)


@pytest.mark.parametrize("command", ["map", "tile"])
def test_workers_without_credentials_are_named(
    head: Head, run_file: tuple[Path, str], moto: S3Server, command: str
) -> None:
    path, bucket = run_file
    more = ("--store", f"{bucket}/tiles.zarr") if command == "tile" else ()
    done, took_s = driven(head, command, path, *more)
    assert_names_the_cause(done, bucket)
    assert took_s < BOUND_S
    assert "run.json" not in open_store(f"{bucket}/run", moto.options).list()


def test_so_are_those_of_a_resumed_run(
    head: Head, run_file: tuple[Path, str], moto: S3Server
) -> None:
    """Its scenes are prepared, so that workers begin with the cells."""
    path, bucket = run_file
    assert quakestream("map", path, "--quiet", env=moto.env).code == 0
    store = open_store(f"{bucket}/run", moto.options)
    for key in store.list("_ledger/cells/"):
        store.delete(key)
    before = store.get("run.json")
    done, took_s = driven(head, "map", path)
    assert_names_the_cause(done, bucket)
    assert took_s < BOUND_S
    assert store.get("run.json") == before, "an earlier map stays"
    assert not any(s.encode() in store.get(k) for k in store.list("_ledger/") for s in SECRETS)


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        (
            {},
            "no answer within 10 s, as of a cluster that wants a token: RAY_AUTH_MODE is not "
            "`token` here",
        ),
        (
            {"RAY_AUTH_MODE": "token"},
            "the cluster could not be joined (Token authentication is enabled but no "
            "authentication token was found)",
        ),
        (
            {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)},
            "no answer within 10 s, as of a cluster with another token than RAY_AUTH_TOKEN here",
        ),
    ],
    ids=["no mode", "no token", "wrong token"],
)
def test_a_token_that_does_not_open_the_cluster_is_one_line(
    head: Head,
    town: SyntheticEarthquake,
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: dict[str, str],
    cause: str,
) -> None:
    # Ray sets this in a process that starts a cluster, as other tests make this one do.
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    path = write_run(tmp_path / "run.yaml", run_content(town, bundle))
    arguments = ("map", path, "--out", tmp_path / "out", "--address", head.address)
    began = time.monotonic()
    done = quakestream(*arguments, env=given | {"HOME": str(tmp_path)}, from_start=True)
    assert time.monotonic() - began < BOUND_S
    assert done.code == 3, done.stderr
    assert done.stderr.splitlines() == [
        f"error: Ray address {head.address}: {cause}; check --address or RAY_ADDRESS; a cluster "
        "with tokens needs RAY_AUTH_MODE=token and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH; without "
        "an address, Ray starts on this machine"
    ]
    assert not (tmp_path / "out").exists()
