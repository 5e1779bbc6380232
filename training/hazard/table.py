"""The comparison as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def markdown(result: Row) -> str:
    """Tables of random splits, of blocks of ground, and of surveyed buildings if there are any."""
    lines = [
        *_random(result["random"]),
        "",
        *_blocks("blocks of 0.02°", result["blocks"]),
        "",
        *_blocks("blocks shifted by half a side", result["shifted_blocks"]),
        "",
        *_both(result["both_minus_forest"]),
    ]
    if "surveyed" in result:
        lines += ["", *_surveyed(result["surveyed"])]
    return "\n".join(lines)


def _random(rows: Sequence[Row]) -> list[str]:
    head = ["| random split | classes | trained on | macro AUC |", "|---|---:|---:|---:|"]
    return head + [
        f"| {r['model']} | {r['classes']} | {r['train_share']:.0%} | "
        f"{r['macro_auc']:.3f} ({r['lowest']:.3f} to {r['highest']:.3f}) |"
        for r in rows
    ]


def _blocks(title: str, rows: Mapping[str, Row]) -> list[str]:
    head = [
        f"| {title} | macro AUC | minus tuned forest | per class | pooled | macro F1 | "
        "accuracy | calibration error |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    return head + [
        f"| {name} | {_interval(r['macro_auc'])} | "
        f"{_interval(r['minus_forest'], sign='+') if 'minus_forest' in r else '–'} | "
        f"{' '.join(f'{a:.2f}' for a in r['auc_per_class'])} | {r['pooled_auc']:.3f} | "
        f"{r['macro_f1']:.3f} | {r['accuracy']:.3f} | {r['calibration_error']:.3f} |"
        for name, r in rows.items()
    ]


def _both(rows: Mapping[str, Row]) -> list[str]:
    head = ["| mean of both lattices of blocks | minus tuned forest |", "|---|---:|"]
    return head + [f"| {name} | {_interval(r, sign='+')} |" for name, r in rows.items()]


def _surveyed(rows: Sequence[Row]) -> list[str]:
    head = ["| surveyed buildings, blocks of 0.15° | macro AUC | per class |", "|---|---:|---:|"]
    return head + [
        f"| {r['values']} | {_interval(r['macro_auc'])} | "
        f"{' '.join(f'{a:.2f}' for a in r['auc_per_class'])} |"
        for r in rows
    ]


def _interval(interval: Row, sign: str = "") -> str:
    value, low, high = (format(interval[k], f"{sign}.3f") for k in ("value", "low", "high"))
    return f"{value} ({low} to {high})"
