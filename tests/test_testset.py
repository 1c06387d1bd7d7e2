import dataclasses

import pytest
from voc_folder import make_voc, write_list, write_picture

from ecsnet.errors import UserError
from ecsnet.settings import Dataset
from ecsnet.testset import require_images


@pytest.fixture
def voc(tmp_path):
    return make_voc(tmp_path / "voc")


def complaint(dataset, test_list="test"):
    with pytest.raises(UserError) as caught:
        require_images(dataset, test_list)
    return str(caught.value)


def test_images_without_tags_are_enough(voc, tmp_path):
    write_list(tmp_path / "voc", "test", "x1\nx2\n")
    for name in ("x1", "x2"):
        write_picture(tmp_path / "voc/JPEGImages" / f"{name}.jpg")
    require_images(voc, "test")
    require_images(voc, str(tmp_path / "voc/ImageSets/Segmentation/test.txt"))


def test_a_missing_list_and_missing_pictures_are_one_message_with_the_remedy(voc, tmp_path):
    text = complaint(voc)
    assert text.startswith(
        f"submission.test_list: there is no {tmp_path}/voc/ImageSets/Segmentation/test.txt. "
    )
    write_list(tmp_path / "voc", "test", "v1\nx1\nx2\n")
    other = complaint(voc)
    assert "2 of the 3 images of " in other
    assert "(x1 is one)" in other
    for message in (text, other):
        assert "VOC2012test.tar" in message
        assert "http://host.robots.ox.ac.uk:8080" in message
        assert "\n" not in message


def test_a_list_with_mistakes_is_told(voc, tmp_path):
    write_list(tmp_path / "voc", "test", "x1.jpg\n")
    assert "write it without" in complaint(voc)


def test_photographs_of_ones_own_and_the_demo():
    assert "masks of your photographs" in complaint(Dataset(kind="folder"))
    demo = Dataset(kind="demo", train_list="train", val_list="val")
    assert complaint(demo) == "submission.test_list: test, but the demo has the lists train and val alone"
    require_images(demo, "val")
    assert "there is no" in complaint(dataclasses.replace(demo, kind="voc", root="nowhere"), "val")
