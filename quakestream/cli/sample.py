"""`quakestream sample`: buildings for spot checks, and an answer sheet."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from quakestream.cli.common import (
    EXIT_ATTENTION,
    Json,
    S3Anon,
    S3Endpoint,
    counted,
    print_json,
    s3_options,
    stderr,
    stdout,
    warn_of_other_products,
)
from quakestream.errors import RequestError
from quakestream.outputs.layout import ANSWERS
from quakestream.outputs.live import LiveMap
from quakestream.outputs.readback import current_run
from quakestream.outputs.spot_sample import (
    SHEET,
    SampleRequest,
    SpotSample,
    draw_sample,
    map_rows,
)
from quakestream.outputs.spot_sheet import spot_sheet
from quakestream.outputs.verify_map import model_run
from quakestream.storage import Store, open_store


def sample(
    out: Annotated[str, typer.Argument(help="The finished map: a folder or URI.")],
    n: Annotated[int, typer.Option("--n", help="Buildings to check.")] = 100,
    by: Annotated[
        str, typer.Option(help="`district`: checks in each district, for numbers of its own.")
    ] = "",
    not_assessed: Annotated[
        int, typer.Option(help="Checks among buildings that the map does not assess, beside --n.")
    ] = 0,
    folder: Annotated[
        Path | None, typer.Option("-o", "--folder", help="Also write the files into this folder.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draw: the same gives the same.")] = 0,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace a sample that has answers.")
    ] = False,
    endpoint_url: S3Endpoint = None,
    anon: S3Anon = False,
    as_json: Json = False,
) -> None:
    """Draw buildings for spot checks, and write an answer sheet that works offline.

    The sample is stratified by the map's score: most checks go where the map is unsure, some to
    every stratum, each building with a known probability. sheet.html shows before and after of
    each, without the map's verdict. `quakestream verify` turns the answers into numbers.

    Example: quakestream sample out/ --n 100 --by district -o to-check/
    """
    if by not in ("", "district"):
        raise RequestError("cannot sample by this", "--by", "district", by)
    store = open_store(out, s3_options(endpoint_url, anon))
    warn_of_other_products(store)
    run = model_run(store, current_run(store))
    if store.exists(ANSWERS) and not replace:
        raise RequestError(
            "the sample of this map has answers, which a new one would not fit",
            store.uri_of(ANSWERS),
            remedy="--replace draws a new sample and forgets them",
        )
    request = SampleRequest(
        checks=n, by_district=by == "district", not_assessed=not_assessed, seed=seed
    )
    drawn = draw_sample(store, run, request)
    sheet = spot_sheet(LiveMap(store), map_rows(store, run), drawn, _told)
    files = drawn.files() | {SHEET: sheet.page}
    _write(store, files, folder)
    if replace:
        store.delete(ANSWERS)
    _report(store, drawn, folder, sheet.without_picture, as_json=as_json)
    if sheet.without_picture:
        raise typer.Exit(EXIT_ATTENTION)


def _told(done: int, total: int) -> None:
    if sys.stderr.isatty() and done % 10 == 0:
        stderr.print(f"pictures of {done} of {total} buildings", end="\r")


def _write(store: Store, files: dict[str, bytes], folder: Path | None) -> None:
    for name, data in files.items():
        store.put(name, data)
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (folder / Path(name).name).write_bytes(data)
    except OSError as error:
        raise RequestError("cannot be written", str(folder), got=str(error)) from error


def _report(
    store: Store, drawn: SpotSample, folder: Path | None, lost: int, *, as_json: bool
) -> None:
    sheet = str(folder / Path(SHEET).name) if folder else store.uri_of(SHEET)
    if as_json:
        print_json({"sheet": sheet, "without_picture": lost, **drawn.record()})
        return
    for line in drawn.strata_lines():
        stdout.print(line)
    for g, one in enumerate(drawn.strata):
        stdout.print(f"  {one.checks:>4} of {one.buildings:>7,}  {drawn.stratum_name(g)}")
    if drawn.request.not_assessed:
        stdout.print(f"  {drawn.request.not_assessed:>4} of {drawn.unseen:>7,}  not assessed")
    elif drawn.unseen:
        stdout.print(
            f"{counted(drawn.unseen, 'building')} that the map does not assess are not in the "
            "sample: numbers will not speak of them (--not-assessed draws some)."
        )
    if lost:
        stdout.print(f"{counted(lost, 'building')} without a picture after the event.")
    stdout.print(f"answer sheet: {sheet}")
    stdout.print("Open it, answer, save as CSV; then: quakestream verify OUT ANSWERS.csv")
