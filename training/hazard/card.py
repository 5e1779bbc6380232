"""The card of a hazard bundle, for people who consider using it."""

from pathlib import Path

from quakestream.domain import BundleSpec

TEMPLATE = Path(__file__).parent / "card.md"


def card_of(spec: BundleSpec, *, model: str, notes: str = "") -> str:
    """The card, with the figures and facts of the manifest.

    Args:
        spec: the manifest.
        model: the literature's name of the model.
        notes: notes on the inputs.
    """
    metrics, training = spec.metrics, spec.training
    point = metrics["operating_points"]["balanced"]
    low, high = metrics["macro_auc_95"]
    first = metrics["first_severe"]
    return TEMPLATE.read_text().format(
        name=spec.name,
        model=model,
        inputs=", ".join(f"`{h.name}` ({h.unit})" for h in spec.hazard),
        notes=notes,
        data=training["data"],
        points=f"{training['points']:,}",
        per_class=", ".join(
            f"{c.label} {n:,}" for c, n in zip(spec.classes, training["per_class"], strict=True)
        ),
        excluded=training.get("excluded", "Nothing was left out."),
        split=metrics["split"],
        items=f"{metrics['items']:,}",
        macro_auc=f"{metrics['macro_auc']:.3f} ({low:.3f} to {high:.3f})",
        pooled_auc=f"{metrics['pooled_auc']:.3f}",
        accuracy=f"{metrics['accuracy']:.3f}",
        macro_f1=f"{metrics['macro_f1']:.3f}",
        classwise_error=f"{metrics['classwise_error']:.3f}",
        classes="\n".join(
            f"| {c.label} | {c.xbd} | {', '.join(map(str, c.ems98))} | {c.copernicus} | {n:,} | "
            f"{'–' if a is None else f'{a:.3f}'} |"
            for c, n, a in zip(spec.classes, metrics["support"], metrics["auc"], strict=True)
        ),
        prior=", ".join(
            f"{c.label} {p:.1%}" for c, p in zip(spec.classes, spec.prior, strict=True)
        ),
        threshold=f"{point['threshold']:.3f}",
        severe=spec.classes[first].label,
        recall=f"{point['recall']:.2f}",
        false_alarms=f"{point['false_alarm_rate']:.2f}",
        licence=training["licence"],
    )
