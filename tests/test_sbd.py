"""SBD's masks: what is none is named, and a reader that crashes takes nothing with it."""

import io

import numpy as np
import pytest
from scipy.io import savemat
from voc_archives import mask_of, sbd_mat

from ecsnet import sbd
from ecsnet.errors import UserError
from ecsnet.palette import read_mask


def nested(depth):
    """A MATLAB file with tables in tables: scipy's reader overruns its stack."""
    word = lambda *numbers: b"".join(number.to_bytes(4, "little") for number in numbers)  # noqa: E731
    levels = []
    for level in range(depth):
        name = word(1, 5) + b"GTcls\0\0\0" if level == 0 else word(1, 0)
        size = 40 + 48 * (depth - level - 1) + (8 if level == 0 else 0)
        levels.append(word(14, size, 6, 8, 1, 0, 5, 8, 1, 1) + name)
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM" + b"".join(levels)


def saved(value):
    stream = io.BytesIO()
    savemat(stream, value)
    return stream.getvalue()


NO_MASKS = {
    "empty": b"",
    "text": b"no MATLAB file",
    "cut": sbd_mat(mask_of(0))[:200],
    "other name": saved({"GT": {"Segmentation": mask_of(0)}}),
    "no table": saved({"GTcls": mask_of(0)}),
    "no segmentation": saved({"GTcls": {"Boundaries": mask_of(0)}}),
    "real numbers": saved({"GTcls": {"Segmentation": mask_of(0) / 2}}),
    "three dimensions": saved({"GTcls": {"Segmentation": np.zeros((2, 2, 2), np.uint8)}}),
    "no pixel": saved({"GTcls": {"Segmentation": np.zeros((0, 2), np.uint8)}}),
    "other classes": saved({"GTcls": {"Segmentation": np.full((2, 2), 21, np.uint8)}}),
    "objects": saved({"GTcls": {"Segmentation": np.array([["a", 1.0]], dtype=object)}}),
    "large": bytes(sbd.MAX_BYTES + 1),
    "pickle": b"\x80\x04\x95\x00",
}


@pytest.mark.parametrize("content", NO_MASKS.values(), ids=NO_MASKS)
def test_what_is_no_mask_is_named(content, tmp_path):
    (tmp_path / "b1.mat").write_bytes(content)
    with pytest.raises(UserError, match=r"b1\.mat of SBD's archive is no class mask \(.+\); take"):
        sbd.read_class_mask(tmp_path / "b1.mat")


def write(tmp_path, **contents):
    for name, content in contents.items():
        (tmp_path / f"{name}.mat").write_bytes(content)
    return [(tmp_path / f"{name}.mat", tmp_path / f"{name}.png") for name in contents]


def test_masks_become_palette_pngs(tmp_path):
    sbd.convert(write(tmp_path, b1=sbd_mat(mask_of(0)), b2=sbd_mat(mask_of(1))))
    for number, name in enumerate(["b1", "b2"]):
        assert np.array_equal(read_mask(tmp_path / f"{name}.png"), mask_of(number))
    sbd.convert([])


def test_a_mask_that_crashes_its_reader_is_named(tmp_path):
    content = nested(20_000)
    assert len(content) < sbd.MAX_BYTES
    jobs = write(tmp_path, b1=sbd_mat(mask_of(0)), b2=content, b3=sbd_mat(mask_of(0)))
    with pytest.raises(
        UserError, match=r"b2\.mat of SBD's archive is no class mask \(its reader ended with .*-11"
    ):
        sbd.convert(jobs)
    assert [target.exists() for _, target in jobs] == [True, False, False]


def test_the_first_that_is_none_is_named(tmp_path):
    with pytest.raises(UserError, match=r"b2\.mat of SBD's archive is no class mask"):
        sbd.convert(write(tmp_path, b1=sbd_mat(mask_of(0)), b2=b"nothing"))
