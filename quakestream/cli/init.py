"""`quakestream init`: a commented run file to start from."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from quakestream.cli.common import EXIT_ATTENTION, counted
from quakestream.config import is_uri, parse_interval, run_schema
from quakestream.config.template import RunDraft, run_template
from quakestream.errors import CatalogItemError, ConfigError, RequestError, StorageError
from quakestream.storage import read_bytes
from quakestream.storage.limits import DOCUMENT

_MAX_DOCUMENTS = 200
"""STAC documents that are read; a draft needs no more."""

_MIN_ID_LETTERS = 4
"""Shorter event ids occur in any collection's name by chance."""


def init(
    file: Annotated[Path, typer.Argument(help="Run file to write.")] = Path("run.yaml"),
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of run files instead.")
    ] = False,
    from_stac: Annotated[
        str | None,
        typer.Option("--from-stac", help="Catalogue that area, dates and asset are read from."),
    ] = None,
    event: Annotated[str | None, typer.Option("--event", help="Id of the event.")] = None,
    time: Annotated[
        str | None, typer.Option("--time", help="Origin time: 2023-02-06T01:17:34Z.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write a commented run file.

    Example: quakestream init run.yaml --from-stac catalog.json --event us6000jllz
    --time 2023-02-06T01:17:34Z
    """
    if schema:
        typer.echo(json.dumps(run_schema(), indent=2))
        return
    draft = _draft(file, from_stac, event, time)
    _write(file, run_template(draft), force)
    typer.echo(str(file))
    if draft.blanks:
        typer.echo(
            f"{file}: fill in {', '.join(draft.blanks)}: a catalogue does not hold the time of "
            "the event; give it with --time",
            err=True,
        )
        raise typer.Exit(EXIT_ATTENTION)


def _draft(file: Path, from_stac: str | None, event: str | None, time: str | None) -> RunDraft:
    example = RunDraft()
    time = None if time is None else _checked_time(time)
    if from_stac is not None:
        return _from_stac(from_stac, file, event, time)
    origin = time or example.time
    return RunDraft(
        event_id=event or example.event_id,
        time=origin,
        post=example.post if time is None else f"{origin}/..",
        pre=example.pre if time is None else f"../{origin}",
    )


def _checked_time(time: str) -> str:
    try:
        start, _ = parse_interval(f"{time}/..")
    except ConfigError as error:
        raise RequestError.of(replace(error.problem, where="--time")) from None
    if len(time.strip()) <= len("2023-02-06"):
        raise RequestError("a date alone is not a time", "--time", f"{time}T01:17:34Z", time)
    return start.isoformat().replace("+00:00", "Z")


def _write(file: Path, text: str, force: bool) -> None:
    try:
        with file.open("w" if force else "x", encoding="utf-8") as target:
            target.write(text)
    except FileExistsError:
        raise ConfigError(
            "file exists already", str(file), remedy="give another name, or --force to overwrite it"
        ) from None
    except OSError as error:
        raise StorageError(
            "cannot write the run file", str(file), got=error.strerror or str(error)
        ) from error


@dataclass(slots=True)
class _Contents:
    """Areas, days, assets and collections of a catalogue's documents."""

    boxes: list[list[float]] = field(default_factory=list)
    days: set[str] = field(default_factory=set)
    assets: dict[str, int] = field(default_factory=dict)
    collections: dict[str, str] = field(default_factory=dict)
    """URI of each collection, by id."""

    def add(self, document: dict[str, Any], uri: str) -> None:
        if document.get("type") == "Collection":
            self.collections[str(document.get("id"))] = uri
            extent = document.get("extent") or {}
            self._add_boxes((extent.get("spatial") or {}).get("bbox") or [])
            for interval in (extent.get("temporal") or {}).get("interval") or []:
                self.days.update(str(edge)[:10] for edge in interval if edge)
        if document.get("type") == "Feature":
            self._add_boxes([document.get("bbox") or []])
            moment = (document.get("properties") or {}).get("datetime")
            self.days.update([str(moment)[:10]] if moment else [])
            for name, asset in (document.get("assets") or {}).items():
                if "tif" in str((asset or {}).get("type", "")) or "data" in (
                    (asset or {}).get("roles") or []
                ):
                    self.assets[name] = self.assets.get(name, 0) + 1

    def _add_boxes(self, boxes: list[list[float]]) -> None:
        for box in boxes:
            if len(box) in (4, 6):
                self.boxes.append([*box[:2], *box[len(box) // 2 :][:2]])

    @property
    def asset(self) -> str:
        """`visual` where an item has it, else the asset of most items."""
        if "visual" in self.assets or not self.assets:
            return "visual"
        return max(self.assets, key=lambda name: self.assets[name])

    @property
    def aoi(self) -> str:
        if not self.boxes:
            return RunDraft().aoi
        west, south, east, north = zip(*self.boxes, strict=True)
        return ",".join(f"{v:.6f}" for v in (min(west), min(south), max(east), max(north)))


def _from_stac(catalog: str, file: Path, event: str | None, time: str | None) -> RunDraft:
    documents = list(_documents(catalog))
    contents = _Contents()
    for uri, document in documents:
        contents.add(document, uri)
    source = _collection_of(event, contents) or catalog
    if source != catalog:  # the event has a collection of its own: only that one counts
        contents = _Contents()
        for uri, document in _documents(source):
            contents.add(document, uri)
    days = sorted(contents.days)
    return RunDraft(
        event_id=event or next(iter(contents.collections), RunDraft().event_id),
        time=time or "",
        aoi=contents.aoi,
        catalog=_beside(source, file),
        asset=contents.asset,
        post=f"{time}/.." if time else "",
        pre=f"../{time}" if time else "",
        notes=(
            "",
            f"From {catalog}: {counted(len(contents.collections), 'collection')}",
            f"  acquisition days: {', '.join(days[:20]) or 'unknown'}"
            + (f", ... {days[-1]}" if len(days) > 20 else ""),
            f"  assets: {', '.join(sorted(contents.assets)) or 'unknown'}",
            "  aoi below is everything the catalogue covers: narrow it",
        ),
    )


def _documents(uri: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The documents of a static catalogue, breadth first; bad ones below the root are skipped."""
    from quakestream.catalog.hrefs import HrefRule  # and what catalogues need

    queue, queued, rule = [uri], {uri}, HrefRule(root=uri)
    while queue and len(queued) <= _MAX_DOCUMENTS:
        here = queue.pop(0)
        try:
            document = _parsed(read_bytes(here, limits=DOCUMENT))
        except (StorageError, ValueError) as error:
            if here != uri:
                continue
            where = f"--from-stac {uri}"
            if isinstance(error, StorageError):
                raise RequestError.of(replace(error.problem, where=where)) from None
            raise RequestError("not a STAC document", where, "JSON", f"none ({error})") from None
        if not isinstance(document, dict):
            raise RequestError("not a STAC document", f"--from-stac {here}", "a JSON object")
        for feature in document.get("features") or []:
            yield here, feature
        yield here, document
        for link in document.get("links") or []:
            if link.get("rel") in ("child", "item", "items", "data") and link.get("href"):
                try:
                    target = rule.place(here, str(link["href"]))
                except CatalogItemError:
                    continue
                if target not in queued:
                    queued.add(target)
                    queue.append(target)


def _parsed(data: bytes) -> Any:
    """A JSON document. The lines of NDJSON become one feature collection.

    Raises:
        ValueError: if it is neither.
    """
    try:
        return json.loads(data)
    except ValueError:
        lines = [line for line in data.splitlines() if line.strip()]
        if len(lines) < 2:
            raise
        return {"type": "FeatureCollection", "features": [json.loads(line) for line in lines]}


def _collection_of(event: str | None, contents: _Contents) -> str | None:
    """URI of the event's collection: the only one whose id contains the event's id."""
    plain = _letters(event or "")
    if len(plain) < _MIN_ID_LETTERS:
        return None
    matches = [uri for name, uri in contents.collections.items() if plain in _letters(name)]
    return matches[0] if len(matches) == 1 else None


def _letters(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())


def _beside(catalog: str, file: Path) -> str:
    """The catalogue for the run file: a relative path where it lies in the same folder."""
    if is_uri(catalog):
        return catalog
    absolute, folder = os.path.abspath(catalog), os.path.dirname(os.path.abspath(file))
    inside = os.path.commonpath([absolute, folder]) == folder
    return os.path.relpath(absolute, folder) if inside else absolute
