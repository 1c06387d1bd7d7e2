"""The per-image stages on a few generated pictures and networks with random weights."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from stage_data import CLASSES, LAST, REFINE, make_chain, make_data, run_erase
from voc_folder import run_prepare

from ecsnet import ecs_labels, evidence, predict, train_ecs
from ecsnet.ahead import read_ahead
from ecsnet.errors import UserError
from ecsnet.grids import argmax_labels
from ecsnet.labels import label_values
from ecsnet.networks import Classifier, DeepLab, EcsNet, load_network
from ecsnet.palette import read_mask
from ecsnet.refine import refine, working_grid
from ecsnet.segmentation import probabilities
from ecsnet.settings import Dataset, EcsLabels, Evidence, Predict, Refine, Runtime, TrainEcs
from ecsnet.store import Shard, ShardReader
from ecsnet.tables import LabelTable, read_images, read_labels


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def chain(data):
    return make_chain(data)


def test_erase_stores_what_it_says(data, chain):
    reader = chain["erase"]
    for record in read_images(data / "train.csv", CLASSES):
        cam, erased, region = (reader.get(record.id, name) for name in ("cam", "erased_cam", "region"))
        count = len(record.tags)
        assert cam.shape == erased.shape == (count, 16, 24)
        assert (cam.dtype, region.dtype) == (np.float16, np.bool_)
        assert tuple(reader.get(record.id, "classes")) == record.tags
        assert cam.max((1, 2)) == pytest.approx(np.ones(count))
        assert 0 <= erased.min() <= erased.max() <= 1
        assert np.array_equal(region, cam.max(0) >= 0.5) or np.abs(cam.max(0) - 0.5).min() < 1e-3
        assert reader.get(record.id, "probability").shape == (2, count)


def test_maps_do_not_depend_on_shards_or_batches(data, chain, tmp_path):
    whole = chain["erase"]
    for shard in ("1/3", "2/3", "3/3"):
        part = run_erase(data, tmp_path / "part.npz", shard)
        for image_id in part.ids():
            assert np.array_equal(part.get(image_id, "cam"), whole.get(image_id, "cam"))
    batched = run_erase(data, tmp_path / "batched.npz", batch=3)
    assert batched.ids() == whole.ids()
    for image_id in whole.ids():
        difference = np.abs(batched.get(image_id, "cam").astype(float) - whole.get(image_id, "cam"))
        assert difference.max() <= 2e-3


def test_a_higher_threshold_erases_less(data, tmp_path):
    little = run_erase(data, tmp_path / "a.npz", threshold=0.9)
    much = run_erase(data, tmp_path / "b.npz", threshold=0.2)
    for image_id in little.ids():
        assert little.get(image_id, "region").sum() < much.get(image_id, "region").sum()


@pytest.mark.parametrize("name", ["evidence", "ecs_labels"])
def test_scores_are_probabilities_and_labels_follow_the_tags(data, chain, name):
    for record in read_images(data / "train.csv", CLASSES):
        scores, label = (chain[name].get(record.id, part) for part in ("scores", "label"))
        assert scores.shape == (1 + len(record.tags), 32, 48)
        assert scores.astype(float).sum(0) == pytest.approx(1, abs=5e-3)
        assert set(np.unique(label)) <= {0, *record.tags, 255}


def test_without_the_erased_map_evidence_is_the_cam(data, chain, tmp_path):
    settings = Evidence(refine=REFINE, erased=False, margin=0, speck=0)
    out = tmp_path / "evidence.npz"
    evidence.run(
        settings, images=data / "train.csv", classes=data / "classes.txt", root=data,
        weights=data / "classifier", maps=data / "erase.npz", shard=Shard(1, 1), out=out, **LAST,
    )  # fmt: skip
    reader = ShardReader([out])
    for image_id in reader.ids():
        assert np.array_equal(reader.get(image_id, "label"), reader.get(image_id, "cam_label"))
        assert np.array_equal(reader.get(image_id, "cam_label"), chain["evidence"].get(image_id, "cam_label"))
        # the baseline without ECS-Net filters the scores
        scores, classes = reader.get(image_id, "scores"), reader.get(image_id, "classes")
        assert (label_values(scores, classes) == reader.get(image_id, "cam_label")).mean() > 0.99  # float16


def train(data, out, round=1, weights="classifier", **settings):
    train_ecs.run(
        TrainEcs(**{"epochs": 1, "batch_size": 2, "crop_size": 65, "head_channels": 8, **settings}),
        images=data / "train.csv",
        root=data,
        weights=data / weights if isinstance(weights, str) else weights,
        labels=[data / "evidence.npz"],
        regions=[data / "erase.npz"],
        round=round,
        out=out / "weights",
        history=out / "history.csv",
        **LAST,
    )
    return (out / "history.csv").read_text().splitlines()[0]


@pytest.mark.parametrize(
    ("views", "terms"),
    [
        ("both", "tag_loss,image_loss,erased_loss"),
        ("image", "tag_loss,image_loss"),
        ("erased", "tag_loss,erased_loss"),
        ("either", "tag_loss,erased_loss"),
    ],
)
def test_ecs_net_trains_on_the_chosen_views(data, chain, tmp_path, views, terms):
    assert train(data, tmp_path, views=views) == f"epoch,step,learning_rate,loss,{terms}"
    assert load_network(tmp_path / "weights", EcsNet).spec["channels"] == 8


def test_a_later_round_starts_from_the_one_before(data, chain, tmp_path):
    train(data, tmp_path / "1")
    train(
        data, tmp_path / "2", round=2, weights=tmp_path / "1" / "weights", learning_rate=1e-8, head_factor=1
    )
    first, second = (load_network(tmp_path / name / "weights", EcsNet) for name in "12")
    assert torch.allclose(first.segmentation_head[0].weight, second.segmentation_head[0].weight, atol=1e-5)
    with pytest.raises(UserError, match="holds a network of kind EcsNet, but Classifier is needed"):
        train(data, tmp_path / "3", round=1, weights=tmp_path / "1" / "weights")


def test_ecs_net_starts_from_the_classifier(data):
    classifier = load_network(data / "classifier", Classifier)
    network = train_ecs.start_network(TrainEcs(head_channels=8), data / "classifier", 1)
    network = network.eval().to(memory_format=torch.channels_last)  # as load_network returns it
    images = torch.rand(1, 3, 65, 65)
    with torch.inference_mode():
        assert torch.equal(network(images), classifier(images))


def test_evidence_alone_or_prediction_alone(data, chain, tmp_path):
    """With weight 1 the labels' scores are the evidence's, refined once more."""
    settings = EcsLabels(scales=(1.0,), refine=Refine(rounds=0), evidence_weight=1.0)
    ecs_labels.run(
        settings, images=data / "train.csv", root=data, weights=data / "ecsnet",
        evidence=data / "evidence.npz", regions=data / "erase.npz", shard=Shard(1, 1),
        out=tmp_path / "labels.npz", **LAST,
    )  # fmt: skip
    reader = ShardReader([tmp_path / "labels.npz"])
    for image_id in reader.ids():
        assert np.array_equal(reader.get(image_id, "scores"), chain["evidence"].get(image_id, "scores"))


def run_predict(data, out, batch):
    predict.run(
        Predict(scales=(0.5, 1.0), refine=REFINE),
        images=data / "val.csv",
        root=data,
        weights=data / "deeplab",
        shard=Shard(1, 1),
        folder=out / "predict",
        out=out / "1.csv",
        runtime=Runtime(device="cpu", inference_batch=batch),
        threads=1,
    )
    return [read_mask(out / record.label) for record in read_labels(out / "1.csv")]


def test_predictions_are_of_the_pictures_size_whatever_the_batch(data, tmp_path):
    single, batched = run_predict(data, tmp_path / "1", 1), run_predict(data, tmp_path / "2", 2)
    for one, other in zip(single, batched, strict=True):
        assert one.shape == (64, 96)
        assert (one == other).mean() > 0.99


@pytest.fixture(scope="module")
def mixed(data, tmp_path_factory):
    """The data with every other picture standing upright."""
    folder = tmp_path_factory.mktemp("mixed")
    shutil.copytree(data, folder, dirs_exist_ok=True)
    for path in sorted((folder / "JPEGImages").glob("*.jpg"))[::2]:
        for turned in (path, folder / "SegmentationClass" / f"{path.stem}.png"):
            with Image.open(turned) as picture:
                picture.load()
            picture.transpose(Image.Transpose.ROTATE_90).save(turned)
    settings = Dataset(root=str(folder), train_list="train", val_list="val", classes=tuple(CLASSES))
    run_prepare(settings, folder)
    return folder


def test_pictures_of_several_shapes_in_batches_keep_their_results(mixed, tmp_path):
    alone = run_erase(mixed, tmp_path / "alone.npz")
    batched = run_erase(mixed, tmp_path / "batched.npz", batch=2)
    assert sorted(batched.ids()) == sorted(alone.ids())
    for image_id in alone.ids():
        for name in ("cam", "erased_cam", "probability"):
            one, other = (reader.get(image_id, name).astype(float) for reader in (alone, batched))
            assert one == pytest.approx(other, abs=2e-3)


def predicted(folder, out, batch):
    """The label table of the training pictures, and each label image."""
    predict.run(
        SETTINGS, images=folder / "train.csv", root=folder, weights=folder / "deeplab", shard=Shard(1, 1),
        folder=out, out=out.with_suffix(".csv"), threads=1,
        runtime=Runtime(device="cpu", inference_batch=batch),
    )  # fmt: skip
    table = LabelTable(out.with_suffix(".csv"), out.parent)
    return {image_id: table.get(image_id) for image_id in table.ids()}


SETTINGS = Predict(scales=(1.0, 1.5), refine=REFINE)


def test_predictions_are_the_best_of_all_classes_in_the_tables_order(mixed, tmp_path):
    records = read_images(mixed / "train.csv", CLASSES)
    network, found = load_network(mixed / "deeplab", DeepLab), predicted(mixed, tmp_path / "alone", 1)
    assert list(found) == [record.id for record in records]
    for record in records:
        [(_, picture)] = read_ahead(mixed, [record], 1, torch.device("cpu"))
        with torch.inference_mode():
            scores = probabilities(network, picture, SETTINGS, working_grid(picture, SETTINGS.refine.size))
            [refined] = refine([scores[0]], picture, SETTINGS.refine)
        every = np.arange(len(CLASSES) + 1)
        expected = argmax_labels(refined.numpy(), every, record.height, record.width)
        assert np.array_equal(found[record.id], expected)
    batched = predicted(mixed, tmp_path / "batched", 2)
    assert list(batched) == list(found)
    for image_id, label in found.items():
        assert (batched[image_id] == label).mean() > 0.99


def test_a_mirrored_picture_has_mirrored_scores_without_absent_classes(mixed):
    [record, *_] = read_images(mixed / "train.csv", CLASSES)
    [(_, picture)] = read_ahead(mixed, [record], 1, torch.device("cpu"))
    network, views = load_network(mixed / "ecsnet", EcsNet), EcsLabels(scales=(1.1, 1.5))
    absent = torch.zeros(1, len(CLASSES) + 1, dtype=torch.bool)
    absent[0, 2:] = True
    with torch.inference_mode():
        scores = probabilities(network, picture, views, (16, 16), absent)
        mirrored = probabilities(network, picture.flip(-1), views, (16, 16), absent)
    assert scores[0, 2:].max() == 0
    assert torch.allclose(scores, mirrored.flip(-1), atol=1e-5)
