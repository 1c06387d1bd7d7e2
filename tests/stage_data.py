"""A folder in which every stage can run: pictures, tables, networks with random weights, shards."""

import torch
from voc_folder import run_prepare

from ecsnet import ecs_labels, erase, evidence
from ecsnet.demo import run as write_demo
from ecsnet.networks import Classifier, DeepLab, EcsNet, save_network
from ecsnet.scenes import DEMO_CLASSES
from ecsnet.settings import Backbone, Dataset, Demo, EcsLabels, Erase, Evidence, Refine, Runtime
from ecsnet.store import Shard, ShardReader

RUNTIME = Runtime(device="cpu", workers=0)
CLASSES = list(DEMO_CLASSES)
REFINE = Refine(rounds=2, dilations=(1, 2))
LAST = {"runtime": RUNTIME, "threads": 1}


def make_data(folder):
    """Write four pictures, their tables, and a network of each kind with random weights."""
    write_demo(Demo(train_images=4, val_images=2, width=96, height=64), root=folder, out=folder / "demo.json")
    settings = Dataset(root=str(folder), train_list="train", val_list="val", classes=tuple(CLASSES))
    run_prepare(settings, folder)
    torch.manual_seed(0)
    backbone = Backbone(name="resnet18", weights="none")
    save_network(folder / "classifier", Classifier(backbone, CLASSES))
    save_network(folder / "ecsnet", EcsNet(backbone, CLASSES, 8, 2))
    save_network(folder / "deeplab", DeepLab(backbone, CLASSES, (2, 4)))
    return folder


def run_erase(data, out, shard="1/1", batch=1, **settings):
    erase.run(
        Erase(**{"scales": (1.0, 1.5), **settings}),
        images=data / "train.csv",
        root=data,
        weights=data / "classifier",
        shard=Shard.parse(shard),
        out=out,
        runtime=Runtime(device="cpu", inference_batch=batch),
        threads=1,
    )
    return ShardReader([out])


def make_chain(data):
    """Write the shards of erase, evidence and ecs_labels; their readers."""
    run_erase(data, data / "erase.npz")
    common = {"images": data / "train.csv", "root": data, "shard": Shard(1, 1), **LAST}
    evidence.run(
        Evidence(refine=REFINE),
        classes=data / "classes.txt",
        weights=data / "classifier",
        maps=data / "erase.npz",
        out=data / "evidence.npz",
        **common,
    )
    ecs_labels.run(
        EcsLabels(scales=(1.0,), refine=REFINE),
        weights=data / "ecsnet",
        evidence=data / "evidence.npz",
        regions=data / "erase.npz",
        out=data / "ecs_labels.npz",
        **common,
    )
    return {name: ShardReader([data / f"{name}.npz"]) for name in ("erase", "evidence", "ecs_labels")}
