"""Pictures as random crops for training."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional

from .grids import resize_labels
from .palette import IGNORE
from .pictures import read_image
from .settings import Training
from .tables import ImageRecord


class RandomCrops(Dataset):
    """An endless, seeded stream of augmented crops; position p of it is always the same crop.

    Every draw depends on (seed, position) alone, so that neither the number of workers nor a resumed
    training changes what is seen. Epochs follow each other without a break: batches are always full,
    also where the data set is smaller than a batch.

    Args:
        records: the training images.
        root: data root.
        settings: crop size, scale range, colour jitter, seed.
        fill: RGB in [0, 1] for what a crop shows beyond the picture.
        maps: for an image, integer maps [h, w] of any size that are cropped like the picture, by name.

    Each item is a dict: image [3, S, S] in [0, 1], tags [C] in {0, 1}, and the maps, uint8 [S, S], 255
    beyond the picture.
    """

    def __init__(
        self,
        records: list[ImageRecord],
        root: Path,
        settings: Training,
        fill: Tensor,
        num_classes: int,
        maps: Callable[[ImageRecord], dict[str, np.ndarray]] | None = None,
    ) -> None:
        self.records, self.root, self.settings = records, root, settings
        self.fill, self.num_classes, self.maps = fill.view(3, 1, 1), num_classes, maps
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, int))

    def __len__(self) -> int:
        return len(self.records)

    def record_at(self, position: int) -> ImageRecord:
        """The image at a position of the stream: epoch after epoch, each in an order of its own."""
        epoch, place = divmod(position, len(self.records))
        if self._order[0] != epoch:
            generator = np.random.default_rng((self.settings.seed, epoch))
            self._order = (epoch, generator.permutation(len(self.records)))
        return self.records[self._order[1][place]]

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        record = self.record_at(position)
        generator = np.random.default_rng((self.settings.seed, position, 1))
        image = torch.from_numpy(read_image(self.root / record.image)).permute(2, 0, 1)
        maps = self.maps(record) if self.maps else {}
        image, maps = self._resize(image, maps, generator)
        image, maps = _flip(image, maps, generator)
        cropped, resized = self._crop(image, maps, generator)
        tags = torch.zeros(self.num_classes)
        tags[[tag - 1 for tag in record.tags]] = 1
        return {"image": cropped, "tags": tags, **resized}

    def _resize(
        self, image: Tensor, maps: dict[str, np.ndarray], generator: np.random.Generator
    ) -> tuple[Tensor, dict[str, np.ndarray]]:
        factor = generator.uniform(*self.settings.scale)
        height, width = (max(1, round(side * factor)) for side in image.shape[1:])
        image = functional.resize(image, [height, width], antialias=True)
        image = self._jitter(image.float() / 255, generator)
        return image, {name: resize_labels(labels, height, width) for name, labels in maps.items()}

    def _jitter(self, image: Tensor, generator: np.random.Generator) -> Tensor:
        strength = self.settings.color_jitter
        if strength == 0:
            return image
        brightness, contrast, saturation = generator.uniform(1 - strength, 1 + strength, 3)
        image = functional.adjust_brightness(image, brightness)
        image = functional.adjust_contrast(image, contrast)
        return functional.adjust_saturation(image, saturation)

    def _crop(
        self, image: Tensor, maps: dict[str, np.ndarray], generator: np.random.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        size = self.settings.crop_size
        rows = _window(image.shape[1], size, generator)
        columns = _window(image.shape[2], size, generator)
        cropped = self.fill.expand(3, size, size).clone()
        cropped[:, rows[1], columns[1]] = image[:, rows[0], columns[0]]
        placed = {}
        for name, labels in maps.items():
            canvas = np.full((size, size), IGNORE, np.uint8)
            canvas[rows[1], columns[1]] = labels[rows[0], columns[0]]
            placed[name] = torch.from_numpy(canvas)
        return cropped, placed


def _flip(
    image: Tensor, maps: dict[str, np.ndarray], generator: np.random.Generator
) -> tuple[Tensor, dict[str, np.ndarray]]:
    if generator.random() < 0.5:
        return image, maps
    return image.flip(-1), {name: labels[:, ::-1] for name, labels in maps.items()}


def _window(side: int, size: int, generator: np.random.Generator) -> tuple[slice, slice]:
    """Where a crop of `size` lies: its part of a picture's side, and that part's place in the crop."""
    offset = int(generator.integers(0, abs(side - size) + 1))
    length = min(side, size)
    if side >= size:
        return slice(offset, offset + length), slice(0, length)
    return slice(0, length), slice(offset, offset + length)
