"""What the routes need of the processes behind them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from quakestream.storage import Store
from serving.health import Health
from serving.jobs import ServiceJob
from serving.links import Links
from serving.maps import OpenMaps
from serving.places import FootprintPlaces
from serving.predictor import Chip, Prediction
from serving.rates import RequestRates
from serving.settings import ServiceSettings
from serving.tokens import TokenFile


class Services(Protocol):
    """The queue of jobs and the engines of `/predict`, wherever they run."""

    async def submit(
        self, owner: str, process: str, request: dict[str, Any], key: str
    ) -> ServiceJob:
        """As `JobQueue.submit`."""
        ...

    async def job(self, job_id: str) -> ServiceJob | None: ...

    async def jobs(self) -> Sequence[ServiceJob]:
        """All jobs, newest first."""
        ...

    async def dismiss(self, job_id: str) -> ServiceJob:
        """As `JobQueue.dismiss`."""
        ...

    def check_room(self, bundle: str) -> None:
        """Checks that one more chip may wait, before it is unpacked.

        Raises:
            BusyError: too many wait.
        """
        ...

    async def predict(self, bundle: str, chip: Chip) -> Prediction:
        """Scores one chip, together with others that arrive at the same time.

        Raises:
            BusyError: too many chips wait.
            RequestError: the chip is not what the bundle takes.
        """
        ...

    async def bundles(self) -> Sequence[dict[str, Any]]:
        """Statements of the bundles that are offered."""
        ...

    async def check(self) -> None:
        """Checks that each bundle passes its golden batch.

        Raises:
            QuakestreamError: one does not.
        """
        ...


class BusyError(Exception):
    """Too many requests wait; a later one may succeed.

    Args:
        what: what there is too much of.
        retry_s: seconds after which a client should try again.
    """

    def __init__(self, what: str, retry_s: int = 10) -> None:
        super().__init__(what, retry_s)
        self.what, self.retry_s = what, retry_s


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Context:
    """What each route of an application is given, as `request.app.state.context`."""

    settings: ServiceSettings
    services: Services
    tokens: TokenFile
    store: Store
    """The service's root."""
    maps: OpenMaps
    links: Links
    rates: RequestRates
    health: Health
    places: FootprintPlaces = field(default_factory=FootprintPlaces)
