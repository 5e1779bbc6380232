"""What Ray raises, as what we raise."""

from quakestream.errors import QuakestreamError, StorageError


def cause_of(error: BaseException) -> QuakestreamError:
    """Our own error inside Ray's, or Ray's as a failure of the job, which may be tried again."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, QuakestreamError):
            return inner
        inner = getattr(inner, "cause", None) or inner.__cause__
    return StorageError(f"the Ray job failed: {str(error).strip().splitlines()[-1]}")
