"""Checks that a `model.pt2` holds only bytes and JSON, which no reader unpickles or runs."""

import io
import json
import re
import zipfile

from quakestream.errors import BundleError

FILE = "model.pt2"
_HARMLESS = re.compile(
    r"[^/]+/(data/weights/(weight_\d+|\w+_config\.json)"
    r"|data/constants/(tensor_\d+|\w+_config\.json)"
    r"|models/model\.json|archive_format|archive_version|byteorder|version|\.data/\w+)"
)
_EXAMPLES = re.compile(r"[^/]+/data/sample_inputs/model\.pt")


def check_archive(data: bytes, uri: str) -> None:
    """Refuses an archive that makes its reader run code.

    torch falls back to full unpickling for weights that are marked so, for custom objects and for
    example inputs, and it loads libraries in an archive. A bundle may hold none of them.

    Raises:
        BundleError: if it is no archive, or holds any of them.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for part in archive.infolist():
                known = _HARMLESS.fullmatch(part.filename)
                if not known and (part.file_size or not _EXAMPLES.fullmatch(part.filename)):
                    raise BundleError(
                        f"{FILE} holds {part.filename}, which torch would unpickle or run",
                        uri,
                        remedy="export the bundle with this version of quakestream",
                    )
                if part.filename.endswith("_config.json"):
                    _check_config(json.loads(archive.read(part)), part.filename, uri)
    except (zipfile.BadZipFile, ValueError, KeyError, AttributeError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"{FILE} is not a torch.export archive ({error!r})", uri) from error


def _check_config(config: dict[str, dict[str, dict[str, object]]], part: str, uri: str) -> None:
    for name, payload in config["config"].items():
        if payload.get("use_pickle", True):
            raise BundleError(
                f"{name} is a pickle", f"{uri}, {FILE}, {part}", remedy="export the bundle again"
            )
