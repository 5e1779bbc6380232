"""Whether an area holds buildings of a run, which is looked up before a job is accepted."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from quakestream.catalog import FootprintRequest, read_footprints
from quakestream.catalog.aoi import read_aoi
from quakestream.errors import NoFootprintError, QuakestreamError, RequestError
from quakestream.storage import StorageOptions, is_web, open_store
from serving.mapper import request_run

LONGEST_S = 10.0
"""Time that a request waits for the answer."""
MOST_BYTES = 64 << 20
"""Footprint files that are looked into: larger ones are read by the job alone."""


class FootprintPlaces:
    """Looks for buildings in an area, one request at a time, and no longer than a while.

    What cannot be told in that time is left to the job, which says the same later.

    Args:
        longest_s: seconds that a request waits.
    """

    def __init__(self, longest_s: float = LONGEST_S) -> None:
        self._longest_s = longest_s
        self._turns = ThreadPoolExecutor(max_workers=1, thread_name_prefix="footprints")

    async def check(self, runs: Mapping[str, str], request: Mapping[str, Any]) -> None:
        """Checks that a request asks for an area with buildings.

        Raises:
            RequestError: the run has footprints, and none of them lies in the area.
        """
        loop = asyncio.get_running_loop()
        answer = loop.run_in_executor(self._turns, check_place, runs, request)
        await asyncio.wait([answer], timeout=self._longest_s)
        if answer.done():
            answer.result()
        else:
            answer.cancel()


def check_place(runs: Mapping[str, str], request: Mapping[str, Any]) -> None:
    """As `FootprintPlaces.check`, however long it takes.

    A run file or footprints that cannot be read are no fault of the request: the job says so.
    """
    try:
        run = request_run(runs, request)
        given = run.footprints
        if given is None or not _is_small(given.path, run.storage_options):
            return
        file = FootprintRequest(uri=given.path, id_column=given.id, layer=given.layer)
        read_footprints(file, read_aoi(request["aoi_wkt"]), run.storage_options)
    except NoFootprintError as error:
        raise RequestError(
            "no building of the run lies in the area",
            "inputs.aoi",
            expected=f"an area with footprints of the run {request['run']!r}",
            got=f"none; its footprints: {error.got} (west, south, east, north)",
            remedy="send an area within these bounds, longitude before latitude",
        ) from error
    except QuakestreamError:
        return


def _is_small(uri: str, options: StorageOptions) -> bool:
    """True for a file of known size that is read in a moment; not for folders and web pages."""
    folder, _, name = uri.rpartition("/")
    store = open_store(folder or "/", options)
    return not is_web(uri) and store.exists(name) and store.size(name) <= MOST_BYTES
