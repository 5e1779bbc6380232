"""Verifies a published map by answers, and publishes it again, restated."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from quakestream.errors import RequestError
from quakestream.outputs.answers import Answers, answers_csv, read_answers
from quakestream.outputs.layout import ANSWERS, RUN_JSON, SNAPSHOTS
from quakestream.outputs.publish import UNUSED_ANSWERS, publish, run_json
from quakestream.outputs.readback import current_run, scale_of
from quakestream.outputs.republish import snapshot_products
from quakestream.outputs.spot_sample import (
    SpotSample,
    districts_in,
    map_rows,
    named_districts,
    read_sample,
)
from quakestream.outputs.units import unit_ids, unit_names
from quakestream.outputs.verification import Verification, join_answers, verified
from quakestream.storage import MissingObjectError, StorageOptions, Store

KEPT_KEYS = (
    *("totals", "share_destroyed", "precision", "recall"),
    *("answers", "bounds", "warnings", "restated"),
)
"""Parts of verification.json that run.json repeats."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VerifiedMap:
    """A map that was verified, before it is published."""

    base: dict[str, Any]
    """run.json of the map as the model made it."""
    answers: Answers
    result: Verification


def verify_map(
    store: Store, uris: Sequence[str], storage: StorageOptions | None = None
) -> VerifiedMap:
    """Numbers from the answers to the sample of a map.

    A map that was verified before is verified anew, from what the model said. A sample that was
    drawn from an earlier snapshot still counts: its buildings keep their answers and strata.

    Args:
        uris: files of answers; none: those that were kept under the map's output.

    Raises:
        RequestError: if there is no map, no sample or no usable answer.
    """
    base = model_run(store, current_run(store))
    sample = read_sample(store)
    answers = read_answers(uris or _kept(store), storage or store.options)
    rows = map_rows(store, base)
    named = named_districts(store, base)
    strata = _strata_by_id(store, sample)
    checked, count = join_answers(rows, unit_ids(rows, named), sample, strata, answers)
    checked = replace(checked, names=unit_names(named))
    result = verified(checked, sample, answers, count, scale_of(base))
    return VerifiedMap(base=base, answers=answers, result=result)


def publish_verified(
    store: Store,
    one: VerifiedMap,
    check: Callable[[], None],
    removed: Callable[[Sequence[str]], None] = lambda names: None,
) -> str:
    """Publishes the restated map, and keeps the answers. Returns the id of the snapshot.

    Args:
        check: raises if this process may not write fixed names any more.
        removed: as in `publish`.

    Raises:
        StorageError: if the store fails; the earlier snapshot stays current.
    """
    products = snapshot_products(store, one.base)
    result = one.result
    kept = answers_csv(one.answers.rows)
    record = dict(products.run)
    record["made_by"] = "verify"
    record["verification"] = {
        "of": one.base["snapshot"],
        **{key: result.record[key] for key in KEPT_KEYS},
    }
    record["shares"] = result.shares
    record.pop("answers_not_applied", None)
    notes = [note for note in record.get("notes", []) if note != UNUSED_ANSWERS]
    record["notes"] = [*notes, *result.record["warnings"]]
    store.put(ANSWERS, kept)
    return publish(
        store,
        replace(
            products,
            buildings=result.restated,
            run=record,
            verification={"verification.json": run_json(result.record), "answers.csv": kept},
        ),
        check,
        removed,
    )


def model_run(store: Store, run: dict[str, Any]) -> dict[str, Any]:
    """run.json of the snapshot that the model made: that of the map itself if none verified it."""
    verification = run.get("verification")
    return _run_of(store, verification["of"]) if isinstance(verification, Mapping) else run


def _run_of(store: Store, snapshot: str) -> dict[str, Any]:
    try:
        run = json.loads(store.get(f"{SNAPSHOTS}{snapshot}/{RUN_JSON}"))
    except (MissingObjectError, ValueError) as error:
        raise RequestError(
            "the snapshot is missing or damaged",
            store.uri_of(f"{SNAPSHOTS}{snapshot}"),
            remedy="draw a new sample with `quakestream sample --replace`",
        ) from error
    return dict(run)


def _strata_by_id(store: Store, sample: SpotSample) -> dict[str, int]:
    """The stratum of each building that was assessed when the sample was drawn."""
    run = _run_of(store, sample.snapshot)
    rows = map_rows(store, run)
    stratum_N = sample.strata_in(rows, districts_in(store, run, rows))
    ids = rows["building_id"].astype(str)
    return {name: int(g) for name, g in zip(ids, stratum_N, strict=True) if g >= 0}


def _kept(store: Store) -> list[str]:
    if not store.exists(ANSWERS):
        raise RequestError(
            "no answers are given, and none are kept with this map",
            store.uri_of(ANSWERS),
            remedy="give the file that the answer sheet saved: `quakestream verify OUT ANSWERS`",
        )
    return [store.uri_of(ANSWERS)]
