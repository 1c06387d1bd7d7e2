import numpy as np
import pytest
from bad_files import flat_grey
from PIL import Image

from ecsnet.errors import UserError
from ecsnet.palette import IGNORE, read_mask, remove_others, voc_palette, write_mask


def test_the_palette_is_vocs():
    palette = np.array(voc_palette()).reshape(256, 3)
    assert palette[[0, 1, 2, 3, 8, 15, 20, 255]].tolist() == [
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [128, 128, 0],
        [64, 0, 0],
        [192, 128, 128],
        [0, 64, 128],
        [224, 224, 192],
    ]


def test_masks_come_back_as_palette_pictures(tmp_path):
    labels = np.array([[0, 1, 20], [255, 15, 7]], np.uint8)
    write_mask(tmp_path / "mask.png", labels)
    assert np.array_equal(read_mask(tmp_path / "mask.png"), labels)
    with Image.open(tmp_path / "mask.png") as picture:
        assert picture.mode == "P"
        assert picture.convert("RGB").getpixel((0, 1)) == (224, 224, 192)
    assert IGNORE == 255


def test_grey_masks_are_read(tmp_path):
    Image.fromarray(np.full((2, 2), 7, np.uint8)).save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png").tolist() == [[7, 7], [7, 7]]


def test_an_rgb_picture_is_no_mask(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "mask.png")
    with pytest.raises(UserError, match=r"this is a RGB picture, but a mask holds one class.*; convert it"):
        read_mask(tmp_path / "mask.png")


def test_an_absent_mask_is_named(tmp_path):
    with pytest.raises(UserError, match=r"mask\.png: no such mask; rerun the stage that writes it"):
        read_mask(tmp_path / "mask.png")


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_grey_mask_of_few_bits_is_refused_and_not_stretched(tmp_path, depth):
    (tmp_path / "mask.png").write_bytes(flat_grey(4, 3, depth, 1))
    with pytest.raises(UserError, match=r"mask\.png: (is a|this is a) .*(save|convert) it"):
        read_mask(tmp_path / "mask.png")


def test_masks_of_other_images_are_removed(tmp_path):
    for name in ("a.png", "b.png", "kept.csv"):
        (tmp_path / name).touch()
    remove_others(tmp_path, {"a"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "kept.csv"]
