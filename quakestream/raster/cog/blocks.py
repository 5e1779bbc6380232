"""Reads the blocks of a scene: few requests, decoded block by block.

Counts go from the decoder's scratch memory into the caller's arrays. Nothing larger than a
block lies between them.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from quakestream.errors import ReadError
from quakestream.raster.cog.block_decoder import BlockDecoder
from quakestream.raster.cog.block_plan import (
    BlockPart,
    Rect,
    block_name,
    block_parts,
    plan_requests,
    request_waves,
)
from quakestream.raster.cog.block_sharing import Block, SceneBlocks
from quakestream.raster.cog.layout import CogLayout
from quakestream.raster.cog.places import BlockTask, SamplePlace
from quakestream.raster.cog.workers import Team
from quakestream.raster.messages import damaged_block, reason_of
from quakestream.storage.local_fetcher import LocalFetcher
from quakestream.storage.ranges import Buffer, Fetcher, RangeRequest

Answer = tuple[BlockTask, int, Future[Buffer]]
"""A block, its offset in the answer, and the answer."""


class BlockReader:
    """Reads one scene's blocks. Safe to use from several threads.

    Args:
        name: what error messages call the scene, such as `scene 10300100E1B2`; may be empty.
    """

    def __init__(self, layout: CogLayout, fetcher: Fetcher, *, name: str, team: Team) -> None:
        self._layout, self._fetcher, self._name, self._team = layout, fetcher, name, team
        self._images = (*layout.levels, *layout.masks)
        self._blocks = SceneBlocks(layout.key, team)
        self._decoder = BlockDecoder(layout, team.scratch)

    def samples(self, image: int, rect: Rect) -> NDArray[Any]:
        """All bands as they are stored, shape (sample, y, x), in the machine's byte order.

        Args:
            image: index among the layout's levels and masks.

        Raises:
            ReadError: if a block cannot be fetched or decoded; it names the block.
        """
        level = self._images[image]
        dtype = np.dtype(level.coding.dtype).newbyteorder("=")
        if level.coding.bits == 1:
            dtype = np.dtype(np.bool_)
        out_SYX = np.empty((level.samples, rect.height, rect.width), dtype)
        place = SamplePlace(dict(enumerate(out_SYX)), planes_apart=level.planar)
        parts = self.parts(image, rect, range(level.planes))
        self.read([BlockTask(part, place) for part in parts])
        return out_SYX

    def parts(self, image: int, rect: Rect, planes: Iterable[int]) -> list[BlockPart]:
        """The parts of the blocks that a rectangle of a level or mask needs."""
        return list(block_parts(self._images[image], image, rect, planes))

    def prefetch(
        self, parts: Iterable[BlockPart], masks: Iterable[BlockPart], *, planar: bool
    ) -> None:
        """Requests the bytes of blocks that will be read soon, and returns at once.

        Blocks side by side come in one request. Blocks in memory or on their way are not
        requested again, and nothing is requested beyond the bound of the prefetches.

        Args:
            masks: blocks of masks, whose places never take them with bands apart.
            planar: the places of the other blocks take them with bands apart.
        """
        if self._fetcher.policy.requests > 0:
            missing = self._blocks.missing(parts, planar=planar)
            missing += self._blocks.missing(masks, planar=False)
            sound = [part for part in missing if not self._decoder.excess(part)]
            self._blocks.prefetch(sound, self._fetcher)

    def read(self, tasks: Sequence[BlockTask]) -> None:
        """Puts blocks in their places: from memory, from other threads, and from the file.

        Raises:
            ReadError: if a block cannot be fetched or decoded; it names the block.
        """
        own: list[BlockTask] = []
        waiting: list[tuple[BlockTask, Future[Block | None]]] = []
        try:
            for task in tasks:
                if task.part.size == 0:
                    task.put(self._decoder.absent(task))
                    continue
                if excess := self._decoder.excess(task.part):
                    self._fail(task, ValueError(excess))
                block = self._blocks.find(task)
                if block is None:
                    own.append(task)
                elif isinstance(block, Future):
                    waiting.append((task, block))
                else:
                    task.put(block)
            self._make(own)
        finally:
            for task in own:
                self._blocks.settle(task, None)
        for task, answer in waiting:  # last, as the other threads may wait for our blocks
            self._wait(task, answer)

    def _wait(self, task: BlockTask, answer: "Future[Block | None]") -> None:
        """Takes a block from the thread that makes it."""
        try:
            block = answer.result()
        except Exception as error:
            self._fail(task, error)
        if block is None:  # the other thread gave up, because of another block
            self.read([task])
        else:
            task.put(block)

    def _make(self, tasks: Sequence[BlockTask]) -> None:
        """Fetches, decodes and places blocks, several at once."""
        if not tasks:
            return
        if self._fetcher.policy.requests == 0:
            self._team.for_each(tasks, self._read_inline)
            return
        prefetched: list[Answer] = []
        rest: list[BlockTask] = []
        for task in tasks:
            taken = self._blocks.take_prefetch(task.part)
            if taken is None:
                rest.append(task)
            else:
                prefetched.append((task, taken[1], taken[0]))
        requests = plan_requests([task.part for task in rest], self._fetcher.policy)
        for n, wave in enumerate(list(request_waves(requests)) or [[]]):
            self._read_wave(rest, wave, prefetched if n == 0 else [])

    def _read_inline(self, task: BlockTask) -> None:
        """Reads one block in this thread."""
        part = task.part
        try:
            header = self._decoder.header(part)
            if not (header and isinstance(self._fetcher, LocalFetcher)):
                self._place(task, self._fetcher.fetch(part.offset, part.size))
                return
            buffer = self._team.scratch.buffer(len(header) + part.size)
            buffer[: len(header)] = header
            length = self._fetcher.fetch_into(part.offset, buffer[len(header) :])
            self._place(task, buffer[: len(header) + length], header_bytes=len(header))
        except Exception as error:  # stores and codecs share no base class
            self._fail(task, error)

    def _read_wave(
        self, tasks: Sequence[BlockTask], requests: list[RangeRequest], prefetched: list[Answer]
    ) -> None:
        """Sends all requests at once and decodes each block as soon as its bytes are there.

        Args:
            prefetched: blocks whose requests were sent before.
        """
        sent: list[Answer] = []
        for request in requests:
            answer = self._team.submit(partial(self._fetcher.fetch, request.start, request.length))
            offsets = [tasks[n].part.offset - request.start for n in request.members]
            sent += [(tasks[n], o, answer) for n, o in zip(request.members, offsets, strict=True)]

        def place(item: Answer) -> None:
            task, start, answer = item
            try:
                self._place(task, memoryview(answer.result())[start : start + task.part.size])
            except Exception as error:
                self._fail(task, error)

        try:
            self._team.for_each([*prefetched, *sent], place)
        finally:
            for _, _, answer in sent:  # not the prefetches: they may bring other windows' blocks
                answer.cancel()

    def _place(self, task: BlockTask, data: Buffer, *, header_bytes: int = 0) -> None:
        keep = self._blocks.is_shared(task.part)
        block = self._decoder.decode(task, data, keep=keep, header_bytes=header_bytes)
        if block is not None:
            self._blocks.settle(task, block)
            task.put(block)

    def _fail(self, task: BlockTask, error: Exception) -> NoReturn:
        """Raises an error that names the scene, the block and the cause."""
        self._blocks.settle(task, error)
        if isinstance(error, ImportError):
            raise error
        block = block_name(task.part, len(self._layout.levels))
        where = f"{self._layout.href} ({self._name}{', ' if self._name else ''}{block})"
        raise ReadError(_why(task, error), where) from error


def _why(task: BlockTask, error: Exception) -> str:
    """Why a block cannot be had. Codecs speak of their functions, so their words are not passed."""
    if type(error).__module__.startswith("imagecodecs"):
        return damaged_block(task.part.level.coding.codec)
    return reason_of(error)
