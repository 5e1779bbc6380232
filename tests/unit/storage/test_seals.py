"""Seals: an object is believed only under its own name and whole."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from quakestream.storage.seals import sealed, unsealed


def parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": [1, 2, 3]}), sink)
    return sink.getvalue()


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1PAR1", b"x" * 500, parquet()])
def test_what_was_sealed_comes_back_and_nothing_else_does(data: bytes) -> None:
    whole = sealed("_ledger/cells/a.parquet", data)
    assert unsealed("elsewhere/a.parquet", whole) == data
    assert unsealed("_ledger/cells/b.parquet", whole) is None
    for n in range(len(whole)):
        assert unsealed("a.parquet", whole[:n]) is None
        assert unsealed("a.parquet", whole[:n] + bytes([whole[n] ^ 1]) + whole[n + 1 :]) is None
    assert unsealed("a.parquet", data) is None
    assert unsealed("a.parquet", whole + b"\0") is None


def test_a_sealed_parquet_file_is_a_parquet_file() -> None:
    assert pq.read_table(io.BytesIO(sealed("a.parquet", parquet())))["a"].to_pylist() == [1, 2, 3]
