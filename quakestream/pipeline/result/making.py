"""A map out of what its run has committed: all of it, or what there is so far."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from quakestream.domain import Issue
from quakestream.outputs.buildings import SHAKING_COLUMNS
from quakestream.outputs.layout import INTERIM
from quakestream.outputs.left_out import left_out_line
from quakestream.outputs.products import RunProducts
from quakestream.outputs.publish import publish
from quakestream.pipeline.planning.plan import Plan
from quakestream.pipeline.planning.tasks import KeyedGroup
from quakestream.pipeline.result.context import (
    FootprintHazard,
    KindProducts,
    RunContext,
    ViewFailures,
)
from quakestream.pipeline.result.joining import joined
from quakestream.pipeline.result.record import run_id
from quakestream.pipeline.result.slide_prior import with_prior
from quakestream.pipeline.result.unread_units import UnreadUnits
from quakestream.pipeline.work.scenes import reading_notes
from quakestream.storage import Store


def run_products(
    store: Store,
    plan: Plan,
    hazard: FootprintHazard,
    *,
    groups: Iterable[KeyedGroup],
    commits: Sequence[set[str]],
    view_failures: ViewFailures,
    unread: UnreadUnits | None = None,
) -> KindProducts:
    """What the jobs publish, joined, with all their issues.

    Args:
        groups: all commit groups of the plan.
        commits: keys of the commit objects of each job.
        unread: what an interim map lacks; None for the finished one.

    Raises:
        LedgerError: if commits are damaged.
    """
    context = RunContext(
        plan=plan,
        job=plan.first,
        hazard=hazard,
        view_failures=view_failures,
        constants={
            "model": plan.bundle.spec.name,
            "model_digest": plan.bundle.digest,
            "engine": plan.engine,
            "run_id": run_id(plan),
        },
    )
    keys: list[set[str]] = [set() for _ in plan.jobs]
    for part in (part for group in groups for cell in group for part in cell):
        if unread is None or part.key not in unread:
            keys[part.job].add(part.key)
    issues: list[Issue] = []
    products: list[KindProducts] = []
    for n, job in enumerate(plan.jobs):
        left = None if unread is None else unread.of_job(plan, n)
        of_job = replace(context, job=job, unread=left)
        made = job.kind.publish(store, commits[n], keys[n], of_job)
        named = {(i.kind, i.subject) for i in issues}  # once, however many jobs needed an input
        issues += [i for i in made.issues if (i.kind, i.subject) not in named]
        products.append(made)
    whole = with_prior(joined(products, context), plan)
    return replace(whole, issues=(*issues, *whole.issues))


def publish_map(
    store: Store,
    plan: Plan,
    record: dict[str, Any],
    products: KindProducts,
    issues: Iterable[Issue],
    check: Callable[[], None],
    removed: Callable[[Sequence[str]], None] = lambda names: None,
) -> str:
    """Publishes a map and returns the id of its snapshot; an interim one without `outputs`.

    Args:
        record: of `run_record`.
        issues: all of the run so far.
        check: raises if this run may not write fixed names any more.
        removed: as in `publish`.
    """
    run = plan.run
    record = {**record, **products.record}
    record["notes"] = [*record["notes"], *reading_notes(store)]
    record["notes"] += [f"landslides: {line}"] if (line := left_out_line(record)) else []
    return publish(
        store,
        RunProducts(
            buildings=products.buildings,
            coverage=products.coverage,
            landslides=products.landslides,
            prior=products.prior,
            outputs=() if INTERIM in record else run.outputs,
            large=products.large,
            issues=list(dict.fromkeys(issues)),
            run=record,
            classes=plan.classes,
            layers=tuple(n for n in run.hazard.layers if n not in SHAKING_COLUMNS),
            aoi=plan.aoi,
            **_summary_units(plan),
            views=list(plan.views if not plan.judges else plan.assignment.views),
            storage=run.storage_options,
        ),
        check,
        removed,
    )


def _summary_units(plan: Plan) -> dict[str, Any]:
    """The fields of `RunProducts` for administrative units."""
    if plan.admin is None:
        return {}
    units = plan.admin
    return {
        "admin": units.table,
        "admin_id": units.id_column,
        "admin_code": units.code_column,
    }
