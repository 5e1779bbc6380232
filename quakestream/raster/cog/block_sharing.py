"""Blocks that are in memory or on their way, shared by the threads of a process."""

from collections.abc import Hashable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

from numpy.typing import NDArray

from quakestream.raster.cog.block_plan import BlockPart, plan_requests
from quakestream.raster.cog.places import BlockTask
from quakestream.raster.cog.prefetches import BlockInRequest
from quakestream.raster.cog.workers import Team
from quakestream.storage.ranges import Buffer, Fetcher

Block = NDArray[Any]


class SceneBlocks:
    """One scene's blocks in the cache and among the prefetches of a team.

    Args:
        scene: identifies the scene's version, as `CogLayout.key`.
    """

    def __init__(self, scene: Hashable, team: Team) -> None:
        self._scene, self._team = scene, team

    def is_shared(self, part: BlockPart) -> bool:
        """True if another window may need the rest of a block, and blocks are cached."""
        return part.share < 1.0 and self._team.blocks.limit_bytes > 0

    def find(self, task: BlockTask) -> "Block | Future[Block | None] | None":
        """A block that is in memory or being made; None where the caller must make it.

        A shared block that the caller must make is claimed: other threads wait for `settle`.
        """
        part, cache = task.part, self._team.blocks
        block: Block | Future[Block | None] | None
        if self.is_shared(part):
            block = cache.claim(self._key(part, planar=task.place.planar), part.share)
            task.claimed = block is None
        else:
            block = cache.get(self._key(part, planar=task.place.planar), part.share)
        if block is not None:
            self.take_prefetch(part)  # no window will need it any more
        return block

    def settle(self, task: BlockTask, outcome: Block | Exception | None) -> None:
        """Tells the threads that wait for a claimed block what became of it, once."""
        if task.claimed:
            task.claimed = False
            key = self._key(task.part, planar=task.place.planar)
            self._team.blocks.settle(key, outcome)

    def take_prefetch(self, part: BlockPart) -> tuple[Future[Buffer], int] | None:
        """The answer that brings a prefetched block, and the block's offset in it."""
        return self._team.prefetches.take(self._name(part))

    def missing(self, parts: Iterable[BlockPart], *, planar: bool) -> list[BlockPart]:
        """One part of each block that is neither in memory nor on its way.

        Args:
            planar: the places of the blocks take them with bands apart.
        """
        unique = {self._name(part): part for part in parts}
        return [part for part in unique.values() if not self._is_expected(part, planar=planar)]

    def prefetch(self, parts: Sequence[BlockPart], fetcher: Fetcher) -> None:
        """Requests the blocks of parts, neighbours together, as far as the bound allows."""
        for request in plan_requests(parts, fetcher.policy):
            blocks = [
                BlockInRequest(self._name(parts[n]), parts[n].offset - request.start)
                for n in request.members
            ]
            fetch = partial(fetcher.fetch, request.start, request.length)
            self._team.prefetches.request(request.length, blocks, partial(self._team.submit, fetch))

    def _is_expected(self, part: BlockPart, *, planar: bool) -> bool:
        """True if a block needs no request."""
        return (
            part.size == 0
            or self._name(part) in self._team.prefetches
            or self._team.blocks.has(self._key(part, planar=planar))
        )

    def _name(self, part: BlockPart) -> Hashable:
        return self._scene, part.image, part.index

    def _key(self, part: BlockPart, *, planar: bool) -> Hashable:
        # a cached block has the axes of its place, and a scene may be read on two grids
        return self._scene, part.image, part.index, planar
