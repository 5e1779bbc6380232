"""Contract tests for readers of byte ranges."""

from concurrent.futures import ThreadPoolExecutor

from quakestream.storage import MissingObjectError
from quakestream.storage.ranges import Fetcher
from quakestream.testing.engines import raises

THREADS = 4


class FetcherContract:
    """Tests over the protocol Fetcher.

    A subclass puts `DATA` somewhere and opens it.
    """

    DATA = bytes(range(256)) * 64
    """The object that is read."""

    def fetcher(self) -> Fetcher:
        """A new fetcher of an object that holds `DATA`."""
        raise NotImplementedError

    def missing(self) -> Fetcher:
        """A fetcher of an object that does not exist; opening it may raise already."""
        raise NotImplementedError

    def test_a_range_is_the_objects_bytes(self) -> None:
        fetcher: Fetcher = self.fetcher()
        for start, length in ((0, 1), (0, 300), (700, 1), (1000, 5000), (0, len(self.DATA))):
            assert bytes(fetcher.fetch(start, length)) == self.DATA[start : start + length]

    def test_a_range_ends_where_the_object_ends(self) -> None:
        start = len(self.DATA) - 10
        assert bytes(self.fetcher().fetch(start, 100)) == self.DATA[start:]

    def test_the_size_is_that_of_the_whole_object(self) -> None:
        assert self.fetcher().size() == len(self.DATA)

    def test_several_threads_may_fetch_at_once(self) -> None:
        fetcher = self.fetcher()
        starts = range(0, len(self.DATA) - 200, 500)
        with ThreadPoolExecutor(THREADS) as pool:
            parts = list(pool.map(lambda start: bytes(fetcher.fetch(start, 200)), starts))
        assert parts == [self.DATA[start : start + 200] for start in starts]

    def test_the_policy_allows_requests_or_reads_inline(self) -> None:
        policy = self.fetcher().policy
        assert policy.requests >= 0
        assert 0 <= policy.waste < 1

    def test_closing_twice_does_no_harm(self) -> None:
        fetcher = self.fetcher()
        fetcher.close()
        fetcher.close()

    def test_a_missing_object_is_an_error_of_its_own(self) -> None:
        with raises(MissingObjectError):
            self.missing().fetch(0, 10)
