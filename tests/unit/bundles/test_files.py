"""Bundles as they arrive: cut, encrypted, with a flipped bit, too large, beside foreign files."""

import hashlib
import io
import json
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import fsspec
import pytest

from quakestream.bundles import Bundle, load_bundle
from quakestream.errors import BundleError
from quakestream.storage import limits
from quakestream.testing import write_hazard_bundle


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hazard_bundle(tmp_path_factory.mktemp("bundle") / "small")


@pytest.fixture(scope="module")
def packed(folder: Path) -> bytes:
    return zipped({f"small/{p.name}": p.read_bytes() for p in folder.iterdir()})


def zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return sink.getvalue()


def written(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def same(one: Bundle, other: Bundle) -> bool:
    return one.digest == other.digest and dict(one.files) == dict(other.files)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_zip_a_folder_and_an_object_are_one_bundle(
    folder: Path, tmp_path: Path, compression: int
) -> None:
    plain = load_bundle(str(folder))
    packed = zipped({p.name: p.read_bytes() for p in folder.iterdir()}, compression)
    assert same(load_bundle(written(tmp_path / "b.zip", packed)), plain)
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/bundles/b.zip", packed)
    for path in folder.iterdir():
        memory.pipe_file(f"/bundles/b/{path.name}", path.read_bytes())
    for uri in ("memory://bundles/b.zip", "memory://bundles/b", "memory://bundles/b/"):
        assert same(load_bundle(uri), plain)


def test_files_that_the_manifest_does_not_list_are_not_read(folder: Path, tmp_path: Path) -> None:
    """64 MB of zeros beside the bundle take no memory."""
    files = {p.name: p.read_bytes() for p in folder.iterdir()}
    path = written(tmp_path / "b.zip", zipped({**files, "extra.bin": bytes(64 << 20)}))
    tracemalloc.start()
    made = load_bundle(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "extra.bin" not in made.files
    assert peak < 8 << 20
    assert same(made, load_bundle(str(folder)))


@pytest.mark.parametrize("form", ["zip", "folder", "object"])
def test_a_file_larger_than_a_bundle_may_be_is_refused_before_it_is_read(
    folder: Path, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {p.name: p.read_bytes() for p in folder.iterdir()}
    files["model.onnx"] = bytes(3 << 20)
    manifest = json.loads(files["bundle.json"])
    manifest["sha256"]["model.onnx"] = hashlib.sha256(files["model.onnx"]).hexdigest()
    files["bundle.json"] = json.dumps(manifest).encode()
    uri = str(tmp_path / "big")
    (tmp_path / "big").mkdir()
    for name, data in files.items():
        (tmp_path / "big" / name).write_bytes(data)
    if form == "zip":
        uri = written(tmp_path / "big.zip", zipped(files))
    if form == "object":
        uri = "memory://big/bundle"
        for name, data in files.items():
            fsspec.filesystem("memory").pipe_file(f"/big/bundle/{name}", data)
    assert load_bundle(uri).graph == files["model.onnx"]
    monkeypatch.setattr("quakestream.bundles.files.BUNDLE_BYTES", 2 << 20)
    with pytest.raises(BundleError, match=r"model.onnx is too large: .* got 3,145,728 bytes"):
        load_bundle(uri)
    assert limits.BUNDLE_BYTES > 1 << 30


def test_a_flipped_bit_or_a_cut_gives_the_bundle_or_a_refusal(
    packed: bytes, folder: Path, tmp_path: Path
) -> None:
    plain, path = load_bundle(str(folder)), tmp_path / "b.zip"
    refused = 0
    step = max(len(packed) // 150, 1)
    damaged = [packed[:n] for n in range(0, len(packed), step * 3)]
    for n in range(0, len(packed), step):
        damaged.append(packed[:n] + bytes([packed[n] ^ 1 << n % 8]) + packed[n + 1 :])
    # the list of members is where a flipped bit misleads a reader most
    tail = len(packed) - 400
    for n in range(tail, len(packed)):
        damaged.append(packed[:n] + bytes([packed[n] ^ 1 << n % 8]) + packed[n + 1 :])
    for data in damaged:
        try:
            made = load_bundle(written(path, data))
        except BundleError as error:
            refused += error.where.startswith((str(path), f"bundle {path}"))
        else:
            assert same(made, plain)
    assert refused > 100


def test_an_encrypted_member_is_named_as_such(packed: bytes, tmp_path: Path) -> None:
    data = bytearray(packed)
    at = -1
    while (at := data.find(b"PK\x01\x02", at + 1)) >= 0:
        data[at + 8] |= 1
    at = -1
    while (at := data.find(b"PK\x03\x04", at + 1)) >= 0:
        data[at + 6] |= 1
    with pytest.raises(BundleError, match="encrypted"):
        load_bundle(written(tmp_path / "b.zip", bytes(data)))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sha256", {"../../secret": "0" * 64}),
        ("sha256", {"model.onnx": 3}),
        ("sha256", 7),
        ("classes", 7),
        ("classes", ["intact", "destroyed"]),
        ("window_px", 1e999),
        ("gsd_m", "fine"),
        ("prior", ["a", "b"]),
        ("hazard", {"mmi": 1}),
        ("thresholds", None),
        ("hazard_groups", ["x"]),
    ],
)
def test_a_manifest_of_wrong_types_is_refused(
    folder: Path, tmp_path: Path, key: str, value: Any
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    manifest = json.loads((copy / "bundle.json").read_text()) | {key: value}
    (copy / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"copy/bundle\.json"):
        load_bundle(str(copy))


def test_a_manifest_nested_without_end_is_refused(folder: Path, tmp_path: Path) -> None:
    deep = b"[" * 100_000
    with pytest.raises(BundleError, match=r"bundle\.json"):
        load_bundle(written(tmp_path / "b.zip", zipped({"bundle.json": deep})))


def test_a_golden_batch_that_is_none_is_an_error_of_the_bundle(
    folder: Path, tmp_path: Path
) -> None:
    files = {p.name: p.read_bytes() for p in folder.iterdir()}
    files["golden.npz"] = b"PK\x03\x04 garbage"
    manifest = json.loads(files["bundle.json"])
    manifest["sha256"]["golden.npz"] = hashlib.sha256(files["golden.npz"]).hexdigest()
    files["bundle.json"] = json.dumps(manifest).encode()
    made = load_bundle(written(tmp_path / "b.zip", zipped(files)))
    with pytest.raises(BundleError, match=r"golden\.npz cannot be read"):
        _ = made.golden
