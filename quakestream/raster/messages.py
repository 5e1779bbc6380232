"""Parts of messages that several readers need."""

import re
from dataclasses import replace

from quakestream.errors import QuakestreamError
from quakestream.storage.filesystems import CREDENTIALS_REMEDY, NO_CREDENTIALS

_CODE = re.compile(r"<Error>.*<Code>(\w+)</Code>", re.DOTALL)
_ANSWERS = {
    "NoSuchKey": "there is no such object; the name of a folder ends in a slash",
    "NoSuchBucket": "there is no such bucket",
    "AccessDenied": "permission denied; check credentials, `anon` and the rights on the place",
    "InvalidAccessKeyId": "permission denied; the store does not know the access key",
    "SignatureDoesNotMatch": "permission denied; the secret key does not fit the access key",
}
"""What the error codes of S3 mean."""


def counted(count: int, noun: str) -> str:
    """A count and its noun, in the singular or plural: `1 block`, `1,024 bytes`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def reason_of(error: BaseException) -> str:
    """What went wrong, without the name of the object that it concerns."""
    if isinstance(error, QuakestreamError):
        return str(replace(error.problem, where=""))
    return str(error) or type(error).__name__


def root_cause(error: BaseException) -> str:
    """The message of the innermost cause. rasterio's own messages often only point to it.

    GDAL hands the answers of object stores on as XML, and names its own settings where it lacks
    credentials.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    reason = reason_of(error)
    if "AWS_SECRET_ACCESS_KEY" in reason:
        return f"{NO_CREDENTIALS}; {CREDENTIALS_REMEDY}"
    code = _CODE.search(reason)
    return _ANSWERS.get(code[1], f"the store answers {code[1]}") if code else reason
