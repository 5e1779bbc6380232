"""report.html: the finished map as a printable page with figures, uncertainty and inputs.

The page has no script.
"""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from quakestream.outputs.expected import amount, share_interval
from quakestream.outputs.figures import SEVERE, Headline, check_advice, headline
from quakestream.outputs.ground import rate_rows
from quakestream.outputs.left_out import left_out_line
from quakestream.outputs.numerals import flat_metrics, percent
from quakestream.outputs.pages import cards_html, content_security_policy, fill, static
from quakestream.outputs.readback import current_run, current_table
from quakestream.outputs.units import unit_title
from quakestream.outputs.viewer_content import (
    REASON_TITLES,
    evidence_sentence,
    image_credits,
    subject,
)
from quakestream.storage import Store

REPORTED = "summary.csv", "quarantine.parquet"
"""Tables that the report shows."""
UNITS_AT_MOST = 25
ROWS_AT_MOST = 60
SHORT_TEXT = 24
"""Longest text of a table cell that stays on one line, characters."""


def report_html(
    store: Store, scores: Mapping[str, Any] | None = None, map_link: str = "index.html"
) -> bytes:
    """The report of the current snapshot.

    Args:
        scores: the output of `quakestream score --json`.
        map_link: where the map lies, seen from the report.

    Raises:
        RequestError: if there is no finished map.
    """
    run = current_run(store)
    summary, quarantine = (current_table(store, run, name) for name in REPORTED)
    return report_page(run, summary, quarantine, scores, map_link)


def report_page(
    run: Mapping[str, Any],
    summary: pd.DataFrame,
    quarantine: pd.DataFrame,
    scores: Mapping[str, Any] | None = None,
    map_link: str = "index.html",
) -> bytes:
    """The page for the content of run.json, summary.csv and quarantine.parquet."""
    event = run.get("event", {})
    parts = {
        "csp": content_security_policy([]),
        "style": static("base.css") + static("report.css"),
        "title": _safe(f"{event.get('id', 'Earthquake')}: {subject(run)}"),
        "map": _safe(map_link),
        "lead": _lead(run),
        "advice": _safe(check_advice(run)),
        "credits": _credits(run),
        "verdicts": _verdicts(run),
        "reasons": _reasons(run["counts"]),
        "units": _units(summary, run),
        "checks": _checks(run),
        "scores": _scores(scores),
        "models": _models(run),
        "rates": _pairs(rate_rows(run)),
        "notes": "".join(f"<li>{_safe(n)}</li>" for n in run.get("notes", [])),
        "hazard": _inputs(_hazard_inputs(run.get("hazard"))),
        "inputs": _inputs(run.get("inputs", {})),
        "quarantine": _quarantine(quarantine),
        "provenance": _pairs(
            [
                *((k, str(run[k])) for k in ("run_id", "snapshot", "published") if k in run),
                *flat_metrics(run.get("versions", {})),
            ]
        ),
    }
    return fill(static("report.html"), parts).encode()


def _lead(run: Mapping[str, Any]) -> str:
    counts, first = run["counts"], headline(run)
    slides = _slides(counts.get("landslides"), _beside_slides(run))
    if not run.get("bundle"):
        return slides
    time = str(run.get("event", {}).get("time", "")).replace("T", " ")
    struck = f"Earthquake of {_safe(time)}. " if time else ""
    return (
        f"<p>{struck}{first.assessed:,} of {first.total:,} buildings "
        f"({percent(first.assessed, first.total)}) were assessed. {_safe(_unassessed(counts))}</p>"
        f"{_headline(first)}"
        f"{f'<p>{_safe(evidence)}</p>' if (evidence := evidence_sentence(run)) else ''}"
        f"{slides}"
    )


def _beside_slides(run: Mapping[str, Any]) -> list[str]:
    """Sentences: what was left out, and what shaking and terrain alone say."""
    said = [f"{line}."] if (line := left_out_line(run)) else []
    prior = run.get("landslide_prior")
    if isinstance(prior, Mapping):
        said.append(
            f"Of {prior['assessed_km2']:,.1f} km², shaking and terrain alone let "
            f"{prior['expected_km2']:.3f} km² slide."
        )
    return said


def _slides(counts: Mapping[str, Any] | None, beside: Iterable[str]) -> str:
    """What the run says of landslides; nothing where it looked for none."""
    if counts is None:
        return ""
    more = [
        f"{counts[key]:,} {text.format(s='s' * (counts[key] != 1))}"
        for key, text in (
            ("buildings_touched", "building{s} touched"),
            ("buildings_within_50_m", "building{s} within 50 m"),
            ("road_km", "km of road"),
        )
        if counts.get(key)
    ]
    number = f"{counts['slides']:,} landslide{'' if counts['slides'] == 1 else 's'}"
    touched = f": {', '.join(more)}" if more else ""
    apart = "".join(f"<p>{_safe(sentence)}</p>" for sentence in beside)
    return (
        f"<div class='headline'><p><b>{number}</b>, {counts['km2']:.3f} km², by the model"
        f"{_safe(touched)}.</p><p>A model takes bare ground in one image for a fresh slide. "
        f"Look at the image before anybody is sent.</p>{apart}</div>"
    )


def _credits(run: Mapping[str, Any]) -> str:
    lines = image_credits((run.get("inputs") or {}).get("scenes", []))
    return "".join(f"<li>{_safe(line)}</li>" for line in lines)


def _headline(first: Headline) -> str:
    """The figure to quote, with what belongs beside it.

    It is the expected number of destroyed buildings, or else the count of severe verdicts.
    """
    caveat = "".join(f"<p>{_safe(sentence)}</p>" for sentence in first.caveat)
    if first.expected is None:
        return (
            f"<div class='headline'><p><b>{first.severe:,}</b> {_safe(first.names)}, by the model: "
            f"{_safe(first.sentence)}.</p>{caveat}</div>"
        )
    found = first.expected
    return (
        f"<div class='headline'><p><b>About {found.amount}</b> {_safe(found.rest)}, "
        f"{_safe(found.beside)}.</p><p>Declared: {_safe(first.sentence)}.</p>{caveat}</div>"
    )


def _unassessed(counts: Mapping[str, Any]) -> str:
    """What is known of the buildings that were not assessed; empty where there are none."""
    if not counts["not_assessed"]:
        return ""
    start = f"{counts['not_assessed']:,} were not assessed:"
    alone = int(counts.get("evidence", {}).get("hazard", 0))
    if not alone:
        return f"{start} their state is unknown."
    known = "all" if alone == counts["not_assessed"] else f"{alone:,}"
    return (
        f"{start} no image shows them, and {known} have a probability of damage from hazard "
        "values only."
    )


def _count(run: Mapping[str, Any], label: str) -> int:
    return int(run["counts"].get("damage", {}).get(label, 0))


def _verdicts(run: Mapping[str, Any]) -> str:
    counts = run["counts"]
    total, assessed = counts["footprints"], counts["assessed"]
    rows = [(c["label"], _count(run, c["label"]), assessed) for c in reversed(run["damage_scale"])]
    cells = [(a, f"{n:,}", percent(n, of), _bar(n / of if of else 0)) for a, n, of in rows]
    unseen = counts["not_assessed"]
    share = f"{percent(unseen, total)} of all" if total else "–"
    cells.append(("not assessed", f"{unseen:,}", share, _bar(unseen / total if total else 0)))
    heads = ("verdict", "buildings", "share of the assessed", "")
    return _table(heads, cells, numbers=(1, 2), raw=(3,))


def _reasons(counts: Mapping[str, Any]) -> str:
    reasons = sorted(counts.get("reasons", {}).items(), key=lambda item: -item[1])
    if not reasons:
        return "<p>Every building was assessed.</p>"
    most = reasons[0][1]
    cells = [(REASON_TITLES.get(r, r), f"{n:,}", _bar(n / most)) for r, n in reasons]
    return _table(("reason", "buildings", ""), cells, numbers=(1,), raw=(2,))


def _units(summary: pd.DataFrame, run: Mapping[str, Any]) -> str:
    """Table of the units with most severe damage."""
    labels = [c["label"] for c in run["damage_scale"]]
    severe = [c["label"] for c in run["damage_scale"] if c["xbd"] in SEVERE]
    calibrated = "expected_destroyed" in summary
    by = summary["expected_destroyed"].fillna(0) if calibrated else summary[severe].sum(axis=1)
    top = summary.loc[by.sort_values(ascending=False, kind="stable").index].head(UNITS_AT_MOST)
    slides = [n for n in ("landslides", "landslide_km2") if n in summary]
    names = ("unit", "buildings", "share_assessed", *labels, "not_assessed", *slides)
    if "pcode" in top:
        titles = [
            unit_title(code or name, name)
            for name, code in zip(top["unit"], top["pcode"].fillna(""), strict=True)
        ]
        top = top.assign(unit=titles)
    cells = [
        [_cell(name, value) for name, value in zip(names, row, strict=True)]
        for row in top[list(names)].itertuples(index=False)
    ]
    heads = [n.replace("_", " ") for n in names]
    if calibrated:
        heads += ["estimated destroyed", "90 %", "share"]
        cells = [[*c, *_of_unit(r)] for c, r in zip(cells, top.to_dict("records"), strict=True)]
    more = len(summary) - len(top)
    note = f"<p class='quiet'>summary.csv lists {more:,} more.</p>" if more else ""
    return _table(heads, cells, numbers=range(1, len(heads))) + note


def _cell(name: str, value: Any) -> str:
    """A value of summary.csv; units with landslides may have no building."""
    if name == "share_assessed":
        return "–" if pd.isna(value) else f"{value:.1%}"
    return f"{value:.4f}" if name == "landslide_km2" else str(value)


def _of_unit(row: Mapping[Any, Any]) -> tuple[str, str, str]:
    """Expected number, its interval, and the share of a row of summary.csv."""
    if pd.isna(row["expected_destroyed"]):
        return "–", "–", "–"
    ends = f"{amount(row['expected_low'])} to {amount(row['expected_high'])}"
    share = {"share": "share_destroyed", "low": "share_low", "high": "share_high"}
    return (
        amount(row["expected_destroyed"]),
        ends,
        share_interval({key: row[column] for key, column in share.items()}),
    )


def _checks(run: Mapping[str, Any]) -> str:
    """What people found in the sample: numbers per class, and how right the model had been."""
    found = run.get("verification")
    if not found:
        return ""
    rows = [
        (name, f"{one['value']:,}", f"{one['low']:,} to {one['high']:,}")
        for name, one in found["totals"].items()
    ]
    right = [
        ("precision of the map before: destroyed, of those that it named", found["precision"]),
        ("recall of the map before: named, of the destroyed", found["recall"]),
    ]
    rows += [(name, *_interval_cells(one)) for name, one in right]
    count = found["answers"]
    sentence = (
        f"People told the state of {count['answered']:,} of {count['sampled']:,} sampled "
        f"buildings; {count['cannot_tell']:,} could not be told."
    )
    table = _table(("of the assessed", "estimate", "90 %"), rows, numbers=(1, 2))
    return f"<section><h2>Spot checks</h2><p>{_safe(sentence)}</p>{table}</section>"


def _interval_cells(one: Mapping[str, float | None]) -> tuple[str, str]:
    if one["value"] is None:
        return "–", "–"
    return f"{one['value']:.2f}", f"{one['low']:.2f} to {one['high']:.2f}"


def _scores(scores: Mapping[str, Any] | None) -> str:
    if not scores:
        return (
            "<p>This page holds no comparison with a reference: `quakestream score --json` makes "
            "one, and `quakestream report --scores` shows it here.</p>"
        )
    auc, base = scores["auc"], scores.get("baseline") or {}
    rows = [
        ("ROC-AUC", _interval(auc)),
        ("ROC-AUC of the pre/post difference", _interval(base.get("auc"))),
        ("ROC-AUC of the class prior", "0.500"),
        ("F1 as declared", _interval(scores["f1"])),
        ("average precision", _interval(scores["average_precision"])),
        ("calibration error", _number(scores["calibration_error"])),
        ("buildings compared", f"{scores['n_positive']} severe, {scores['n_negative']} harmless"),
        ("not assessed, left out", str(scores["coverage"]["footprints_not_assessed"])),
    ]
    question = f"{scores['positive']} against {scores['negative']}; matched {scores['how']}."
    question += f" {scores['rule']}" if "rule" in scores else ""  # files of earlier versions
    return f"<p>{_safe(question)}</p>{_pairs(rows)}"


def _model(bundle: Mapping[str, Any] | None) -> str:
    if not bundle:
        return "<p>No model.</p>"
    card = (
        cards_html([(str(bundle.get("name", "model")), bundle["card"])])
        if bundle.get("card")
        else ""
    )
    facts = [(k, str(bundle[k])) for k in ("digest", "engine", "uri") if k in bundle]
    facts += flat_metrics({"thresholds": bundle.get("thresholds", {})})
    title = f"{bundle.get('name', '')} {bundle.get('version', '')}"
    return (
        f"<h3>{_safe(title)}</h3>{card}{_pairs([*facts, *flat_metrics(bundle.get('metrics', {}))])}"
    )


def _models(run: Mapping[str, Any]) -> str:
    named = [run[key] for key in ("bundle", "landslide_bundle") if run.get(key)]
    return ("".join(map(_model, named)) or _model(None)) + _hazard_model(run)


def _hazard_model(run: Mapping[str, Any]) -> str:
    """The bundle of `models.hazard`: its class shares, its inputs and how often they exist."""
    bundle = run.get("hazard_bundle")
    if not bundle:
        return ""
    total = run["counts"]["footprints"]
    missing = bundle["footprints_missing"]
    rows = [(name, f"{total - missing[name]:,} of {total:,}") for name in bundle["takes"]]
    heads = ("hazard value", "footprints with a value")
    shares = _pairs(flat_metrics({"assumed class shares": bundle["prior"]}))
    return f"{_model(bundle)}{shares}{_table(heads, rows, numbers=(1,))}"


def _inputs(inputs: Mapping[str, Any]) -> str:
    """Lists of records (scenes) as tables, other values as pairs."""
    lists = {k: v for k, v in inputs.items() if _is_records(v)}
    out = [_pairs(flat_metrics({k: v for k, v in inputs.items() if k not in lists}))]
    for title, rows in lists.items():
        names = list(dict.fromkeys(key for one in rows for key in one))
        cells = [[one.get(n, "") for n in names] for one in rows[:ROWS_AT_MOST]]
        more = len(rows) - len(cells)
        note = f"<p class='quiet'>run.json lists {more:,} more.</p>" if more else ""
        out.append(f"<h3>{_safe(title)}</h3>{_table(names, cells)}{note}")
    return "".join(out)


def _hazard_inputs(hazard: Any) -> dict[str, Any]:
    return hazard if isinstance(hazard, dict) else {"hazard": hazard} if hazard else {}


def _is_records(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)


def _quarantine(rows: pd.DataFrame) -> str:
    if rows.empty:
        return "<p>No input is in quarantine.</p>"
    names = ("kind", "subject", "cause", "attempts", "retryable")
    cells = [[row[n] for n in names] for row in rows.head(ROWS_AT_MOST).to_dict("records")]
    more = len(rows) - len(cells)
    note = f"<p class='quiet'>quarantine.parquet lists {more:,} more.</p>" if more else ""
    return _table(names, cells, numbers=(3,)) + note


def _interval(value: Mapping[str, Any] | None) -> str:
    if not value or value["value"] is None:
        return "–"
    if value["low"] is None:
        return f"{value['value']:.3f}"
    return f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _pairs(rows: Sequence[tuple[str, str]]) -> str:
    return _table((), rows, numbers=(1,)) if rows else ""


def _table(
    heads: Sequence[str],
    rows: Iterable[Sequence[Any]],
    numbers: Iterable[int] = (),
    raw: Iterable[int] = (),
) -> str:
    """An HTML table. All cells are escaped except the columns `raw`, which hold our own HTML."""
    right, html_columns = set(numbers), set(raw)

    def cell(tag: str, i: int, value: Any) -> str:
        text = str(value) if i in html_columns else _safe(value)
        length = "short" if len(str(value)) <= SHORT_TEXT else "long"
        kind = length if i not in right else "n" if length == "short" else "n long"
        return f"<{tag} class='{kind}'>{text}</{tag}>"

    head = "".join(cell("th", i, name) for i, name in enumerate(heads))
    body = "".join(
        "<tr>" + "".join(cell("td", i, v) for i, v in enumerate(row)) + "</tr>" for row in rows
    )
    return (
        f"<table>{f'<thead><tr>{head}</tr></thead>' if heads else ''}<tbody>{body}</tbody></table>"
    )


def _bar(share: float) -> str:
    return f"<span class='bar'><i style='width:{100 * share:.1f}%'></i></span>"


def _safe(value: Any) -> str:
    return html.escape(str(value))
