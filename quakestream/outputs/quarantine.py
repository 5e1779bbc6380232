"""quarantine.parquet: bad inputs with name and cause (law 9)."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import pyarrow as pa

from quakestream.domain import Issue
from quakestream.outputs.geoparquet import parquet_bytes

QUARANTINE_SCHEMA = pa.schema(
    [
        ("subject", pa.string()),
        ("kind", pa.string()),
        ("cause", pa.string()),
        ("attempts", pa.int32()),
        ("retryable", pa.bool_()),
        ("first_seen", pa.timestamp("us", tz="UTC")),
    ]
)
IssueKey = tuple[str, str, str]


def merged_issues(issues: Sequence[Issue]) -> list[Issue]:
    """One issue per (kind, subject, cause), sorted, with the sum of attempts."""
    merged: dict[IssueKey, Issue] = {}
    for issue in issues:
        key = (issue.kind, issue.subject, issue.cause)
        earlier = merged.get(key)
        merged[key] = Issue(
            subject=issue.subject,
            kind=issue.kind,
            cause=issue.cause,
            retryable=issue.retryable,
            attempts=issue.attempts + (earlier.attempts if earlier else 0),
        )
    return [merged[key] for key in sorted(merged)]


def quarantine_parquet(
    issues: Sequence[Issue],
    seen_at: datetime,
    first_seen: Mapping[IssueKey, datetime] | None = None,
) -> bytes:
    """The issues as Parquet; `first_seen` holds the times of an earlier map."""
    earlier = first_seen or {}
    rows = [
        {
            "subject": issue.subject,
            "kind": issue.kind,
            "cause": issue.cause,
            "attempts": issue.attempts,
            "retryable": issue.retryable,
            "first_seen": earlier.get((issue.kind, issue.subject, issue.cause), seen_at).astimezone(
                UTC
            ),
        }
        for issue in merged_issues(issues)
    ]
    return parquet_bytes(pa.Table.from_pylist(rows, schema=QUARANTINE_SCHEMA))


def first_seen_in(table: pa.Table) -> dict[IssueKey, datetime]:
    """Time of the first occurrence of each issue in an earlier quarantine.parquet."""
    return {
        (row["kind"], row["subject"], row["cause"]): row["first_seen"] for row in table.to_pylist()
    }
