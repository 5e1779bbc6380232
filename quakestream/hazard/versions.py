"""The newest version of each event, out of several ShakeMaps."""

from quakestream.domain import Issue
from quakestream.hazard.shakemap import ShakeMap


def newest_versions(shakemaps: list[ShakeMap], issues: list[Issue]) -> list[ShakeMap]:
    """One ShakeMap per event. A maximum over versions would keep values a revision took back."""
    newest: dict[str, ShakeMap] = {}
    for shakemap in shakemaps:
        event = shakemap.event_id or shakemap.uri
        other = newest.get(event)
        if other is None:
            newest[event] = shakemap
            continue
        older, newer = sorted((other, shakemap), key=_age)
        newest[event] = newer
        issues.append(
            Issue(
                subject=older.uri,
                kind="hazard",
                cause=f"version {older.version} of event {event} is not used: {newer.uri} is the "
                f"newer version {newer.version}",
            )
        )
    return list(newest.values())


def _age(shakemap: ShakeMap) -> tuple[str, int, str]:
    version = int(shakemap.version) if shakemap.version.isdecimal() else 0
    # All stamps are UTC; some of them end in Z or UTC.
    return shakemap.process_timestamp[:19], version, shakemap.sha256
