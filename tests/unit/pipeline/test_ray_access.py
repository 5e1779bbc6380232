"""What a worker says that cannot read what its driver can."""

import socket
from pathlib import Path

import pytest

pytest.importorskip("ray")

from quakestream.errors import ClusterError, StorageError
from quakestream.pipeline.backends import ray_access
from quakestream.pipeline.backends.cluster import ray_failure
from quakestream.pipeline.backends.ray_access import Access, checked, errors_name_node
from quakestream.storage import StorageOptions
from tests.helpers.servers import S3Server


def access(*objects: object, **s3: object) -> Access:
    protocols = {"s3": s3} if s3 else {}
    return Access(objects=tuple(map(str, objects)), options=StorageOptions(protocols=protocols))


def refused(tried: Access) -> ClusterError:
    with pytest.raises(ClusterError) as caught:
        tried.check()
    return caught.value


def test_a_readable_object_lets_the_work_begin(tmp_path: Path) -> None:
    (tmp_path / "lease.json").write_text("{}")
    assert checked(access(tmp_path / "lease.json"), len, "four") == 4


def test_an_output_that_the_machines_do_not_share_is_named(tmp_path: Path) -> None:
    error = refused(access(tmp_path / "lease.json"))
    assert error.where == f"{tmp_path}/lease.json"
    assert error.what.startswith("worker on node ")
    assert error.what.endswith(" does not see what this machine has written there")
    assert "all machines share" in error.remedy


def test_missing_credentials_name_the_bucket(
    moto: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bucket = moto.make_bucket("closed")
    for name in moto.env:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    # fsspec keeps the file systems of a process, so this one has settings of its own
    error = refused(
        access(f"{bucket}/a.tif", endpoint_url=moto.endpoint, default_cache_type="none")
    )
    assert (error.where, error.what.partition(" has ")[2]) == (
        f"{bucket}/a.tif",
        f"no credentials for {bucket}",
    )
    assert "AWS_ACCESS_KEY_ID" in error.remedy


def test_a_store_that_is_silent_ends_the_wait(
    moto: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_access, "ANSWER_S", 0.5)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        endpoint = f"http://127.0.0.1:{mute.getsockname()[1]}"
        error = refused(access("s3://bucket/a.tif", endpoint_url=endpoint))
    assert error.got == "no answer within 0.5 s"


def test_errors_of_stores_name_the_machine_and_keep_their_fields() -> None:
    with pytest.raises(StorageError) as caught, errors_name_node():
        raise StorageError(
            "cannot write: no space left on the device", "/out/a", remedy="free some"
        )
    assert caught.value.where.startswith("/out/a (worker on node ")
    assert caught.value.what == "cannot write: no space left on the device"
    assert caught.value.remedy == "free some"


def test_an_error_that_ray_wrapped_comes_back_with_its_fields() -> None:
    """Ray's wrapper is an instance of our class too, with itself in place of the fields."""
    import ray

    ours = StorageError("cannot write", "/out/a")
    wrapped = ray.exceptions.RayTaskError("run", "…", ours).as_instanceof_cause()
    assert isinstance(wrapped, StorageError)
    assert ray_failure(wrapped) is ours
