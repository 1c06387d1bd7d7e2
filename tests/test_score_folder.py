import json

import numpy as np
import pytest
from tiny_run import TRUTH, make_run

from ecsnet import cli, score
from ecsnet.palette import write_mask
from ecsnet.settings import Score


@pytest.fixture
def place(tmp_path, monkeypatch):
    """True masks of three pictures, and labels of some method: t3 without its cat, t2 with a pixel of 255."""
    run = make_run(tmp_path / "run")
    given = {**TRUTH, "t3": np.where(TRUTH["t3"] == 1, 0, TRUTH["t3"])}
    given["t2"] = given["t2"].copy()
    given["t2"][0, 0] = 255
    for name, label in given.items():
        write_mask(tmp_path / "theirs" / f"{name}.png", label)
    run.write_labels("labels", given)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(capsys, *arguments, truth="run/data/SegmentationClass", classes="run/prepare/classes.txt"):
    status = cli.main(["score-folder", "theirs", "--truth", truth, "--classes", classes, *arguments])
    text = capsys.readouterr()
    return status, text.out if status == 0 else text.err


def test_scores_by_hand(place, capsys):
    status, text = told(capsys, "--out", "scores.json")
    assert status == 0
    # cat: 5 of 7 pixels; dog: 4 and 2 of the 6, one of them without a label; no picture has a cow
    lines = dict(line.rsplit(None, 1) for line in text.splitlines()[1:] if line)
    cat, dog, background = 100 * 5 / 7, 100 * 5 / 6, 100 * 21 / 24
    assert (float(lines["cat"]), float(lines["dog"])) == pytest.approx((cat, dog), abs=0.005)
    assert float(lines["background"]) == pytest.approx(background, abs=0.005)
    assert lines["cow"] == "–"
    assert float(lines["mIoU"]) == pytest.approx((cat + dog + background) / 3, abs=0.005)
    assert float(lines["pixels that have a label"]) == pytest.approx(100 * 33 / 34, abs=0.005)
    assert text.startswith("theirs on SegmentationClass, 3 images; IoU in percent\n")
    assert json.loads((place / "scores.json").read_text())["images"] == 3


def test_a_run_s_labels_score_alike(place, capsys):
    run = place / "run"
    score.run(
        Score(), what="filtered_labels", split="train", source=[run / "labels.csv"],
        truth=run / "check_masks" / "train.csv", classes=run / "prepare" / "classes.txt", root=run / "data",
        out=place / "a.json", out_confusion=place / "a.csv", out_counts=place / "a.npz",
    )  # fmt: skip
    told(capsys, "--out", "b.json")
    first, second = (json.loads((place / f"{name}.json").read_text()) for name in "ab")
    assert [first[key] for key in ("metrics", "iou", "confusion")] == [
        second[key] for key in ("metrics", "iou", "confusion")
    ]


def test_a_list_says_what_is_scored(place, capsys):
    (place / "mine").write_text("t2\nt1\n")
    status, text = told(capsys, "--list", "mine")
    assert status == 0
    assert text.startswith("theirs on mine, 2 images")
    (place / "mine").write_text("t2\nabsent\n")
    status, text = told(capsys, "--list", "mine")
    assert status == 1
    assert "image absent: run/data/SegmentationClass/absent.png: no such mask" in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"truth": "nowhere"}, "--truth: there is no folder nowhere"),
        ({"truth": "run"}, "there is no mask <id>.png in run"),
        ({"classes": "nothing.txt"}, "--classes: there is no file nothing.txt"),
    ],
)
def test_mistakes_are_told(place, capsys, options, words):
    status, text = told(capsys, **options)
    assert status == 1
    assert words in text
    assert "Traceback" not in text


def test_a_label_that_does_not_fit_is_named_and_so_are_all(place, capsys):
    write_mask(place / "theirs" / "t1.png", np.zeros((9, 9), np.uint8))
    write_mask(place / "theirs" / "t2.png", np.full((4, 4), 200, np.uint8))
    (place / "theirs" / "t3.png").unlink()
    status, text = told(capsys)
    assert status == 1
    assert "image t1: the label is 9×9 pixels, its true mask 5×3; make labels of the pictures' sizes" in text
    assert "image t2: the label has the value 200, but there are 3 classes; name them with --classes" in text
    assert "image t3: theirs/t3.png: no such mask" in text


def test_masks_without_a_pixel_to_score(place, capsys):
    write_mask(place / "ignored" / "t1.png", np.full((3, 5), 255, np.uint8))
    status, text = told(capsys, truth="ignored")
    assert (status, "no pixel to score" in text) == (1, True)
