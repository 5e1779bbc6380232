"""The maps that are shown, kept open while they are looked at."""

import threading
from collections import OrderedDict

from quakestream.errors import RequestError
from quakestream.outputs.layout import RUN_JSON
from quakestream.outputs.live import LiveMap
from quakestream.storage import Store, open_store
from serving.jobs import RUNS
from serving.settings import ServiceSettings

OPEN_AT_MOST = 8


class OpenMaps:
    """Maps of jobs and of the settings, by id.

    Args:
        settings: names the root and the maps that are shown to all.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._open: OrderedDict[tuple[str, str], LiveMap] = OrderedDict()
        self._lock = threading.Lock()

    def is_public(self, run_id: str) -> bool:
        """True for a map that every token which reads may see."""
        return run_id in self._settings.maps

    def store(self, run_id: str) -> Store:
        """Where a map lies. The id is a name of the settings or the id of a job."""
        place = self._settings.maps.get(run_id) or f"{self._settings.root}/{RUNS}{run_id}"
        return open_store(place, self._settings.options)

    def live(self, run_id: str) -> LiveMap | None:
        """The map as it is published now; None where there is none yet."""
        store = self.store(run_id)
        if not store.exists(RUN_JSON):
            return None
        try:
            live = LiveMap(store)
        except RequestError:
            return None
        key = (run_id, str(live.run["snapshot"]))
        with self._lock:
            live = self._open.setdefault(key, live)
            self._open.move_to_end(key)
            while len(self._open) > OPEN_AT_MOST:
                self._open.popitem(last=False)
        return live
