"""`python -m training.train RECIPE [--set key=value] [--workers N] [--out DIR] [--resume]`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from quakestream.errors import ConfigError, MissingExtraError, QuakestreamError, RequestError
from training.checkpoints import Checkpoint
from training.config import TrainConfig
from training.recipes import RECIPES, recipe
from training.run_log import Record, RunLog, as_line
from training.settings import with_settings, with_values


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains one recipe. Returns 0 when done, 2 if the request is wrong, 3 if it failed."""
    options = _parser().parse_args(arguments)
    try:
        workers = _workers(options.workers)
        config = with_settings(recipe(options.recipe), options.settings)
        out = options.out or Path("runs") / f"{config.recipe}-{config.run.seed}"
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
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="change a setting, such as lr=0.001 or held_regions=[hatay,turkoglu]",
    )
    parser.add_argument(
        "--workers",
        default="1",
        metavar="N|MIN,MAX",
        help="number of workers on Ray Train, or fewest,most to use what is free, or 0 to train "
        "in this process (default 1)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="default runs/RECIPE-SEED")
    parser.add_argument(
        "--resume", action="store_true", help="resume from the last state, if there is one"
    )
    parser.add_argument(
        "--address", help="address of a Ray cluster (default RAY_ADDRESS, else Ray starts here)"
    )
    parser.add_argument(
        "--storage", default="", metavar="URI", help="where states are saved (default in --out)"
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
    raise ConfigError(
        "wrong number of workers", f"--workers {text}", expected="one number, or two such as 1,4"
    )


def _here(config: TrainConfig, out: Path, resume: bool) -> Checkpoint:
    # Imported here, so that a wrong request is refused without waiting for these imports.
    from training.lessons import open_lesson
    from training.loop import run
    from training.reporting import FolderReporter

    lesson = open_lesson(config)
    run_log = RunLog(out)

    def log(record: Record) -> None:
        run_log(record)
        print(as_line(record))

    reporter = FolderReporter(out / "states", log)
    _check_resume(reporter.latest_state() is not None, resume, out)
    checkpoint = run(config, lesson, reporter)
    reporter.delete_state()
    return checkpoint


def _on_ray(
    config: TrainConfig, out: Path, workers: int | tuple[int, int], options: argparse.Namespace
) -> Checkpoint:
    try:
        from training.workers import Cluster, delete_states, train_on_ray, unfinished
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"training on workers needs {error.name}",
            remedy="pip install 'quakestream[train]', or train in this process with --workers 0",
        ) from error
    cluster = Cluster(workers=workers, address=options.address, storage=options.storage)
    _check_resume(unfinished(out, cluster), options.resume, out)
    config = with_values(config, workers=cluster.most)
    checkpoint = train_on_ray(config, out, cluster, echo=print)
    delete_states(out, cluster)
    return checkpoint


def _check_resume(unfinished: bool, resume: bool, out: Path) -> None:
    """Refuses to overwrite an unfinished run."""
    if unfinished and not resume:
        raise RequestError(
            "the folder holds a run that did not finish",
            str(out),
            remedy="resume it with --resume, or start another run with --out",
        )


if __name__ == "__main__":
    raise SystemExit(main())
