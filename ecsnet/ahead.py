"""Work beside the network: pictures are read ahead of it, and its results are finished behind it.

So a network waits neither for a decoder nor for a writer. Results come in an order that depends on the
pictures' shapes alone.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from .pictures import read_image
from .tables import ImageRecord

Item = TypeVar("Item")


def side_threads(device: torch.device, threads: int) -> int:
    """Threads to read ahead with, and as many to finish with: on a CPU the network needs the cores."""
    return max(1, threads // 2) if device.type == "cuda" else 1


def read_ahead(
    root: Path, records: Sequence[ImageRecord], size: int, device: torch.device, threads: int = 1
) -> Iterator[tuple[list[ImageRecord], Tensor]]:
    """Images of one shape and their pictures [B, 3, H, W] in [0, 1], at most `size`, read by threads.

    Args:
        root: what the images' paths are relative to.
        threads: batches that are read at the same time; one more waits.
    """
    pinned = device.type == "cuda"

    def read(batch: list[ImageRecord]) -> tuple[list[ImageRecord], Tensor]:
        pixels = stacked([read_image(root / record.image) for record in batch])
        return batch, pixels.pin_memory() if pinned else pixels

    calls = ((read, batch) for batch in batches_of_equal_shape(records, size))
    for batch, pixels in in_order(calls, threads):
        # a quarter of the bytes that numbers have
        yield batch, pixels.to(device, non_blocking=True).float() / 255


def stacked(pictures: Sequence[np.ndarray]) -> Tensor:
    """Pictures of one shape, uint8 [H, W, 3], as one tensor uint8 [B, 3, H, W]."""
    # by numpy: torch would use a team of threads beside the network's
    return torch.from_numpy(np.ascontiguousarray(np.stack(pictures).transpose(0, 3, 1, 2)))


def batches_of_equal_shape(records: Iterable[ImageRecord], size: int) -> Iterator[list[ImageRecord]]:
    """Images of equal shape together, `size` of them; what is left of each shape comes at the end."""
    waiting: dict[tuple[int, int], list[ImageRecord]] = {}
    for record in records:
        shape = record.height, record.width
        batch = waiting.setdefault(shape, [])
        batch.append(record)
        if len(batch) == size:
            yield waiting.pop(shape)
    yield from waiting.values()


def one_behind(items: Iterable[Item]) -> Iterator[Item]:
    """Each item when the one after it is made: a card has that to do while the host looks at this one."""
    waiting: list[Item] = []
    for item in items:
        waiting.append(item)
        if len(waiting) > 1:
            yield waiting.pop(0)
    yield from waiting


def in_order(calls: Iterable[tuple], threads: int, batch: int = 1) -> Iterator[Any]:
    """Results of calls (function, *arguments) in their order, made by threads while the next are fetched.

    Calls are fetched in the caller's own thread, and few of them wait: memory stays flat. An error comes
    where its result would.

    Args:
        batch: of the calls so many come from one pass of a network. Those of two passes may wait, so that
            the network runs while threads still work on what it gave last.
    """
    waiting: deque[Future] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for function, *arguments in calls:
                waiting.append(pool.submit(function, *arguments))
                if len(waiting) >= threads + 2 * batch:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
