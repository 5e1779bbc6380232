"""What a `model.pt2` may hold: bytes and JSON. Nothing that a reader would unpickle or load."""

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
    """Refuses an archive whose reader would run something.

    torch falls back to full unpickling for weights that are marked so, for custom objects and
    for example inputs, and loads libraries that lie in an archive; none has a place in a bundle.

    Raises:
        BundleError: if it is no archive, or holds any of that.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for part in archive.infolist():
                known = _HARMLESS.fullmatch(part.filename)
                if not known and (part.file_size or not _EXAMPLES.fullmatch(part.filename)):
                    raise BundleError(
                        f"bundle {uri}: {FILE} holds {part.filename}, which torch would unpickle "
                        "or run; export the bundle with this version of quakestream"
                    )
                if part.filename.endswith("_config.json"):
                    _check_config(json.loads(archive.read(part)), part.filename, uri)
    except (zipfile.BadZipFile, ValueError, KeyError, AttributeError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"bundle {uri}: {FILE} is no torch.export archive: {error!r}") from error


def _check_config(config: dict[str, dict[str, dict[str, object]]], part: str, uri: str) -> None:
    for name, payload in config["config"].items():
        if payload.get("use_pickle", True):
            raise BundleError(f"bundle {uri}: {FILE}, {part}: {name} is a pickle; export it again")
