"""Every reader of byte ranges, held against one contract."""

import uuid
from pathlib import Path

import pytest

from quakestream.storage import StorageOptions, open_store
from quakestream.storage.fetchers import FsspecFetcher, ObstoreFetcher, open_fetcher
from quakestream.storage.local_fetcher import LocalFetcher
from quakestream.storage.ranges import Fetcher
from quakestream.storage.web_fetcher import WebFetcher
from quakestream.testing import FetcherContract
from tests.helpers.servers import S3Server, web_server


class TestLocal(FetcherContract):
    @pytest.fixture(autouse=True)
    def _object(self, tmp_path: Path) -> None:
        self.path = tmp_path / "object.bin"
        self.path.write_bytes(self.DATA)

    def fetcher(self) -> Fetcher:
        return LocalFetcher(str(self.path))

    def missing(self) -> Fetcher:
        return LocalFetcher(str(self.path.with_name("none.bin")))


class TestFsspec(FetcherContract):
    @pytest.fixture(autouse=True)
    def _object(self) -> None:
        self.store = open_store(f"memory://fetchers/{uuid.uuid4().hex}")
        self.store.put("object.bin", self.DATA)

    def fetcher(self) -> Fetcher:
        return FsspecFetcher(self.store.uri_of("object.bin"), self.store.options)

    def missing(self) -> Fetcher:
        return FsspecFetcher(self.store.uri_of("none.bin"), self.store.options)


class TestS3(FetcherContract):
    @pytest.fixture(autouse=True)
    def _object(self, moto: S3Server) -> None:
        root = moto.make_bucket(f"fetchers-{uuid.uuid4().hex}")
        self.store = open_store(root, moto.options)
        self.store.put("object.bin", self.DATA)

    def fetcher(self) -> Fetcher:
        fetcher = open_fetcher(self.store.uri_of("object.bin"), self.store.options)
        assert isinstance(fetcher, ObstoreFetcher)
        return fetcher

    def missing(self) -> Fetcher:
        return open_fetcher(self.store.uri_of("none.bin"), self.store.options)


class TestHttp(FetcherContract):
    ranges = True

    @pytest.fixture(autouse=True)
    def _object(self, tmp_path: Path):  # type: ignore[no-untyped-def]
        (tmp_path / "object.bin").write_bytes(self.DATA)
        with web_server(tmp_path, ranges=self.ranges) as server:
            self.url = server.url
            yield

    def fetcher(self) -> Fetcher:
        fetcher = open_fetcher(f"{self.url}/object.bin", StorageOptions())
        assert isinstance(fetcher, WebFetcher)
        return fetcher

    def missing(self) -> Fetcher:
        return open_fetcher(f"{self.url}/none.bin", StorageOptions())


class TestHttpWithoutRanges(TestHttp):
    """A server that sends whole objects, whatever is asked."""

    ranges = False
