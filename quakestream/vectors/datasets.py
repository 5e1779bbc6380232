"""The data sets that a file, a folder or an archive holds.

Archives are unpacked into a temporary folder, each file under its own name, and no more than
`VECTORS.most_bytes` of them: what an archive says of its sizes is not believed.
"""

import gzip
import re
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from quakestream.errors import RequestError
from quakestream.storage.limits import VECTORS
from quakestream.vectors import contents
from quakestream.vectors.contents import Format, format_of, not_vectors

_MEMBERS = 10_000
"""Files of one archive or folder that are looked at."""
_DEPTH = 3
"""Archives inside each other that are unpacked."""
_CHUNK = 1 << 20
_COMPANIONS = (
    *(".shp", ".shx", ".dbf", ".prj", ".cpg"),
    *(".tab", ".dat", ".map", ".id", ".mif", ".mid"),
)
_NO_DATA = (
    *(".shx", ".dbf", ".prj", ".cpg", ".qix", ".sbn", ".sbx", ".shp.xml", ".dat", ".map", ".id"),
    *(".mid", ".tif", ".tiff", ".jp2", ".img", ".ecw", ".jpg", ".png", ".pdf", ".qml", ".qmd"),
)
"""Suffixes of files that go with a data set, and of those that an archive need not unpack."""
_OFFICE = {
    "xl/workbook.xml": "an Excel workbook",
    "word/document.xml": "a Word document",
    "ppt/presentation.xml": "a PowerPoint file",
    "content.xml": "a LibreOffice document",
    "GISProject.xml": "an ArcGIS project",
    "index/document.json": "an ArcGIS Pro project",
}
_ARCHIVE_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, gzip.BadGzipFile, LookupError)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """One file, or one folder of a geodatabase, that a reader opens."""

    path: Path
    format: Format
    name: str
    """Its name inside the archive; empty for the file itself."""


@contextmanager
def open_data_sets(path: Path) -> Iterator[list[DataSet]]:
    """The data sets of a file or a folder, in order of name, for as long as the `with` lasts.

    Raises:
        RequestError: if there is none; the error says what the file is instead.
        OSError: if this machine has no room for what an archive holds.
    """
    with tempfile.TemporaryDirectory(prefix="quakestream-") as folder:
        yield _Unpacker(Path(folder)).data_sets(path)


class _Unpacker:
    """Unpacks archives into one folder, within one budget of bytes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._bytes_left = VECTORS.most_bytes
        self._places = 0

    def data_sets(self, path: Path) -> list[DataSet]:
        if path.is_dir():
            return self._in_folder(path)
        return self._in_file(path, path.name, "", 0)

    def _in_file(self, path: Path, own_name: str, name: str, depth: int) -> list[DataSet]:
        found = format_of(path)
        if found in (contents.GZIP, contents.ZIP):
            if depth == _DEPTH:
                raise RequestError("archives inside each other", name, f"at most {_DEPTH}")
            if found is contents.ZIP:
                return self._in_zip(path, depth)
            inner = re.sub(r"\.t?gz$", "", own_name, flags=re.IGNORECASE)
            target = self._new_folder() / (_safe(inner) or "data")
            self._ungzip(path, target)
            return self._in_file(target, inner, name, depth + 1)
        return [DataSet(path=self._staged(path, own_name, found), format=found, name=name)]

    def _in_folder(self, folder: Path) -> list[DataSet]:
        if (folder / "a00000001.gdbtable").exists():
            return [self._geodatabase(folder, "")]
        paths = sorted(p for p in folder.rglob("*") if p.is_file())[: _MEMBERS + 1]
        names = [p.relative_to(folder).as_posix() for p in paths]
        return self._among(names, lambda name: folder / name, 0)

    def _in_zip(self, path: Path, depth: int) -> list[DataSet]:
        try:
            with zipfile.ZipFile(path) as archive:
                names = sorted(n for n in archive.namelist() if not n.endswith("/"))
                _refuse_other_archives(names)
                folder = self._new_folder()

                def extracted(name: str) -> Path:
                    target = folder.joinpath(*map(_safe, PurePosixPath(name).parts))
                    if not target.exists():
                        target.parent.mkdir(parents=True, exist_ok=True)
                        with archive.open(name) as source:
                            self._copy(source, target, name)
                    return target

                return self._among(names, extracted, depth + 1)
        except (*_ARCHIVE_ERRORS, RuntimeError) as error:  # RuntimeError: encrypted
            raise _damaged(error) from error

    def _among(self, names: list[str], path_of: Callable[[str], Path], depth: int) -> list[DataSet]:
        """The data sets among files of these names; others are passed over."""
        names = [n for n in names if not _is_hidden(n)]
        if len(names) > _MEMBERS:
            raise RequestError("holds too many files", "", f"at most {_MEMBERS:,}", "more")
        found: list[DataSet] = []
        refused: list[RequestError] = []
        for gdb in sorted({n[: n.index(".gdb/") + 4] for n in names if ".gdb/" in n}):
            parts = [path_of(n) for n in names if n.startswith(gdb + "/")]
            found.append(self._geodatabase(parts[0].parent, gdb))
        for name in names:
            if ".gdb/" in name or name.lower().endswith(_NO_DATA):
                continue
            try:
                path = path_of(name)
                for other in names if name.lower().endswith((".shp", ".tab", ".mif")) else ():
                    if _stem(other) == _stem(name):
                        path_of(other)
                found += self._in_file(path, PurePosixPath(name).name, name, depth)
            except RequestError as error:
                if self._bytes_left < 0:
                    raise
                refused.append(error)
        if not found:
            raise _nothing_found(names, refused)
        return found

    def _geodatabase(self, folder: Path, name: str) -> DataSet:
        staged = self._new_folder() / f"{_safe(folder.name).removesuffix('.gdb')}.gdb"
        staged.symlink_to(folder.absolute(), target_is_directory=True)
        return DataSet(path=staged, format=contents.FILEGDB, name=name)

    def _staged(self, path: Path, own_name: str, found: Format) -> Path:
        """The file under a name that its reader knows it by, with its companions."""
        stem = re.sub(r"(\.[A-Za-z0-9]{1,9})+$", "", own_name) or own_name
        if found in (contents.SHAPEFILE, contents.MAPINFO, contents.MAPINFO_TEXT):
            stem = PurePosixPath(own_name).stem  # companions share all of it
        folder = self._new_folder()
        target = folder / f"{_safe(stem) or 'data'}{found.suffix}"
        target.symlink_to(path.absolute())
        if found in (contents.SHAPEFILE, contents.MAPINFO, contents.MAPINFO_TEXT):
            for other in path.parent.iterdir():
                suffix = other.suffix.lower()
                companion = target.with_suffix(suffix)
                if other.stem == path.stem and suffix in _COMPANIONS and not companion.exists():
                    companion.symlink_to(other.absolute())
        return target

    def _ungzip(self, path: Path, target: Path) -> None:
        try:
            with gzip.open(path) as source:
                self._copy(source, target, path.name)
        except _ARCHIVE_ERRORS as error:
            raise _damaged(error) from error

    def _copy(self, source: IO[bytes] | gzip.GzipFile, target: Path, name: str) -> None:
        with target.open("wb") as file:
            while chunk := source.read(_CHUNK):
                self._bytes_left -= len(chunk)
                if self._bytes_left < 0:
                    raise RequestError(
                        "unpacks to too much",
                        name,
                        expected=f"at most {VECTORS.most_bytes:,} bytes",
                        remedy="cut the data to the area, or give one file of the archive",
                    )
                file.write(chunk)

    def _new_folder(self) -> Path:
        self._places += 1
        folder = self._folder / str(self._places)
        folder.mkdir()
        return folder


def _safe(name: str) -> str:
    """A file name without characters that a reader takes for more than a name."""
    return re.sub(r"[^\w .()+-]", "_", name).lstrip(".")


def _stem(name: str) -> str:
    return name.rpartition(".")[0].lower()


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)


def _damaged(error: Exception) -> RequestError:
    if isinstance(error, RuntimeError) and "encrypted" in str(error):
        return RequestError("is encrypted", "", "a .zip without a password", remedy="unpack it")
    return RequestError(
        "is a damaged archive", "", "a .zip or .gz", str(error), "get the file again"
    )


def _refuse_other_archives(names: list[str]) -> None:
    for member, what in _OFFICE.items():
        if member in names:
            raise not_vectors(what, "export the geometries as GeoPackage, GeoJSON or CSV with WKT")
    if any(n.endswith(".qgs") for n in names) and not any(n.endswith(".shp") for n in names):
        raise not_vectors("a QGIS project, without the data", "export its layer as GeoPackage")


def _nothing_found(names: list[str], refused: list[RequestError]) -> RequestError:
    if len(refused) == 1:
        return refused[0]
    shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    return not_vectors(f"files: {shown}" if names else "an empty archive", "name a vector file")
