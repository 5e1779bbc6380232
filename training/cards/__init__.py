"""Cards of bundles, for people who consider using them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from quakestream.domain import BundleSpec
from training.shares.judge import COUNTS

CARDS = Path(__file__).parent
CAUTION = "Not for decisions about single buildings."
"""What an adapted card says where the card of the model before it warns of nothing."""


def card_of(spec: BundleSpec) -> str:
    """The card of a bundle, with the figures of its manifest."""
    if "adapted" in spec.training:
        return (CARDS / "adapted.md").read_text().format(**_adapted_fields(spec))
    if "context" in spec.training:
        return (CARDS / "context.md").read_text().format(**_context_fields(spec))
    fields = {"segmentation": _pair_fields, "landslide": _slide_fields}.get(
        spec.task, _class_fields
    )(spec)
    return (CARDS / f"{_template(spec)}.md").read_text().format(**_common_fields(spec), **fields)


def _template(spec: BundleSpec) -> str:
    if spec.task == "segmentation":
        return str(spec.training["config"]["source"])
    return f"{spec.task}_synthetic" if spec.task == "building" and _invented(spec) else spec.task


def _invented(spec: BundleSpec) -> bool:
    """True for a model of grades that learnt from generated towns alone."""
    return str(spec.training.get("data", "")).startswith("synthetic")


def _common_fields(spec: BundleSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "network": spec.training["config"]["network"],
        "gsd_m": spec.gsd_m,
        "split": spec.metrics["split"],
        "building_probability": building_probability(spec),
    }


def building_probability(spec: BundleSpec) -> str:
    """The paragraph on how the score of a building becomes a probability."""
    worst, calibration = spec.classes[-1].label, spec.calibration
    if calibration is None:
        text = (
            f"The score of a building is not calibrated as a building's probability, so a map "
            f"states no share of `{worst}` buildings and no expected number of them."
        )
        if _invented(spec):
            text += (
                " That is on purpose: fitted on generated towns alone, a calibration would state "
                "narrow intervals for real ones, which nothing here speaks for. `quakestream "
                "sample` and `verify` count without one."
            )
        return f"**A building's probability.** {text}"
    others = [_FEATURES[name] for name in calibration.features[1:]]
    takes = f" and {', '.join(others)}" if others else ""
    return (
        "**A building's probability.** The mean over a footprint is its score. A logistic curve of "
        f"the score{takes} turns it into the probability that the building is `{worst}`. It was "
        f"fitted on {calibration.fitted_on}, with a bootstrap over blocks of ground. It holds at "
        "any share of such buildings: a run estimates the share in each unit of `summary.csv`, or "
        "is told it (`models.share`). From one region to another the curve moves by "
        f"{calibration.region_sd:.2f} in log-odds (standard deviation); intervals include that. "
        "Verdicts of a map follow from this probability, not from the thresholds above."
        f"{_SILENT if calibration.shape.silent else ''}"
    )


_SILENT = (
    " Some destroyed buildings look intact, more of them where the network is less sure of intact "
    "ones: they are part of what a map expects, and not of what it declares."
)


_FEATURES = {
    "log_area_m2": "the area of the footprint",
    "shift_quality": "how well the two images could be aligned",
    "shift_m": "the shift between the two images",
    "log_difference": "the difference of the two images",
    "valid_fraction": "the share of the footprint that is seen",
}
"""Features of a calibration in words."""


def _adapted_fields(spec: BundleSpec) -> dict[str, Any]:
    metrics, origin = spec.metrics, spec.training["adapted"]
    before = metrics["before"] or {}
    names = {
        "auc": "ROC-AUC",
        "average_precision": "average precision",
        "recall_at_90_precision": "recall at 90 % precision",
        "calibration_error": "calibration error (ECE)",
    }
    forced = (
        "Not shown to be better than the map it was made from; it was written because `--force` "
        "was given. Expect too few destroyed buildings in the numbers of its maps, since a model "
        "that hardly tells the states apart is sure of few. "
        if not metrics["better"]
        else ""
    )
    return {
        **origin,
        "name": spec.name,
        "forced": forced,
        "caution": origin.get("caution") or CAUTION,
        "gain": _with_interval(metrics["gain_auc"], sign="+"),
        "figures": "\n".join(
            f"| {title} | {_with_interval(metrics['adapted'][key])} | "
            f"{_with_interval(before.get(key))} |"
            for key, title in names.items()
        ),
        "labels": metrics["labels"],
        "destroyed": metrics["destroyed"],
        "share": f"{metrics['share']:.1%}",
        "label_share": f"{metrics['destroyed'] / metrics['labels']:.0%}",
        "blocks": metrics["blocks"],
        "block_m": f"{metrics['block_m']:g}",
        "split": metrics["split"],
        "compared": metrics["compared"],
        "images": " and ".join(spec.epochs),
        "side": f"{spec.window_px} px of {spec.gsd_m:g} m",
        "parent_digest": origin["parent_digest"][:12],
        "licence": spec.training["licence"],
    }


def _with_interval(figure: list[float | None] | None, sign: str = "") -> str:
    if figure is None or figure[0] is None:
        return "–"
    value, low, high = figure
    if low is None or high is None:
        return f"{value:{sign}.3f}"
    return f"{value:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"


def _pair_fields(spec: BundleSpec) -> dict[str, Any]:
    metrics = spec.metrics
    point = metrics["operating_points"]["balanced"]
    low, high = metrics["auc_95"]
    return {
        "destroyed": metrics["destroyed"],
        "intact": metrics["intact"],
        "auc": f"{metrics['auc']:.3f} ({low:.3f} to {high:.3f})",
        "difference_auc": f"{metrics['difference_auc']:.3f}",
        "average_precision": f"{metrics['average_precision']:.3f}",
        "calibration_error": f"{metrics['calibration_error']:.3f}",
        "prior": f"{metrics['prior']:.0%}",
        "recall": f"{point['recall']:.2f}",
        "false_alarms": f"{point['false_alarm_rate']:.2f}",
        "threshold": f"{point['threshold']:.3f}",
        "counts": "\n".join(_counts(spec)),
    }


def _context_fields(spec: BundleSpec) -> dict[str, Any]:
    return {
        **spec.training["context"],
        "name": spec.name,
        "gsd_m": spec.gsd_m,
        "building_probability": building_probability(spec),
        "figures": "\n".join(_left_out_figures(spec)) if "auc" in spec.metrics else _UNJUDGED,
        "counts": "\n".join(_counts(spec)),
    }


def _left_out_figures(spec: BundleSpec) -> Iterator[str]:
    yield _LEFT_OUT.format(split=spec.metrics["split"], **_pair_fields(spec))
    yield "\n| city left out | fell | ROC-AUC | average precision |"
    yield "|---|---|---|---|"
    for city, found in spec.metrics["cities"].items():
        yield (
            f"| {city} | {found['destroyed']} of {found['destroyed'] + found['intact']} | "
            f"{found['auc']:.3f} | {found['average_precision']:.3f} |"
        )


def _counts(spec: BundleSpec) -> Iterator[str]:
    """A table of what was declared and expected of towns that were left out."""
    if COUNTS not in spec.metrics:
        return
    yield _COUNTS
    yield "| town | fell | declared (right) | expected (90 %) | calibration error |"
    yield "|---|---|---|---|---|"
    for town in spec.metrics[COUNTS]:
        yield (
            f"| {town['town']} | {town['destroyed']} of {town['buildings']} | {town['declared']} "
            f"({town['declared_right']}) | {town['expected']:.0f} ({town['low']:g}–"
            f"{town['high']:g}) | {town['calibration_error']:.3f} |"
        )
    yield ""


_COUNTS = """**Counts.** Neither network, head nor calibration saw the town that they are judged on;
synthetic ones come from the generator that the network learnt from. How many destroyed buildings
may score like intact ones was chosen on these towns, so their intervals flatter a little.
"""
_LEFT_OUT = """**Figures.** {split}: {destroyed} destroyed and {intact} intact buildings of
cities that neither the network nor the head that judged them has seen, inside their axis-aligned
bounds: ROC-AUC {auc}, 95 % bootstrap interval over 150 m blocks; average precision
{average_precision}; mean absolute pre/post difference on the same buildings: AUC {difference_auc}.
At the balanced threshold {threshold}: recall {recall}, false alarms {false_alarms}. The thresholds
were chosen on the same answers. Probabilities of pixels assume that {prior} of the buildings are
destroyed (calibration error {calibration_error})."""
_UNJUDGED = """**Figures.** None: it was written without the answers of runs that left a city out,
and its thresholds are those of its pixel network. `training/LOG.md` has figures of others like it.
"""


def _slide_fields(spec: BundleSpec) -> dict[str, Any]:
    metrics = spec.metrics
    uncertain = metrics["uncertainty"].get("errors_in_most_uncertain_tenth")
    return {
        "data": spec.training["data"],
        "licence": spec.training["licence"],
        "bands": ", ".join(spec.bands),
        "values": "counts of 8 bits"
        if spec.dtype == "uint8"
        else "reflectance 0 to 1, slope in degrees, elevation in metres",
        "seen": metrics.get("seen", "Nothing is stated about real scenes."),
        "int8": _eight_bits(metrics.get("int8")),
        "passes": metrics["passes"],
        "uncertain": "not measured" if uncertain is None else f"{uncertain:.0%}",
        **{k: f"{metrics[k]:.3f}" for k in ("f1", "precision", "recall", "iou", "miou", "auc")},
        "before": f"{metrics['calibration_error_before']:.4f}",
        "after": f"{metrics['calibration_error']:.4f}",
        "pixels": f"{metrics['pixels']:,}",
        "landslide_pixels": f"{metrics['landslide_pixels']:,}",
        "threshold": f"{spec.thresholds.balanced:.2f}",
    }


def _eight_bits(figures: dict[str, Any] | None) -> str:
    """What the graph in eight bits costs, or that there is none."""
    if figures is None:
        return "None: this bundle runs in float32, or in 16 bits where a runtime offers them."
    values = {k: f"{figures[k]:.3f}" for k in ("f1", "f1_fp32", "auc", "auc_fp32")}
    changed = f"{figures['verdicts_changed']:.1%}"
    return (
        f"`model.int8.onnx` was judged on {figures['judged_on']}: F1 {values['f1']} instead of "
        f"{values['f1_fp32']}, ROC-AUC {values['auc']} instead of {values['auc_fp32']}, and "
        f"another verdict on {changed} of the pixels that either calls a slide. Up to 0.005 of "
        "each figure and 5 % of those pixels are allowed. Runs on CPUs with VNNI use it unless "
        "they name a runtime."
    )


def _class_fields(spec: BundleSpec) -> dict[str, Any]:
    metrics = spec.metrics
    point = metrics["operating_points"]["balanced"]
    low, high = metrics["macro_auc_95"]
    severe = " or ".join(c.label for c in spec.classes[metrics["first_severe"] :])
    return {
        "seen": metrics.get("seen", "Nothing is known of its figures on real scenes."),
        "data": spec.training["data"],
        "licence": spec.training["licence"],
        "inputs": _inputs(spec),
        "classes": "\n".join(
            f"| {c.label} | {c.copernicus} | {', '.join(map(str, c.ems98))} | {n} | {_auc(a)} |"
            for c, n, a in zip(spec.classes, metrics["support"], metrics["auc"], strict=True)
        ),
        "verdict_classes": "\n".join(_verdict_rows(spec)),
        "items": metrics["items"],
        "macro_auc": f"{metrics['macro_auc']:.3f} ({low:.3f} to {high:.3f})",
        "macro_f1": f"{metrics['macro_f1']:.3f}",
        "accuracy": f"{metrics['accuracy']:.3f}",
        "within_one": f"{sum(metrics['distance'][:2]):.0%}",
        "calibration_error": f"{metrics['top_label_error_at_prior']:.3f}",
        "verdict_f1": f"{metrics['verdict']['macro_f1']:.3f}",
        "verdict_accuracy": f"{metrics['verdict']['accuracy']:.3f}",
        "severe": severe,
        "recall": f"{point['recall']:.2f}",
        "false_alarms": f"{point['false_alarm_rate']:.2f}",
        "threshold": f"{point['threshold']:.3f}",
        "prior": ", ".join(
            f"{c.label} {100 * p:.3g} %" for c, p in zip(spec.classes, _prior(spec), strict=True)
        ),
    }


def _verdict_rows(spec: BundleSpec) -> Iterator[str]:
    """Recall and precision of the verdicts of each class, with its ROC area."""
    counts_CC = np.array(spec.metrics["verdict"].get("confusion", []))
    if counts_CC.shape != (len(spec.classes),) * 2:  # made before verdicts were counted by class
        return
    for c, one in enumerate(spec.classes):
        right, occurring, declared = counts_CC[c, c], counts_CC[c].sum(), counts_CC[:, c].sum()
        recall = f"{right / occurring:.2f}" if occurring else "–"
        precision = f"{right / declared:.2f}" if declared else "–"
        auc = _auc(spec.metrics["auc"][c])
        yield f"| {one.label} | {occurring} | {declared} | {recall} | {precision} | {auc} |"


def _inputs(spec: BundleSpec) -> str:
    epochs = {"pre": "a crop from before the event", "post": "one from after it"}
    sides = f", {spec.window_px} px of {spec.gsd_m:g} m" if spec.epochs else ""
    images = [" and ".join(epochs[e] for e in spec.epochs) + sides] if spec.epochs else []
    if spec.epochs == ("post",):
        images = [f"a crop from after the event{sides}"]
    values = [f"{h.name} ({h.unit})" if h.unit else h.name for h in spec.hazard]
    return "; ".join([*images, *([f"hazard values {', '.join(values)}"] if values else [])])


def _prior(spec: BundleSpec) -> tuple[float, ...]:
    return spec.prior or (1 / len(spec.classes),) * len(spec.classes)


def _auc(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.3f}"
