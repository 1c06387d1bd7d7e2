import numpy as np
import pytest
import torch
from PIL import Image

from ecsnet.images import RandomCrops
from ecsnet.settings import Training
from ecsnet.tables import ImageRecord

FILL = torch.tensor([0.1, 0.2, 0.3])


def record(name, width=40, height=30, tags=(1,)):
    return ImageRecord(name, f"{name}.png", width, height, tags, "")


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(0)
    for name in "abc":
        Image.fromarray(generator.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(
            tmp_path / f"{name}.png"
        )
    return tmp_path


def crops(folder, names="abc", maps=None, **settings):
    settings = Training(**{"crop_size": 33, "scale": (0.5, 1.5), **settings})
    return RandomCrops([record(name) for name in names], folder, settings, FILL, 3, maps)


def test_a_position_is_always_the_same_crop(folder):
    first, second = crops(folder, color_jitter=0.3), crops(folder, color_jitter=0.3)
    second[5]  # whatever was read before
    assert torch.equal(first[17]["image"], second[17]["image"])
    assert not torch.equal(first[17]["image"], first[17 + 3]["image"])
    assert not torch.equal(first[17]["image"], crops(folder, seed=1, color_jitter=0.3)[17]["image"])


def test_every_epoch_shows_every_image_once(folder):
    stream = crops(folder)
    epochs = [[stream.record_at(3 * epoch + place).id for place in range(3)] for epoch in range(20)]
    assert all(sorted(epoch) == ["a", "b", "c"] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 3


def test_one_image_fills_any_batch(folder):
    stream = crops(folder, names="a")
    assert [stream.record_at(position).id for position in range(5)] == ["a"] * 5


def test_items(folder):
    item = crops(folder, maps=lambda record: {"label": np.full((15, 20), 2, np.uint8)})[0]
    assert item["image"].shape == (3, 33, 33)
    assert 0 <= item["image"].min() <= item["image"].max() <= 1
    assert item["tags"].tolist() == [1, 0, 0]
    assert item["label"].dtype == torch.uint8
    assert set(item["label"].unique().tolist()) <= {2, 255}


@pytest.mark.parametrize("scale", [(0.5, 0.5), (2.0, 2.0)])
def test_pictures_and_maps_are_cropped_alike(folder, scale):
    # a map that follows the picture: bright where the picture is
    Image.fromarray(np.kron(np.eye(4, dtype=np.uint8), np.full((10, 10), 255, np.uint8))).save(
        folder / "d.png"
    )
    stream = RandomCrops(
        [record("d", 40, 40)],
        folder,
        Training(crop_size=49, scale=scale),
        torch.full((3,), 0.5),
        1,
        lambda record: {"label": np.kron(np.eye(4, dtype=np.uint8), np.ones((10, 10), np.uint8))},
    )
    for position in range(6):
        item = stream[position]
        inside = item["label"] != 255
        agree = (item["image"][0] > 0.5) == (item["label"] == 1)
        assert agree[inside].float().mean() > 0.9
        if scale[0] < 1:  # the picture is 20 wide, the crop 49: filled around it
            assert inside.sum() == 400
            assert torch.equal(item["image"][:, ~inside], torch.full((3, int((~inside).sum())), 0.5))
