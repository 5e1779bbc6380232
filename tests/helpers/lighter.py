"""Small runs made lighter, in the process that imports this.

Pages have no pictures, which are half of a small run's time. Files are not flushed to the disk:
that waits for the disk more than twenty times a map, and serves those whose machine loses power.
A process that is killed loses nothing by it.
"""

import os

from quakestream.outputs import viewer

PICTURES_AT_MOST_BYTES = viewer.PICTURES_AT_MOST_BYTES
"""What users have."""


def _not_flushed(descriptor: int) -> None:
    """Stands where `os.fsync` does."""


viewer.PICTURES_AT_MOST_BYTES = 0
os.fsync = _not_flushed
