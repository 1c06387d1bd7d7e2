import io
import tarfile

import numpy as np
import pytest
from PIL import Image
from tiny_run import TRUTH, make_run

from ecsnet import submission
from ecsnet.errors import UserError
from ecsnet.packing import pack
from ecsnet.palette import voc_palette
from ecsnet.settings import VOC_CLASSES, Submission
from ecsnet.submission import check, run
from ecsnet.tables import write_classes

FOLDER = "results/VOC2012/Segmentation/comp6_test_cls"
LABELS = {image_id: np.where(mask == 255, 0, mask) for image_id, mask in reversed(TRUTH.items())}
SIZES = {image_id: mask.shape[::-1] for image_id, mask in TRUTH.items()}


@pytest.fixture
def tiny(tmp_path):
    """A tiny run with predictions of all its images."""
    tiny = make_run(tmp_path)
    tiny.write_labels("predict", LABELS)
    return tiny


def submit(tiny, out="submission.tar.gz", classes=None, **settings):
    run(
        Submission(**settings), images=tiny.images, classes=classes or tiny.classes,
        predictions=tiny.folder / "predict.csv", out=tiny.folder / out,
    )  # fmt: skip
    with tarfile.open(tiny.folder / out, "r:gz") as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


def test_the_archive_is_as_the_server_wants_it(tiny, capsys):
    members = submit(tiny)
    assert list(members) == [f"{FOLDER}/{image_id}.png" for image_id in ("t1", "t2", "t3")]
    for image_id, label in LABELS.items():
        with Image.open(io.BytesIO(members[f"{FOLDER}/{image_id}.png"])) as picture:
            assert (picture.mode, picture.getpalette()) == ("P", voc_palette())
            assert np.array_equal(np.array(picture), label)
    said = capsys.readouterr().out
    assert "warning: the classes are not VOC's" in said
    assert "submission: 3 predictions in " in said
    assert next(iter(submit(tiny, competition="comp5"))).startswith(
        "results/VOC2012/Segmentation/comp5_test_cls/"
    )


def test_the_same_predictions_give_the_same_bytes(tiny):
    submit(tiny, "a.tar.gz")
    tiny.write_labels("predict", dict(reversed(LABELS.items())))
    submit(tiny, "b.tar.gz")
    assert (tiny.folder / "a.tar.gz").read_bytes() == (tiny.folder / "b.tar.gz").read_bytes()


def test_vocs_own_classes_and_test_images_bring_no_warning(tiny, capsys, monkeypatch):
    write_classes(tiny.folder / "voc.txt", VOC_CLASSES)
    table = tiny.images.read_text()
    tiny.images.write_text(table.replace("cow", "cat").replace("dog", "cat"))
    submit(tiny, classes=tiny.folder / "voc.txt")
    said = capsys.readouterr().out
    assert "VOC's server scores the 1,456 images of its list test; these are 3 images of test" in said
    monkeypatch.setattr(submission, "TEST", 3)
    submit(tiny, classes=tiny.folder / "voc.txt")
    assert "warning" not in capsys.readouterr().out


def test_predictions_of_other_images_are_refused(tiny):
    tiny.write_labels("predict", {"t1": LABELS["t1"]})
    with pytest.raises(
        UserError, match=r"predict\.csv is not of the test images; delete it(.|\n)*t2: has no"
    ):
        submit(tiny)


def test_an_ignored_pixel_is_refused_and_no_archive_stays(tiny):
    tiny.write_labels("predict", TRUTH)
    with pytest.raises(UserError, match=r"t1\.png has the value 255, but 3 is the last class"):
        submit(tiny)
    assert not list(tiny.folder.glob("*submission*"))


def png(label, mode="P", palette=None):
    picture = Image.fromarray(label)
    if mode == "P":
        picture.putpalette(palette or voc_palette())
    content = io.BytesIO()
    picture.convert(mode).save(content, "PNG")
    return content.getvalue()


def tampered(**changes):
    """The files of a right archive but for some; None leaves one out."""
    files = {f"{FOLDER}/{image_id}.png": png(label) for image_id, label in LABELS.items()}
    files |= {f"{FOLDER}/{name}.png": content for name, content in changes.items()}
    return [(name, content) for name, content in files.items() if content is not None]


GREY = [value for index in range(256) for value in (index, index, index)]
ELSEWHERE = [(name.replace("comp6", "comp5"), content) for name, content in tampered()]
FLAT = [(name.rpartition("/")[2], content) for name, content in tampered()]
TAMPERED = {
    "missing": (tampered(t2=None), "t2.png is missing"),
    "stray": (tampered(t4=png(LABELS["t1"])), "t4.png is of no image on the list"),
    "elsewhere": (ELSEWHERE, f"comp5_test_cls/t1.png should be {FOLDER}/t1.png"),
    "flat": (FLAT, f"t3.png should be {FOLDER}/t3.png"),
    "twice": (tampered() * 2, "t3.png is there twice"),
    "grey": (tampered(t1=png(LABELS["t1"], "L")), "t1.png has the pixel format L, without a palette"),
    "colours": (tampered(t1=png(LABELS["t1"], "RGB")), "t1.png has the pixel format RGB, without a palette"),
    "other palette": (tampered(t1=png(LABELS["t1"], palette=GREY)), "t1.png has another palette than VOC's"),
    "size": (tampered(t1=png(LABELS["t2"])), "t1.png has 4×4 pixels, but its picture has 5×3"),
    "no class": (tampered(t1=png(LABELS["t1"] * 4)), "t1.png has the value 4, but 3 is the last class"),
    "no picture": (tampered(t1=b"GIF89a"), "t1.png is no PNG picture"),
    "cut off": (tampered(t1=png(LABELS["t1"])[:-30]), "t1.png is damaged or cut off"),
}  # fmt: skip


@pytest.mark.parametrize(("files", "message"), TAMPERED.values(), ids=TAMPERED)
def test_a_tampered_archive_is_found(files, message, tmp_path):
    pack(tmp_path / "a.tar.gz", files)
    with pytest.raises(UserError) as caught:
        check(tmp_path / "a.tar.gz", FOLDER, SIZES, 3)
    assert str(caught.value).startswith("VOC's server would not take the archive")
    assert message in str(caught.value)


def test_an_archive_that_is_cut_off_is_found(tmp_path):
    pack(tmp_path / "a.tar.gz", tampered())
    check(tmp_path / "a.tar.gz", FOLDER, SIZES, 3)
    content = (tmp_path / "a.tar.gz").read_bytes()
    (tmp_path / "a.tar.gz").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="damaged, or no tar archive"):
        check(tmp_path / "a.tar.gz", FOLDER, SIZES, 3)
