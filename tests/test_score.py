import numpy as np
import pandas as pd
import pytest
from tiny_run import CLASSES, TRUTH, TinyRun, make_run

from ecsnet import score
from ecsnet.errors import UserError
from ecsnet.palette import write_mask
from ecsnet.scoring import ScoreRecord, all_pixels, read_image_counts, read_score
from ecsnet.settings import Score
from ecsnet.store import ShardWriter

BACKGROUND, CATS, DOGS = 21, 7, 6
SCORED = 34
"""Pixels of the true masks, counted by hand."""


@pytest.fixture
def run(tmp_path) -> TinyRun:
    return make_run(tmp_path)


def score_run(run: TinyRun, what: str, source, settings=None, **more) -> ScoreRecord:
    out = run.folder / "score" / f"{what}.json"
    arguments = {
        "what": what, "split": "train", "source": source, "truth": run.truth, "classes": run.classes,
        "root": run.root, "out": out, "out_confusion": out.with_name(f"{what}_confusion.csv"),
        "out_counts": out.with_name(f"{what}_counts.npz"), **more,
    }  # fmt: skip
    score.run(settings or Score(), **arguments)
    return read_score(out)


def without_border(labels: dict) -> dict:
    return {image_id: np.where(label == 255, 0, label).astype(np.uint8) for image_id, label in labels.items()}


@pytest.mark.parametrize(("what", "stage"), [("cam_refined", "evidence"), ("ecs_labels", "ecs_labels")])
def test_labels_of_shards_that_equal_the_truth(run, what, stage):
    record = score_run(run, what, run.shards[stage])
    assert record.metrics == {"miou": 100, "coverage": 100, "accuracy_kept": 100}
    assert record.iou == {"background": 100, "cat": 100, "dog": 100, "cow": None}
    assert (record.what, record.split, record.images) == (what, "train", 3)


def test_labels_are_scored_at_the_picture_size_not_on_the_grid(run):
    with ShardWriter(run.folder / "coarse.npz") as shard:
        for image_id in TRUTH:
            shard.add(image_id, classes=np.array([1], np.uint8), cam_label=np.ones((1, 1), np.uint8))
    record = score_run(run, "cam_refined", [run.folder / "coarse.npz"])
    assert record.confusion == [[0, BACKGROUND, 0, 0], [0, CATS, 0, 0], [0, DOGS, 0, 0], [0, 0, 0, 0]]
    assert record.metrics["accuracy_kept"] == pytest.approx(100 * CATS / SCORED, abs=1e-4)


def test_cam_at_the_fixed_and_at_the_best_threshold(run):
    # the maps are 0.5 on objects, so that every threshold below finds them and none above
    record = score_run(run, "cam", run.shards["erase"], Score(cam_threshold=0.6))
    assert record.metrics == {
        "miou": round(100 * BACKGROUND / SCORED / 3, 4),  # all background: 0 for cat and dog
        "miou_best": 100,
        "best_threshold": 0.02,
        "coverage": 100,
        "accuracy_kept": 100,
    }
    assert record.iou == {"background": 100, "cat": 100, "dog": 100, "cow": None}
    assert np.diag(record.confusion).tolist() == [BACKGROUND, CATS, DOGS, 0]


def test_filtered_labels_by_hand(run):
    labels = without_border(TRUTH)
    labels["t2"][0] = [2, 2, 255, 255]
    labels["t2"][1] = [1, 255, 255, 255]
    record = score_run(run, "filtered_labels", [run.write_labels("filtered", labels)])
    assert record.metrics["coverage"] == pytest.approx(100 * (SCORED - 5) / SCORED, abs=1e-4)
    assert record.metrics["accuracy_kept"] == pytest.approx(100 * (SCORED - 6) / (SCORED - 5), abs=1e-4)
    # cat: 7 of 7, and one pixel too many; dog: 4 of 6, the two others as background; background: 20 of 21
    ious = {"background": 100 * 20 / 23, "cat": 100 * 7 / 8, "dog": 100 * 4 / 6}
    for name, value in ious.items():
        assert record.iou[name] == pytest.approx(value, abs=1e-4)
    assert record.metrics["miou"] == pytest.approx(sum(ious.values()) / 3, abs=1e-4)
    kept = (100 * 17 / 18 + 100 * 7 / 8 + 100) / 3
    assert record.metrics["miou_kept"] == pytest.approx(kept, abs=1e-4)


def test_confusion_table_names_the_classes(run):
    labels = without_border(TRUTH)
    labels["t3"][0, 0] = 3
    score_run(run, "val", [run.write_labels("predict", labels)])
    table = pd.read_csv(run.folder / "score" / "val_confusion.csv", index_col="truth")
    assert list(table.index) == list(table.columns) == ["background", *CLASSES]
    assert table.loc["cat", "cow"] == 1
    assert table.loc["cow", "cat"] == 0


def test_labels_for_ecs_net_with_what_the_noise_rule_ignores(run):
    record = score_run(run, "evidence", run.shards["evidence"])
    # the labels ignore what the truth ignores, and nothing else
    assert record.metrics == {"miou": 100, "miou_kept": 100, "coverage": 100, "accuracy_kept": 100}
    labels = {image_id: mask.copy() for image_id, mask in TRUTH.items()}
    labels["t2"][0, :2] = 255
    with ShardWriter(run.folder / "ignoring.npz") as shard:
        for image_id, label in labels.items():
            shard.add(image_id, label=label)
    record = score_run(run, "evidence", [run.folder / "ignoring.npz"])
    assert record.metrics["coverage"] == pytest.approx(100 * (SCORED - 2) / SCORED, abs=1e-4)
    assert record.metrics["accuracy_kept"] == record.metrics["miou_kept"] == 100
    assert record.iou["dog"] == pytest.approx(100 * 4 / 6, abs=1e-4)


def uneven_maps(run: TinyRun) -> list:
    """Maps with which every threshold gives other labels."""
    generator = np.random.default_rng(0)
    with ShardWriter(run.folder / "uneven.npz") as shard:
        for image_id, mask in TRUTH.items():
            present = np.array([1, 2], np.uint8)
            shard.add(image_id, classes=present, cam=generator.random((2, *mask.shape), np.float32))
    return [run.folder / "uneven.npz"]


def source_of(run: TinyRun, what: str) -> list:
    if what == "cam":
        return uneven_maps(run)
    stage = {"cam_refined": "evidence"}.get(what, what)
    if stage in run.shards:
        return run.shards[stage]
    labels = {**without_border(TRUTH), "t3": TRUTH["t3"][:, ::-1].copy()}
    return [run.write_labels(what, labels)]


@pytest.mark.parametrize("what", score.WHATS)
def test_counts_of_the_images_add_up_to_the_confusion_matrix(run, what):
    record = score_run(run, what, source_of(run, what))
    counts = read_image_counts(run.folder / "score" / f"{what}_counts.npz")
    assert (counts.split, counts.ids) == ("train", ["t1", "t2", "t3"])
    assert counts.counts.dtype == np.int32
    assert counts.counts.shape == (3, len(CLASSES) + 1, len(CLASSES) + 2)
    assert all_pixels(counts.counts.sum(0)).tolist() == record.confusion
    for image_id, one in zip(counts.ids, counts.counts, strict=True):
        truth = TRUTH[image_id][TRUTH[image_id] != 255]
        assert one.sum(1).tolist() == np.bincount(truth, minlength=4).tolist()


def test_damaged_counts_are_named(run):
    score_run(run, "cam", run.shards["erase"])
    path = run.folder / "score" / "cam_counts.npz"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match=r"cam_counts\.npz: damaged or cut off"):
        read_image_counts(path)


@pytest.mark.parametrize("what", ["cam", "filtered_labels"])
def test_any_number_of_threads_gives_the_same_bytes(run, what):
    source = run.shards["erase"] if what == "cam" else [run.write_labels("filtered", TRUTH)]
    texts = []
    for threads in (1, 2, 7):
        score_run(run, what, source, threads=threads)
        files = sorted((run.folder / "score").glob(f"{what}*"))
        texts.append(tuple(file.read_bytes() for file in files))
        assert len(files) == 3
    assert len(set(texts)) == 1


def test_every_image_without_a_label_is_named(run):
    source = run.write_labels("filtered", {"t2": TRUTH["t2"]})
    with pytest.raises(UserError) as error:
        score_run(run, "filtered_labels", [source])
    assert "image t1: has a true mask" in str(error.value)
    assert "image t3: has a true mask" in str(error.value)
    assert "score.train_list" in str(error.value)
    assert not (run.folder / "score").exists()


def test_images_without_truth_are_not_scored(run):
    labels = without_border(TRUTH) | {"other": np.full((9, 9), 3, np.uint8)}
    assert score_run(run, "filtered_labels", [run.write_labels("filtered", labels)]).images == 3


def test_every_label_that_cannot_be_scored_is_named(run):
    labels = without_border(TRUTH)
    labels["t1"] = labels["t1"][:2]
    labels["t3"] = labels["t3"] + np.uint8(2)
    source = run.write_labels("predict", labels)
    write_mask(run.folder / "predict" / "t2.png", labels["t2"].T.copy())
    with pytest.raises(UserError) as error:
        score_run(run, "val", [source], threads=2)
    lines = str(error.value).splitlines()
    assert "image t1: the label is 5×2 pixels, its true mask 5×3" in lines[1]
    assert "predict/t2.png: was changed after the stage wrote" in lines[2]
    assert "image t3: the label has the value 4" in lines[3]
    assert not (run.folder / "score").exists()


def test_deleted_label_is_named(run):
    source = run.write_labels("predict", without_border(TRUTH))
    (run.folder / "predict" / "t2.png").unlink()
    with pytest.raises(UserError, match=r"t2\.png: No such file or directory, but .*predict\.csv lists it"):
        score_run(run, "val", [source])


def test_changed_truth_is_named(run):
    write_mask(run.root / "SegmentationClass" / "t1.png", np.zeros((3, 5), np.uint8))
    with pytest.raises(UserError, match=r"t1\.png: was changed after the stage wrote"):
        score_run(run, "val", [run.write_labels("predict", without_border(TRUTH))])


def test_no_pixel_to_score(run):
    run.truth.write_text(run.truth.read_text().splitlines()[0] + "\n")
    with pytest.raises(UserError, match="no pixel to score"):
        score_run(run, "cam", run.shards["erase"])
