"""An explanation as a table to read and a figure to show. SVG by hand: no plotting library."""

from collections.abc import Iterator, Sequence
from html import escape

import numpy as np

from training.explanation import Explanation

_COLOURS = ("#33658a", "#f6ae2d", "#758e4f", "#86615c", "#9d4edd", "#55a5a0", "#c44536", "#6c757d")
_LEFT, _RIGHT, _TOP, _ROW, _BAR = 150, 90, 76, 34, 20
_WIDTH = 760


def markdown(told: Explanation) -> str:
    """The tables, and in a sentence each how to read them."""
    lines = [
        f"# What {told.model} goes by",
        "",
        f"{told.buildings} buildings. Shapley values over {len(told.players)} inputs, "
        f"{'all' if told.method == 'exact' else 'a sample of'} {told.coalitions} coalitions, an "
        f"absent input taken from {told.background} other buildings; the values of a building add "
        f"up to its probabilities to {told.additivity:.0e}.",
        "",
        "Mean |Shapley value| of each class's probability, and its share of the class's sum:",
        "",
        *_table(("", *told.classes), [(p, *_with_share(told, i)) for i, p in _places(told)]),
        "",
        "What the figures lose when an input is dealt out at random among the buildings "
        "(± spread over the deals). With all inputs in place: "
        + ", ".join(f"{k.replace('_', ' ')} {v:.3f}" for k, v in told.figures.items())
        + ".",
        "",
        *_table(
            ("", *(n.replace("_", " ") for n in told.figures), *(f"AUC {c}" for c in told.classes)),
            [(p, *_drops(told, i)) for i, p in _places(told)],
        ),
        "",
    ]
    return "\n".join(lines)


def svg(told: Explanation) -> str:
    """Per class one bar, its parts the shares of the inputs; below it what each input is worth."""
    bottom = _TOP + _ROW * len(told.classes)
    height = bottom + 42
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'font-family="system-ui, sans-serif" font-size="13" fill="#222">',
        f"<title>Importance of the inputs of {escape(told.model)} per class</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="16" y="24" font-size="15" font-weight="600">{escape(told.model)}: what each '
        "class goes by</text>",
        *_legend(told.players),
        *_bars(told),
        *_axis(bottom),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _legend(players: Sequence[str]) -> Iterator[str]:
    x = 16.0
    for name, colour in zip(players, _cycle(len(players)), strict=True):
        yield f'<rect x="{x:.0f}" y="40" width="12" height="12" fill="{colour}"/>'
        yield f'<text x="{x + 17:.0f}" y="51">{escape(name)}</text>'
        x += 34 + 7.2 * len(name)


def _bars(told: Explanation) -> Iterator[str]:
    scale = _WIDTH - _LEFT - _RIGHT
    total_C = np.array(told.shapley).sum(axis=0)
    for c, label in enumerate(told.classes):
        y, x = _TOP + _ROW * c, float(_LEFT)
        yield f'<text x="{_LEFT - 10}" y="{y + 15}" text-anchor="end">{escape(label)}</text>'
        for p, colour in zip(range(len(told.players)), _cycle(len(told.players)), strict=True):
            share = told.share[p][c]
            width = share * scale
            tip = f"{told.players[p]}: {share:.0%} of {label}"
            yield (
                f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_BAR}" fill="{colour}">'
                f"<title>{escape(tip)}</title></rect>"
            )
            if width > 34:
                yield (
                    f'<text x="{x + width / 2:.1f}" y="{y + 14}" text-anchor="middle" '
                    f'font-size="11" fill="#fff">{share:.0%}</text>'
                )
            x += width
        yield f'<text x="{x + 8:.0f}" y="{y + 15}" fill="#555">Σ {total_C[c]:.3f}</text>'


def _axis(y: float) -> Iterator[str]:
    scale = _WIDTH - _LEFT - _RIGHT
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = _LEFT + tick * scale
        yield f'<line x1="{x:.0f}" x2="{x:.0f}" y1="{_TOP}" y2="{y}" stroke="#fff" opacity=".5"/>'
        yield f'<text x="{x:.0f}" y="{y + 10}" text-anchor="middle">{tick:.0%}</text>'
    yield (
        f'<text x="{_LEFT}" y="{y + 30}" font-size="11" fill="#555">share of the mean |Shapley '
        "value| of the class's probability; Σ is that mean over all inputs</text>"
    )


def _places(told: Explanation) -> Iterator[tuple[int, str]]:
    return enumerate(told.players)


def _with_share(told: Explanation, p: int) -> list[str]:
    return [f"{v:.4f} ({s:.0%})" for v, s in zip(told.shapley[p], told.share[p], strict=True)]


def _drops(told: Explanation, p: int) -> list[str]:
    lost = told.drop[p]
    figures = [f"{lost[n]:+.3f} ± {lost[f'{n}_spread']:.3f}" for n in told.figures]
    return figures + ["–" if np.isnan(v) else f"{v:+.3f}" for v in told.auc_drop[p]]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _cycle(count: int) -> list[str]:
    return [_COLOURS[i % len(_COLOURS)] for i in range(count)]
