"""`python -m training.train RECIPE [--set key=value] [--workers N] [--out DIR] [--resume]`."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from quakestream.errors import ConfigError, MissingExtraError, QuakestreamError, RequestError
from training.checkpoints import Checkpoint
from training.config import TrainConfig, with_settings
from training.journal import Journal, Record, as_line
from training.recipes import RECIPES, recipe


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one recipe; 2 if the request is wrong."""
    options = _parser().parse_args(arguments)
    try:
        workers = _workers(options.workers)
        config = with_settings(recipe(options.recipe), options.settings)
        out = options.out or Path("runs") / f"{config.recipe}-{config.seed}"
        if workers == 0:
            checkpoint = _here(config, out, options.resume)
        else:
            checkpoint = _on_ray(config, out, workers, options)
    except QuakestreamError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, RequestError) else 3
    checkpoint.save(out / "checkpoint.pt")
    print(out / "checkpoint.pt")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.train",
        description="Trains a recipe and writes checkpoint.pt, log.jsonl and tensorboard/.",
        epilog="example: python -m training.train fc_siam_diff_small --set steps=1200 --workers 0",
    )
    parser.add_argument("recipe", help=f"one of {', '.join(RECIPES)}")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument(
        "--workers",
        default="1",
        metavar="N|MIN,MAX",
        help="workers on Ray Train, as many as there are between two numbers, or 0 for training "
        "in this process (default 1)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="default runs/RECIPE-SEED")
    parser.add_argument(
        "--resume", action="store_true", help="go on from the last state, if there is one"
    )
    parser.add_argument("--address", help="of a Ray cluster; default RAY_ADDRESS, else one here")
    parser.add_argument(
        "--storage", default="", metavar="URI", help="for states; default a folder in --out"
    )
    return parser


def _workers(text: str) -> int | tuple[int, int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) == 1 and numbers[0] >= 0:
        return numbers[0]
    if len(numbers) == 2 and 1 <= numbers[0] <= numbers[1]:
        return numbers[0], numbers[1]
    raise ConfigError(f"--workers {text}: expected a number such as 2, or two such as 1,4")


def _here(config: TrainConfig, out: Path, resume: bool) -> Checkpoint:
    # Imported late: a wrong request is answered at once.
    from training.keeping import FolderKeeper
    from training.lessons import open_lesson
    from training.loop import run

    lesson = open_lesson(config)
    journal = Journal(out)

    def log(record: Record) -> None:
        journal(record)
        print(as_line(record))

    keeper = FolderKeeper(out / "states", log)
    _start_or_go_on(keeper.latest() is not None, resume, out)
    checkpoint = run(config, lesson, keeper)
    keeper.forget()
    assert checkpoint is not None  # one worker is the leader
    return checkpoint


def _on_ray(
    config: TrainConfig, out: Path, workers: int | tuple[int, int], options: argparse.Namespace
) -> Checkpoint:
    try:
        from training.workers import Cluster, forget, train_on_ray, unfinished
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"training on workers needs {error.name}: pip install 'quakestream[train]', "
            "or train in this process with --workers 0"
        ) from error
    cluster = Cluster(workers=workers, address=options.address, storage=options.storage)
    _start_or_go_on(unfinished(out, cluster), options.resume, out)
    config = replace(config, workers=cluster.most)
    checkpoint = train_on_ray(config, out, cluster, echo=print)
    forget(out, cluster)
    return checkpoint


def _start_or_go_on(unfinished: bool, resume: bool, out: Path) -> None:
    if unfinished and not resume:
        raise RequestError(
            f"{out} holds a run that did not finish: go on with --resume, or start another "
            "with --out"
        )


if __name__ == "__main__":
    raise SystemExit(main())
