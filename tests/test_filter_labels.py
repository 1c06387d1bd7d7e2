import numpy as np
import pandas as pd
import pytest

from ecsnet.filter_labels import BINS, class_thresholds, reliable, run
from ecsnet.palette import IGNORE, read_mask
from ecsnet.settings import FilterLabels
from ecsnet.store import ShardWriter
from ecsnet.tables import ImageRecord, read_labels, write_classes, write_images

OFF = {"drop_share": 0.0, "agreement": 1.0, "speck": 0.0, "drop_image": False}


def scores_of(best, confidence):
    """Scores [2, h, w] whose best is the given label (0 or 1) with the given confidence."""
    best, confidence = np.array(best), np.array(confidence, np.float32)
    return np.stack(
        [np.where(best == 0, confidence, 1 - confidence), np.where(best == 1, confidence, 1 - confidence)]
    )


def test_thresholds_are_each_classes_own_quantile():
    histogram = np.zeros((3, BINS), int)
    histogram[0, 900:1000] = 1  # background: confidence 0.900 … 0.999
    histogram[1, 500:600] = 1
    settings = FilterLabels(drop_share=0.25)
    # a quarter of each class's 100 cells lies below; a class without cells loses nothing
    assert class_thresholds(histogram, settings).tolist() == [925, 525, 1000]
    assert class_thresholds(histogram, FilterLabels(drop_share=0.25, min_confidence=0.6))[1] == 600


def test_no_share_dropped_keeps_every_cell():
    histogram = np.zeros((1, BINS), int)
    histogram[0, 700] = 5
    assert class_thresholds(histogram, FilterLabels(drop_share=0.0))[0] == 700


def test_a_confidence_of_one_passes_every_floor():
    histogram = np.zeros((1, BINS), int)
    histogram[0, [500, BINS - 1]] = 5  # the last bin holds 1
    assert class_thresholds(histogram, FilterLabels(drop_share=0.0, min_confidence=1.0))[0] == BINS - 1


def test_each_rule_takes_its_pixels_and_they_add_up():
    best = [[0, 0, 0, 1], [0, 0, 1, 1], [0, 0, 1, 1], [1, 0, 0, 0]]
    confidence = np.full((4, 4), 0.9)
    confidence[0, 0] = 0.55  # below the threshold
    evidence = scores_of(best, np.full((4, 4), 0.9))
    evidence[:, 1, 3] = [0.95, 0.05]  # the evidence is sure of background, the label says 1
    settings = FilterLabels(drop_share=0, agreement=0.8, speck=0.1, drop_image=False)
    labels, taken = reliable(
        scores_of(best, confidence), np.array([1]), evidence, np.array([600, 600]), settings
    )
    assert {rule: int(mask.sum()) for rule, mask in taken.items()} == {
        "confidence": 1,
        "agreement": 1,
        "speck": 1,
    }
    assert [labels[0, 0], labels[1, 3], labels[3, 0]] == [IGNORE] * 3
    assert (labels == IGNORE).sum() == 3


def test_rules_can_be_switched_off():
    generator = np.random.default_rng(0)
    scores, evidence = generator.random((2, 3, 8, 8))
    labels, taken = reliable(scores, np.array([1, 2]), evidence, np.zeros(3), FilterLabels(**OFF))
    assert not any(mask.any() for mask in taken.values())
    assert IGNORE not in labels


@pytest.fixture
def stage(tmp_path):
    """Two images in two shards: one sure of its cat, one whose dog is lost in doubt."""
    names = ["cat", "dog"]
    records = [ImageRecord(f"{name}_1", "", 8, 6, (tag,), "") for tag, name in enumerate(names, 1)]
    write_classes(tmp_path / "classes.txt", names)
    write_images(tmp_path / "train.csv", records, names)
    best = np.zeros((3, 4), int)
    best[:, 2:] = 1
    doubt = np.where(best == 1, 0.55, 0.9)
    for index, confidence in enumerate([np.full((3, 4), 0.9), doubt], 1):
        arrays = {"scores": scores_of(best, confidence), "classes": np.array([index], np.uint8)}
        with ShardWriter(tmp_path / f"{index}.npz") as writer:
            writer.add(records[index - 1].id, **arrays)
    shards = [tmp_path / "1.npz", tmp_path / "2.npz"]

    def call(**settings):
        out, kept = tmp_path / "filter_labels.csv", tmp_path / "kept.csv"
        run(
            FilterLabels(**{**OFF, **settings}),
            images=tmp_path / "train.csv",
            classes=tmp_path / "classes.txt",
            labels=shards,
            evidence=shards,
            out=out,
            kept=kept,
            threads=2,
        )
        return read_labels(out)

    return tmp_path, call


def test_the_stage_writes_palette_pngs_of_the_pictures_size(stage):
    folder, call = stage
    records = call()
    assert [record.label for record in records] == ["filter_labels/cat_1.png", "filter_labels/dog_1.png"]
    mask = read_mask(folder / records[1].label)
    assert mask.shape == (6, 8)
    assert set(np.unique(mask)) == {0, 2}
    assert not any(record.dropped for record in records)


def test_an_image_without_a_reliable_pixel_of_a_tag_is_dropped_whole(stage):
    folder, call = stage
    records = call(min_confidence=0.6, drop_image=True)
    assert [record.dropped for record in records] == ["", "no reliable pixel of dog"]
    assert (read_mask(folder / records[1].label) == IGNORE).all()
    kept = call(min_confidence=0.6)[1]
    assert not kept.dropped
    assert set(np.unique(read_mask(folder / kept.label))) == {0, IGNORE}


def test_labels_of_images_that_left_the_data_set_are_removed(stage):
    folder, call = stage
    (folder / "filter_labels").mkdir()
    (folder / "filter_labels" / "gone.png").touch()
    call()
    assert sorted(path.name for path in (folder / "filter_labels").iterdir()) == ["cat_1.png", "dog_1.png"]


def test_the_table_by_class(stage):
    folder, call = stage
    call(min_confidence=0.6)
    table = pd.read_csv(folder / "kept.csv", index_col="class")
    assert table.loc["dog"].to_dict() == {"labelled_cells": 6, "threshold": 0.6, "confident_share": 0}
    assert table.loc["cat", "confident_share"] == 1
