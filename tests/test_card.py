"""Stages with a network on a pretended card: no operation mixes two places, and no picture is waited for."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pretended_card import CARD, pretended_card
from safetensors import safe_open
from safetensors.torch import load_file
from stage_data import CLASSES, REFINE, make_data
from test_pack_model import pack
from test_training import Killed, job, killed_at, write_pictures

from ecsnet import (
    ecs_labels,
    erase,
    evidence,
    filter_labels,
    machine,
    predict,
    predict_folder,
    settings,
    speeds,
    train_cam,
    train_ecs,
    train_segmenter,
    training,
    trial,
)
from ecsnet.palette import read_mask
from ecsnet.report import Report
from ecsnet.settings import (
    Backbone,
    EcsLabels,
    Erase,
    Evidence,
    FilterLabels,
    Predict,
    Runtime,
    TrainCam,
    TrainEcs,
    TrainSegmenter,
)
from ecsnet.store import Shard, ShardReader
from ecsnet.survey import Pictures
from ecsnet.tables import LabelTable, read_images, write_images
from ecsnet.training import train

BACKBONE = Backbone(name="resnet18", weights="none")
SHORT = {"epochs": 2.0, "batch_size": 2, "crop_size": 65}
CPU = Runtime(device="cpu", workers=0, inference_batch=2)
EXACT = dataclasses.replace(CPU, device="cuda", precision="float32")
HALF = dataclasses.replace(CPU, device="cuda")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data"))


def run_all(data: Path, out: Path, runtime: Runtime) -> Path:
    """All stages with a network, and the filter between them, one after the other."""
    out.mkdir()
    last = {"runtime": runtime, "threads": 1}
    training = {"images": data / "train.csv", "root": data, **last}
    each = {**training, "shard": Shard(1, 1)}
    lists = {"classes": data / "classes.txt"}
    classifier, ecsnet, deeplab = (
        out / f"{name}.safetensors" for name in ("classifier", "ecsnet", "deeplab")
    )
    train_cam.run(
        TrainCam(backbone=BACKBONE, **SHORT), imagenet=None, out=classifier, history=out / "cam.csv",
        **training, **lists,
    )  # fmt: skip
    erase.run(Erase(scales=(1.0, 1.5)), weights=classifier, out=out / "erase.npz", **each)
    evidence.run(
        Evidence(refine=REFINE), weights=classifier, maps=out / "erase.npz", out=out / "evidence.npz",
        **each, **lists,
    )  # fmt: skip
    train_ecs.run(
        TrainEcs(head_channels=8, **SHORT), weights=classifier, labels=[out / "evidence.npz"],
        regions=[out / "erase.npz"], round=1, out=ecsnet, history=out / "ecs.csv", **training,
    )  # fmt: skip
    ecs_labels.run(
        EcsLabels(scales=(1.0,), refine=REFINE), weights=ecsnet, evidence=out / "evidence.npz",
        regions=out / "erase.npz", out=out / "ecs_labels.npz", **each,
    )  # fmt: skip
    filter_labels.run(
        FilterLabels(drop_image=False), images=data / "train.csv", labels=[out / "ecs_labels.npz"],
        evidence=[out / "evidence.npz"], out=out / "filter_labels.csv", kept=out / "kept.csv", threads=1,
        **lists,
    )  # fmt: skip
    train_segmenter.run(
        TrainSegmenter(backbone=BACKBONE, atrous_rates=(2, 4), **SHORT), labels=out / "filter_labels.csv",
        label_root=out, imagenet=None, out=deeplab, history=out / "segmenter.csv", **training, **lists,
    )  # fmt: skip
    predict.run(
        Predict(scales=(0.5, 1.0), refine=REFINE), weights=deeplab, folder=out / "predict",
        out=out / "predict.csv", **each,
    )  # fmt: skip
    return out


@pytest.fixture(scope="module")
def on_cpu(data, tmp_path_factory):
    return run_all(data, tmp_path_factory.mktemp("run") / "cpu", CPU)


@pytest.fixture
def folder(tmp_path):
    return write_pictures(tmp_path)


HISTORIES = ("cam", "ecs", "segmenter")


def history(out: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(out / f"{name}.csv")


def same_pixels(out: Path, other: Path) -> float:
    """The share of pixels of the network's label images that two runs agree on."""
    first, second = (LabelTable(place / "predict.csv", place) for place in (out, other))
    assert first.ids() == second.ids()
    return float(np.mean([(first.get(name) == second.get(name)).mean() for name in first.ids()]))


def test_a_card_computes_what_a_cpu_does(data, on_cpu, tmp_path):
    with pretended_card():
        out = run_all(data, tmp_path / "card", EXACT)
    for name in HISTORIES:
        assert np.allclose(history(out, name), history(on_cpu, name), rtol=1e-4)
    for name in ("erase", "evidence", "ecs_labels"):
        first, second = (ShardReader([place / f"{name}.npz"]) for place in (out, on_cpu))
        assert first.ids() == second.ids()
        maps = "cam" if name == "erase" else "scores"
        for image_id in first.ids():
            assert np.allclose(first.get(image_id, maps), second.get(image_id, maps), atol=2e-3)
    assert same_pixels(out, on_cpu) > 0.999


def test_bfloat16_comes_near(data, on_cpu, tmp_path):
    with pretended_card():
        out = run_all(data, tmp_path / "card", HALF)
    for name in HISTORIES:
        near, exact = (history(place, name) for place in (out, on_cpu))
        assert np.allclose(near, exact, rtol=0.03)
        assert (near.loss != exact.loss).any()
    assert same_pixels(out, on_cpu) > 0.9


def test_an_older_card_s_loss_is_scaled(folder):
    """Its float16 loses small gradients; the scale lies on the card, and in the state that is kept."""
    losses = {}
    for name, bfloat16 in (("bfloat16", True), ("float16", False)):
        with pretended_card(bfloat16):
            train(job(folder, name))
            losses[name] = pd.read_csv(job(folder, name).history)
        with safe_open(folder / name / "weights.resume.safetensors", "pt") as file:
            assert bool(json.loads(file.metadata()["scaler"])) != bfloat16
    # a step is left out where the first scale was too large
    assert losses["float16"].loss.mean() == pytest.approx(losses["bfloat16"].loss.mean(), rel=0.2)


def stage(name: str, data: Path, run: Path, out: Path) -> dict:
    """Settings of a stage with a network, and files of its own."""
    classifier, ecsnet, deeplab = (run / f"{net}.safetensors" for net in ("classifier", "ecsnet", "deeplab"))
    maps, seen, one = run / "erase.npz", run / "evidence.npz", (1.0,)
    return {
        "erase": {"settings": Erase(scales=one), "weights": classifier, "out": out},
        "evidence": {
            "settings": Evidence(refine=REFINE), "weights": classifier, "maps": maps, "out": out,
            "classes": data / "classes.txt",
        },
        "ecs_labels": {
            "settings": EcsLabels(scales=one, refine=REFINE, predict="both"), "weights": ecsnet,
            "evidence": seen, "regions": maps, "out": out,
        },
        "predict": {
            "settings": Predict(scales=one, refine=REFINE), "weights": deeplab,
            "out": out.with_suffix(".csv"), "folder": out.with_suffix(""),
        },
    }[name]  # fmt: skip


@pytest.mark.parametrize("module", [erase, evidence, ecs_labels, predict], ids=lambda one: one.__name__)
def test_no_picture_is_waited_for(data, on_cpu, tmp_path, module):
    name = module.__name__.rpartition(".")[2]
    records, images = read_images(data / "train.csv", CLASSES), tmp_path / "images.csv"
    counts = []
    for number in (2, 4):
        write_images(images, records[:number], CLASSES)
        own = stage(name, data, on_cpu, tmp_path / "out.npz")
        with pretended_card() as card:
            module.run(
                own.pop("settings"), images=images, root=data, shard=Shard(1, 1), runtime=HALF, threads=1,
                **own,
            )  # fmt: skip
        counts.append(card.waits)
    assert counts[1] - counts[0] == {}


def test_the_next_batch_is_under_way_when_the_host_looks_at_one(data, on_cpu, tmp_path, monkeypatch):
    order = []
    for name, function in (("begin", predict.begin), ("finish", predict.finish)):

        def noted(*values, name=name, function=function):
            order.append(name)
            return function(*values)

        monkeypatch.setattr(predict, name, noted)
    own = stage("predict", data, on_cpu, tmp_path / "out.npz")
    common = {**own, "images": data / "train.csv", "root": data, "shard": Shard(1, 1), "threads": 1}
    chosen = common.pop("settings")
    with pretended_card():
        predict.run(chosen, runtime=HALF, **common)
    assert order == ["begin", "begin", "finish", "finish"]
    order.clear()
    predict.run(chosen, runtime=CPU, **common)
    assert order == ["begin", "finish"] * 2


def test_a_training_waits_for_its_history_alone(folder, monkeypatch):
    """Not for its data workers, either, whose batches come from pinned memory."""
    monkeypatch.setattr(training, "HISTORY_ROWS", 5)
    monkeypatch.setattr(training, "workers", lambda job: 1)
    counts = []
    for epochs in (8, 16):
        with pretended_card() as card:
            train(job(folder, f"{epochs}", epochs=epochs))
        counts.append(card.waits)
    assert counts[0]["item"] == 5 * 2  # the loss and its one term
    assert counts[0] == counts[1]


def test_a_training_on_a_card_is_taken_up(folder):
    with pretended_card():
        whole, killed = job(folder, "whole"), job(folder, "killed", loss=killed_at(7), checkpoint_seconds=0)
        train(whole)
        with pytest.raises(Killed):
            train(killed)
        train(job(folder, "killed"))
    assert load_file(killed.out).keys() == load_file(whole.out).keys()
    for name, tensor in load_file(whole.out).items():
        assert torch.allclose(load_file(killed.out)[name], tensor)


def test_photographs_get_the_masks_that_a_cpu_makes(data, tmp_path):
    model = pack(data, data / "segmenter.safetensors", scales=[1.0], flip=False, refine={"rounds": 1})
    common = {"model": model, "photos": data / "JPEGImages", "threads": 1}
    predict_folder.run(out=tmp_path / "cpu", runtime=CPU, **common)
    with pretended_card():
        predict_folder.run(out=tmp_path / "card", runtime=EXACT, overlays=tmp_path / "overlays", **common)
    masks = sorted(path.name for path in (tmp_path / "cpu").glob("*.png"))
    assert len(masks) == 6
    for name in masks:
        first, second = (read_mask(tmp_path / place / name) for place in ("cpu", "card"))
        assert (first == second).mean() > 0.999


def test_the_check_times_every_stage_on_a_card(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(trial, "SECONDS", 0.1)
    monkeypatch.setattr(trial, "STEPS", 1)
    monkeypatch.setattr(speeds, "_start_seconds", lambda: 4.0)  # that of a process, whatever its device
    small, one = {"crop_size": 65, "batch_size": 2}, (1.0,)
    config = dataclasses.replace(
        settings.Config(),
        dataset=dataclasses.replace(settings.Dataset(), classes=tuple(CLASSES)),
        train_cam=TrainCam(backbone=BACKBONE, **small),
        erase=Erase(scales=one),
        evidence=Evidence(refine=REFINE),
        train_ecs=TrainEcs(head_channels=8, **small),
        ecs_labels=EcsLabels(scales=one, refine=REFINE),
        train_segmenter=TrainSegmenter(backbone=BACKBONE, atrous_rates=(2,), **small),
        predict=Predict(scales=one, refine=REFINE),
        runtime=HALF,
    )
    records = read_images(data / "train.csv", CLASSES)
    stages = {*trial.PASSES, "train_cam", "train_ecs", "train_segmenter"}
    with pretended_card():
        assert machine.report_device(config, 2, Report()) == 1
        found = speeds.measure(config, Pictures(records, records[:2], 2, data), stages, tmp_path, 1)
        machine.report_memory(found.memory, True, Report())
    text = capsys.readouterr().out
    assert re.search(r"ok +device +card 0: Pretended, 75\.2 GB of 85\.9 GB free\n", text)
    assert re.search(r"ok +device +precision: bfloat16\n", text)
    assert re.search(r"ok +memory +1\.1 GB of the card's 85\.9 GB in the trial\n", text)
    assert found.errors == {}
    assert {*found.step, *found.image} == stages
    assert found.memory == 2**30


def test_the_pretended_card_is_as_strict_as_a_real_one():
    with pretended_card() as card:
        there, here = torch.ones(3).to("cuda"), torch.ones(3)
        assert there.device == CARD
        assert there.is_cuda
        assert (there * 2 + torch.tensor(1.0))[1:].device == CARD
        assert torch.zeros(2, device=there.device).device == CARD
        for wrong in (lambda: there + here, lambda: torch.cat([here, there]), lambda: here[there.long()]):
            with pytest.raises(RuntimeError, match="same device"):
                wrong()
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
        there[torch.tensor([0, 2])] = 5.0  # indices may be of the host
        assert card.waits == {"to the card": 1}
        assert there.tolist() == [5, 1, 5]
        there.to("cpu", non_blocking=True)
        there[there > 1].cpu()
        assert card.waits == {"to the card": 1, "tolist": 1, "__getitem__": 1, "to the host": 1}
    assert not torch.cuda.is_available()
