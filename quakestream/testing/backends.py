"""Contract tests for backends: where the stages of a run work."""

from collections.abc import Sequence
from typing import Any

from quakestream.bundles import Bundle
from quakestream.config import Profile
from quakestream.pipeline.backends.protocol import Backend
from quakestream.pipeline.work.prepare import PrepareStep, run_step
from quakestream.pipeline.work.tasks import GroupTask, WorkerSpec
from quakestream.storage import open_store


class BackendContract:
    """Tests over the protocol Backend."""

    def backend(self) -> Backend:
        raise NotImplementedError

    def spec(self) -> WorkerSpec:
        """A run whose output holds no commit yet."""
        raise NotImplementedError

    def groups(self) -> Sequence[GroupTask]:
        """At least three commit groups of that run."""
        raise NotImplementedError

    def steps(self) -> list[PrepareStep]:
        """Several prepare steps of that run."""
        raise NotImplementedError

    def bundle_and_settings(self) -> tuple[Bundle, Profile]:
        raise NotImplementedError

    def commits(self, backend: Backend) -> set[str]:
        reports = list(backend.run(self.spec(), iter(self.groups())))
        assert sum(r.units for r in reports) == sum(len(g.units) for g in self.groups())
        return {key for report in reports for _, key in report.commits}

    def test_every_group_is_committed(self) -> None:
        spec = self.spec()
        keys = self.commits(self.backend())
        store = open_store(spec.ledger_uri, spec.options)
        assert keys == set(store.list(spec.jobs[0].kind.commits))
        assert len(keys) == len(self.groups())

    def test_the_same_groups_give_the_same_commits(self) -> None:
        spec, backend = self.spec(), self.backend()
        store = open_store(spec.ledger_uri, spec.options)
        first = {key: store.get(key) for key in self.commits(backend)}
        assert self.commits(backend) == set(first)

    def test_a_run_without_groups_gives_no_report(self) -> None:
        assert list(self.backend().run(self.spec(), iter(()))) == []

    def test_steps_give_their_results_in_order(self) -> None:
        steps = self.steps()
        found = list(self.backend().each(run_step, steps))
        assert [step.key for step, _ in found] == [step.key for step in steps]
        expected: list[Any] = [type(run_step(step)) for step in steps]
        assert [type(result) for _, result in found] == expected

    def test_the_picked_engine_is_one_that_runs(self) -> None:
        bundle, settings = self.bundle_and_settings()
        facts = self.backend().pick(bundle, settings)
        assert facts.spec.runtime == settings.runtime
        assert facts.seconds_per_window > 0
        assert facts.name
