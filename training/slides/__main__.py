"""`python -m training.slides WHAT SOURCE -o OUT`: protocols on landslide chips.

    python -m training.slides benchmark landslide4sense -o runs/l4s --recipe slides_unet_iarai
    python -m training.slides label SET -o runs/label --recipe slides_unet_small
    python -m training.slides domain SET --target OTHER -o runs/domain
    python -m training.slides few-shot SET --target OTHER -o runs/few --shots 8,16,32
    python -m training.slides bands SET -o runs/bands --count 6

SOURCE is a folder in the layout of Landslide4Sense: the real one, or one that
`python -m training.data.slide_scenery` made. Each trial is trained once per seed; calibration and
threshold are locked on validation; the test is looked at once. OUT gets `results.json`, a table,
and a folder per run.

Two stages, such as a head on a frozen encoder and then adapters, are one call: `--first` sets what
the first one has instead of what `--set` says, and the second starts from its weights:

    python -m training.slides benchmark SET -o OUT --recipe slides_clay_hybrid \\
        --first init=official:clay-v1.5.ckpt --first freeze_encoder=true --first epochs=10 \\
        --set freeze_encoder=true --set adapters.rank=8 --set lr=1e-4
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from quakestream.errors import QuakestreamError, RequestError
from training.config import SlidesConfig
from training.data.slide_chips import open_chips_of
from training.recipes import recipe
from training.settings import with_settings, with_values
from training.slides import axes
from training.slides.band_information import band_information
from training.slides.few_shot import COUNTS, FewShot, done_with, few_shot_rows
from training.slides.protocol import SEEDS, Trial, as_text, run_trial, summary

KINDS = ("benchmark", "sensor", "bands", "label", "domain", "few-shot", "networks")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one protocol. Returns 0 when done, 2 if the request is wrong, 3 if it failed."""
    options = _parser().parse_args(arguments)
    try:
        seeds = [int(seed) for seed in options.seeds.split(",")]
        if options.what == "few-shot":
            rows = run_few_shot(_few_shot(options), seeds, options.out)
        else:
            trials = [_two_stage(trial, options) for trial in _trials(options)]
            rows = run_all(trials, seeds, options.out)
    except (QuakestreamError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, RequestError | ValueError) else 3
    print(as_text(summary(rows)))
    return 0


def run_all(trials: Sequence[Trial], seeds: Sequence[int], out: Path) -> list[dict[str, Any]]:
    """Runs each trial once per seed and writes `results.json` after each run.

    Rows of an earlier, interrupted call with the same OUT are kept and not run again.
    """
    rows = _finished(out)
    done = {(row["name"], row["seed"]) for row in rows}
    for trial in trials:
        for seed in seeds:
            if (trial.name, seed) in done:
                continue
            seeded = replace(trial, config=with_values(trial.config, **{"run.seed": seed}))
            rows.append(run_trial(seeded, out, print))
            _write(rows, out)
    return rows


def run_few_shot(plan: FewShot, seeds: Sequence[int], out: Path) -> list[dict[str, Any]]:
    """The rows of each seed; seeds of an earlier call with the same OUT are not run again."""
    rows = [r for r in _finished(out) if done_with(_finished(out), plan.counts, r["seed"])]
    for seed in seeds:
        if not done_with(rows, plan.counts, seed):
            for row in few_shot_rows(plan, seed, out, print):
                rows.append(row)
                _write(rows, out)
    return rows


def _finished(out: Path) -> list[dict[str, Any]]:
    path = out / "results.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"] if path.exists() else []
    return rows


def _write(rows: list[dict[str, Any]], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    table = summary(rows)
    text = json.dumps({"table": table, "rows": rows}, indent=1)
    (out / "results.json").write_text(text + "\n")
    (out / "table.md").write_text(as_text(table) + "\n")


def _few_shot(options: argparse.Namespace) -> FewShot:
    if len(options.target) != 1:
        raise RequestError("one target", "few-shot", remedy="name it with --target FOLDER")
    counts = tuple(int(count) for count in options.shots.split(","))
    return FewShot(home=_config(options.recipe, options), target=options.target[0], counts=counts)


def _band_trials(config: SlidesConfig, options: argparse.Namespace) -> list[Trial]:
    """Trials of chosen bands; `bands.json` in OUT says what each band tells."""
    chips = open_chips_of(options.source, "train", config.view.bands)
    information = band_information(chips)
    trials = axes.bands(config, information, options.count)
    chosen = {trial.name: trial.config.view.bands for trial in trials}
    options.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**information.to_json(), "chosen": chosen}, indent=1)
    (options.out / "bands.json").write_text(text + "\n")
    return trials


def _trials(options: argparse.Namespace) -> list[Trial]:
    configs = [_config(name, options) for name in options.recipe.split(",")]
    if options.what == "networks":
        return axes.networks(configs)
    if len(configs) != 1:
        raise RequestError("one recipe at a time", f"--recipe {options.recipe}")
    config = configs[0]
    if options.what == "sensor":
        return axes.sensor(config)
    if options.what == "bands":
        return _band_trials(config, options)
    if options.what == "label":
        return axes.label(config)
    if options.what == "domain" and not options.target:
        raise RequestError("no set to judge on", "domain", remedy="name one with --target FOLDER")
    if options.what == "domain":
        return axes.domain(config, options.target)
    return [Trial(name=config.recipe, config=config)]


def _two_stage(trial: Trial, options: argparse.Namespace) -> Trial:
    """The trial with its first stage, if one is asked for: the recipe, its view, and `--first`."""
    if not options.first:
        return trial
    base = recipe(trial.config.recipe)
    assert isinstance(base, SlidesConfig)
    shared = replace(base, source=trial.config.source, view=trial.config.view)
    return replace(trial, first=with_settings(shared, options.first))


def _config(name: str, options: argparse.Namespace) -> SlidesConfig:
    config = recipe(name)
    if not isinstance(config, SlidesConfig):
        raise RequestError("not a recipe for landslides", f"--recipe {name}")
    return with_settings(with_values(config, source=str(options.source)), options.settings)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.slides",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=KINDS)
    parser.add_argument("source", type=Path, help="folder of the set")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT")
    parser.add_argument("--recipe", default="slides_unet_small", help="names, separated by commas")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    parser.add_argument(
        "--target",
        type=Path,
        action="append",
        default=[],
        help="other set to judge on (domain), or to label a few chips of (few-shot)",
    )
    parser.add_argument("--shots", default=",".join(map(str, COUNTS)), help="chips (few-shot)")
    parser.add_argument("--count", type=int, default=6, help="bands that are chosen (bands)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument(
        "--first",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="train a first stage with this setting; may be repeated",
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
