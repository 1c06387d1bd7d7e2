import numpy as np
import pytest
from PIL import Image
from tiny_run import TRUTH, make_run, write_counts, write_filtered, write_history, write_kept

from ecsnet import figures, plots
from ecsnet.errors import UserError
from ecsnet.scoring import make_record
from ecsnet.settings import Figures
from ecsnet.tables import ImageRecord

NAMES = ("panels", "predictions", "curves", "iou", "confusion", "filter", "examples")


def draw(run, settings=None, **more):
    """Draw a run's figures, its training images standing in for the validation images."""
    predictions = run.write_labels(
        "predict", {key: np.where(mask == 255, 0, mask) for key, mask in TRUTH.items()}
    )
    arguments = {
        "images": run.images, "val_images": run.images, "classes": run.classes, "root": run.root,
        **run.shards,
        "filtered": write_filtered(run), "kept": write_kept(run.folder / "kept.csv"),
        "predictions": predictions, "truth": run.truth, "val_truth": run.truth, "scores": [],
        "val_counts": write_counts(run),
        "histories": [write_history(run.folder / name) for name in ("train_cam", "train_ecs/round1")],
        "out": run.folder / "figures", **more,
    }  # fmt: skip
    figures.run(settings or Figures(), **arguments)
    return {name: Image.open(run.folder / "figures" / f"{name}.png") for name in NAMES}


def score_file(run, what, split):
    record = make_record(what, split, 3, {"miou": 50.0}, np.eye(4, dtype=int) * 5, ["cat", "dog", "cow"])
    path = run.folder / f"{what}.json"
    path.write_text(record.to_json())
    return path


def pictures_below(sheet: Image.Image, column: int, box: tuple[int, int]) -> int:
    """Number of pictures below each other: runs of lines that are not white in a column's middle."""
    middle = plots.GAP + column * (box[0] + plots.GAP) + box[0] // 2
    dark = np.asarray(sheet)[plots.HEAD :, middle].min(1) < 255
    return int(np.sum(np.diff(dark.astype(int), prepend=0) == 1))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("run"))
    return draw(run, scores=[score_file(run, "val", "val"), score_file(run, "cam", "train")])


def test_a_row_of_eight_pictures_for_each_training_image(drawn):
    box = figures.PANEL_BOX
    assert drawn["panels"].width == 8 * (box[0] + plots.GAP) + plots.GAP
    # columns that captions do not reach and that have no white hatching
    assert [pictures_below(drawn["panels"], column, box) for column in (3, 4)] == [3, 3]


def test_predictions_stand_two_beside_each_other(drawn):
    box = figures.PREDICTION_BOX
    assert drawn["predictions"].width == 2 * (3 * (box[0] + plots.GAP) + plots.GAP)
    assert pictures_below(drawn["predictions"], 2, box) == 2


@pytest.mark.parametrize("name", NAMES)
def test_pictures_are_not_blank(drawn, name):
    assert drawn[name].mode == "RGB"
    assert np.asarray(drawn[name]).std() > 5


def test_number_of_images_is_as_set(tmp_path):
    sheets = draw(make_run(tmp_path), Figures(panels=2, columns=1))
    assert pictures_below(sheets["panels"], 3, figures.PANEL_BOX) == 2
    assert pictures_below(sheets["predictions"], 2, figures.PREDICTION_BOX) == 1


def test_without_truth_nothing_is_missing_but_its_column(tmp_path):
    sheets = draw(make_run(tmp_path), truth=None, val_truth=None, val_counts=None)
    assert sheets["panels"].width == 7 * (figures.PANEL_BOX[0] + plots.GAP) + plots.GAP
    notes = [sheets[name].size for name in ("iou", "confusion", "examples")]
    assert notes == [(500, 100)] * 3  # that nothing is scored


def test_without_ecs_net_its_labels_have_no_column(tmp_path):
    sheets = draw(make_run(tmp_path), ecs_labels=None)
    assert sheets["panels"].width == 7 * (figures.PANEL_BOX[0] + plots.GAP) + plots.GAP


def test_same_bytes_again(tmp_path):
    run = make_run(tmp_path)
    draw(run)
    first = {name: (tmp_path / "figures" / f"{name}.png").read_bytes() for name in NAMES}
    draw(run)
    assert first == {name: (tmp_path / "figures" / f"{name}.png").read_bytes() for name in NAMES}


def record(image_id: str, *tags: int) -> ImageRecord:
    return ImageRecord(image_id, f"{image_id}.jpg", 4, 3, tags, "0")


def test_classes_take_turns():
    records = [
        record("a", 1),
        record("b", 1),
        record("c", 1, 2),
        record("d", 1),
        record("e", 3),
        record("f", 2),
    ]
    chosen = [item.id for item in figures.spread(records, 5)]
    assert chosen == ["a", "c", "e", "b", "f"]
    assert [item.id for item in figures.spread(records, 99)] == ["a", "c", "e", "b", "f", "d"]
    assert figures.spread([], 5) == []


def test_histories_are_called_after_their_stages(tmp_path):
    paths = [
        write_history(tmp_path / "run" / name)
        for name in ("train_cam", "train_ecs/round1", "train_ecs/round2")
    ]
    assert list(figures.read_histories(paths)) == ["train_cam", "train_ecs, round1", "train_ecs, round2"]
    assert list(figures.read_histories(paths[:1])) == ["train_cam"]


def test_unreadable_history(tmp_path):
    with pytest.raises(UserError, match=r"history\.csv: not a readable history"):
        figures.read_histories([tmp_path / "train_cam" / "history.csv"])


def test_overlays_by_hand():
    photo = np.full((2, 2, 3), 100, np.uint8)
    labels = np.array([[0, 1], [1, 255]], np.uint8)
    colored = plots.label_overlay(photo, labels)
    assert colored[0, 0].tolist() == [165, 165, 165]  # half of the grey, lightened
    assert colored[0, 1].tolist() == [30 + int(0.7 * 128), 30, 30]  # aeroplane's dark red
    assert colored[1, 1].tolist() == [255, 255, 255]
    erased = plots.erased_picture(photo, np.array([[True, False], [False, False]]))
    assert erased[0, 0].tolist() == plots.MEAN_COLOR.tolist()
    assert erased[1, 1].tolist() == [100, 100, 100]
    heat = plots.heat_overlay(photo, np.array([[0.0, 1.0], [0.0, 0.0]])).sum(2)
    assert heat[0, 1] > heat[0, 0]
