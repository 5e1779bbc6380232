"""Requests of a token in a minute."""

import time

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter


class RequestRates:
    """Counts requests by token in this process.

    Args:
        per_minute: requests of one token. Each process that answers HTTP counts for itself.
    """

    def __init__(self, per_minute: int) -> None:
        self._item = RateLimitItemPerMinute(per_minute)
        self._window = MovingWindowRateLimiter(MemoryStorage())

    def wait_s(self, name: str) -> float:
        """Counts one request; 0 if it is within the limit, else seconds until one is free."""
        if self._window.hit(self._item, name):
            return 0.0
        reset = self._window.get_window_stats(self._item, name).reset_time
        return max(reset - time.time(), 1.0)
