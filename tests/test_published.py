import dataclasses

from conftest import REPOSITORY

from ecsnet.published import METHODS, TRAIN, TRAINAUG, VAL, differences
from ecsnet.settings import Config, Dataset

SCORED = {"cam": TRAIN, "filtered_labels": TRAIN, "val": VAL, "supervised": VAL}


def test_the_protocol_itself_may_be_compared():
    assert differences(Config(), TRAINAUG, SCORED) == []


def test_lists_that_others_made_of_trainaug_count_as_it():
    config = dataclasses.replace(Config(), dataset=Dataset(train_list="lists/train_aug.txt"))
    assert differences(config, TRAINAUG, SCORED) == []


def test_every_difference_is_named():
    assert differences(Config(), 321, SCORED) == [
        "it learned from 321 images, not from the 10582 of trainaug"
    ]
    found = differences(Config(), TRAINAUG, {**SCORED, "cam": 321, "val": 123})
    assert found == ["scored on 321 images, not on 1464: cam", "scored on 123 images, not on 1449: val"]
    found = differences(Config(), TRAINAUG, dict.fromkeys(SCORED, 9))
    assert found[0] == "scored on 9 images, not on 1464: cam, filtered_labels"
    demo = dataclasses.replace(Config(), dataset=Dataset(kind="demo"))
    assert differences(demo, TRAINAUG, SCORED) == ["it is not of PASCAL VOC's classes and pictures"]
    assert differences(Config(), TRAINAUG, {}) == ["nothing of it is scored, for want of true masks"]


def test_other_lists_and_masks_of_the_right_size_are_named():
    config = Config()
    config = dataclasses.replace(
        config,
        dataset=dataclasses.replace(config.dataset, train_list="lists/mine.txt"),
        score=dataclasses.replace(config.score, train_list="half", train_masks="SegmentationClassAug"),
    )
    assert differences(config, TRAINAUG, SCORED) == [
        "it learned from as many images as trainaug has, but of lists/mine.txt",
        "scored on as many images as train has, but of half",
        "scored on train with the masks of SegmentationClassAug, not with VOC's SegmentationClass",
    ]


def test_the_papers_ratio():
    [ours] = [one for one in METHODS if one.method.startswith("ECS-Net")]
    assert round(ours.val / METHODS[-1].val, 3) == 0.853


def test_the_document_has_the_table():
    text = (REPOSITORY / "docs" / "method.md").read_text(encoding="utf-8")
    for method in METHODS:
        numbers = (method.cam, method.labels, method.val, method.test)
        values = ["–" if number is None else f"{number:.1f}" for number in numbers]
        assert f"\n| {method.method} | {method.network} | {' | '.join(values)} |\n" in text
