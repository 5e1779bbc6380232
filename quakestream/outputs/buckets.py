"""Tells an output whose bucket does not exist from one that holds nothing yet."""

from quakestream.errors import RequestError
from quakestream.storage import MissingObjectError, Store


def check_bucket(store: Store) -> None:
    """Does nothing if the bucket of an output exists.

    Raises:
        RequestError: if it does not.
    """
    try:
        store.check_bucket()
    except MissingObjectError as error:
        raise RequestError.of(error.problem) from error
