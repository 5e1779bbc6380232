"""The health of the service, looked at once in a while."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from quakestream.errors import QuakestreamError
from quakestream.redaction import without_credentials

log = logging.getLogger("quakestream.serving")
EVERY_S = 10.0
"""Time that a finding holds. `/healthz` needs no token: it must not keep engines busy."""


class Health:
    """Checks that bundles work, at most once in a while, and one check at a time.

    Args:
        look: raises a QuakestreamError where something does not work.
        every_s: seconds that a finding holds.
    """

    def __init__(self, look: Callable[[], Awaitable[None]], every_s: float = EVERY_S) -> None:
        self._look, self._every_s = look, every_s
        self._turn = asyncio.Lock()
        self._until = float("-inf")
        self._found: QuakestreamError | None = None

    async def check(self) -> None:
        """Raises what was found wrong.

        Raises:
            QuakestreamError: a bundle does not work.
        """
        async with self._turn:
            if time.monotonic() >= self._until:
                await self._renew()
        if self._found is not None:
            raise self._found

    async def _renew(self) -> None:
        try:
            await self._look()
            self._found = None
        except QuakestreamError as error:
            log.error("/healthz: %s", without_credentials(str(error)))
            self._found = error
        self._until = time.monotonic() + self._every_s
