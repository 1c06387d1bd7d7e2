"""Work beside the network: pictures are read ahead of it, and its results are finished behind it.

So a network waits neither for a decoder nor for a writer. Results come in an order that depends on the
pictures' shapes alone.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .pictures import read_image
from .tables import ImageRecord
from .views import aligned_side

Item = TypeVar("Item")


def side_threads(device: torch.device, threads: int) -> int:
    """Threads to read ahead with, and as many to finish with: on a CPU the network needs the cores."""
    return max(1, threads // 2) if device.type == "cuda" else 1


def read_ahead(
    root: Path, records: Sequence[ImageRecord], size: int, stride: int, device: torch.device, threads: int = 1
) -> Iterator[tuple[list[ImageRecord], Tensor]]:
    """Images of one shape and their pictures [B, 3, H, W] in [0, 1], at most `size`, read by threads.

    On a card a picture comes in the size of `shared_shape`.

    Args:
        root: what the images' paths are relative to.
        stride: the network's output stride.
        threads: batches that are read at the same time; one more waits.
    """
    on_card = device.type == "cuda"

    def shape(record: ImageRecord) -> tuple[int, int]:
        own = record.height, record.width
        return shared_shape(*own, stride) if on_card else own

    def read(batch: list[ImageRecord]) -> tuple[list[ImageRecord], Tensor]:
        pictures = [read_image(root / record.image) for record in batch]
        if not on_card:
            return batch, stacked(pictures)
        fitted = [resized(one, *shape(record)) for one, record in zip(pictures, batch, strict=True)]
        return batch, stacked(fitted).pin_memory()

    calls = ((read, batch) for batch in batches_of_equal_shape(records, size, shape))
    for batch, pixels in in_order(calls, threads):
        # a quarter of the bytes that numbers have
        yield batch, pixels.to(device, non_blocking=True).float() / 255


def shared_shape(height: int, width: int, stride: int) -> tuple[int, int]:
    """The nearest height and width that fit a network's stride, which pictures of nearly one size share.

    Photographs have so many sizes that else a card would get most of VOC's in batches of one or two, and wait
    for the host. No side changes by more than half a stride, but for one that is shorter than that, and at
    scale 1 a network is shown that size anyway.
    """
    return aligned_side(height, stride), aligned_side(width, stride)


def resized(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """A picture, uint8 [H, W, 3], at another size."""
    if picture.shape[:2] == (height, width):
        return picture
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))


def stacked(pictures: Sequence[np.ndarray]) -> Tensor:
    """Pictures of one shape, uint8 [H, W, 3], as one tensor uint8 [B, 3, H, W]."""
    # by numpy: torch would use a team of threads beside the network's
    return torch.from_numpy(np.ascontiguousarray(np.stack(pictures).transpose(0, 3, 1, 2)))


def batches_of_equal_shape(
    records: Iterable[ImageRecord], size: int, shape: Callable[[ImageRecord], tuple[int, int]]
) -> Iterator[list[ImageRecord]]:
    """Images of equal shape together, `size` of them; what is left of each shape comes at the end."""
    waiting: dict[tuple[int, int], list[ImageRecord]] = {}
    for record in records:
        key = shape(record)
        batch = waiting.setdefault(key, [])
        batch.append(record)
        if len(batch) == size:
            yield waiting.pop(key)
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
