import json
import os
import re

import pytest
import timm
import torch
from conftest import RESNET50, SUBSET
from safetensors.torch import save_file

from ecsnet.backbone import (
    Features,
    fetch_weights,
    load_imagenet,
    move_stride_to_1x1,
    read_weights,
    write_weights,
)
from ecsnet.errors import UserError
from ecsnet.pictures import read_image
from ecsnet.settings import Backbone
from ecsnet.views import resize

NETWORKS = {"resnet18": 512, "resnet50": 2048, "resnet101": 2048, "tf_efficientnet_lite0": 320}


@pytest.mark.parametrize("stride", [8, 16, 32])
@pytest.mark.parametrize("name", NETWORKS)
def test_features_at_any_output_stride(name, stride):
    features = Features(Backbone(name=name, weights="none", output_stride=stride)).eval()
    assert (features.stride, features.channels) == (stride, NETWORKS[name])
    with torch.inference_mode():
        maps = features(torch.rand(1, 3, 65, 97))
    assert maps.shape == (1, NETWORKS[name], 64 // stride + 1, 96 // stride + 1)


@pytest.mark.parametrize("name", ["resnet50", "tf_efficientnet_lite0"])
def test_the_first_and_last_cell_see_the_first_and_last_pixel(name):
    """The grids' corner alignment holds: a mirrored picture has the mirrored map, without a shift."""
    features = Features(Backbone(name=name, weights="none", output_stride=16)).eval()
    for layer in features.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.weight.data = (layer.weight.data + layer.weight.data.flip(-1)) / 2
    image = torch.rand(1, 3, 65, 97)
    with torch.inference_mode():
        plain, mirrored = features(image), features(image.flip(-1))
    assert torch.allclose(plain, mirrored.flip(-1), atol=1e-4)


def test_normalisation_is_that_of_the_weights_unless_given():
    assert (
        Features(Backbone(name="tf_efficientnet_lite0", weights="none")).mean.flatten().tolist() == [0.5] * 3
    )
    given = Features(Backbone(name="resnet18", weights="none", mean=(0.1, 0.2, 0.3), std=(1, 1, 1)))
    assert given.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])


def test_an_unknown_network_is_refused():
    with pytest.raises(UserError, match=r"backbone 'resnet5O'.*timm has for example"):
        Features(Backbone(name="resnet5O"))


def test_weights_come_back_through_a_file(tmp_path):
    source = timm.create_model("resnet18")
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    features = Features(Backbone(name="resnet18"))
    load_imagenet(features.body, tmp_path / "weights.safetensors", "resnet18")
    assert torch.equal(features.body.layer4[1].conv2.weight, source.layer4[1].conv2.weight)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("resnet50", "tensors are of another network, the first is layer"),
        ("resnet34", "tensors are of another network, the first is layer"),
        ("resnet18d", "tensors are missing"),
        ("tf_efficientnet_lite0", "tensors are missing, the first is conv1.weight"),
    ],
)
def test_weights_of_another_network_are_refused(tmp_path, other, message):
    save_file(timm.create_model(other).state_dict(), tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match=rf"not the weights of resnet18: .*{message}"):
        load_imagenet(Features(Backbone(name="resnet18")).body, tmp_path / "weights.safetensors", "resnet18")


def test_weights_with_another_shape_are_refused(tmp_path):
    state = timm.create_model("resnet18").state_dict()
    state["conv1.weight"] = torch.zeros(64, 1, 7, 7)
    save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match=r"conv1.weight has the shape \(64, 1, 7, 7\), the network's is"):
        load_imagenet(Features(Backbone(name="resnet18")).body, tmp_path / "weights.safetensors", "resnet18")


def test_what_lies_behind_the_level_is_not_built():
    whole, cut = (
        Features(Backbone(name="tf_efficientnet_lite0", weights="none", level=level)) for level in (-1, -2)
    )
    assert (len(whole.body.blocks), len(cut.body.blocks)) == (7, 5)
    assert (cut.channels, cut.stride) == (112, 16)
    with torch.inference_mode():
        assert cut.eval()(torch.rand(1, 3, 65, 65)).shape == (1, 112, 5, 5)


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", b"<html>"])
def test_what_is_no_safetensors_file_is_refused(tmp_path, content):
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(UserError, match="not a readable safetensors file"):
        load_imagenet(Features(Backbone(name="resnet18")).body, tmp_path / "weights.pth", "resnet18")


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(UserError, match=r"no such weights file; correct backbone\.weights"):
        load_imagenet(Features(Backbone(name="resnet18")).body, tmp_path / "none.safetensors", "resnet18")


def test_the_installed_package_has_lite0():
    state = fetch_weights("tf_efficientnet_lite0", "package")
    network = timm.create_model("tf_efficientnet_lite0")
    network.load_state_dict(state)
    with pytest.raises(UserError, match="not of resnet18"):
        fetch_weights("resnet18", "package")


def test_stride_in_1x1_moves_every_stride_and_keeps_the_maps_size():
    plain = timm.create_model("resnet50")
    moved = timm.create_model("resnet50")
    move_stride_to_1x1(moved)
    assert plain.layer2[0].conv2.stride == moved.layer2[0].conv1.stride == (2, 2)
    assert moved.layer2[0].conv2.stride == (1, 1)
    features = Features(
        Backbone(name="resnet50", weights="none", output_stride=16, stride_in_1x1=True)
    ).eval()
    with torch.inference_mode():
        assert features(torch.rand(1, 3, 65, 65)).shape[2:] == (5, 5)


def test_stride_in_1x1_needs_bottlenecks():
    with pytest.raises(UserError, match="no ResNet bottlenecks"):
        Features(Backbone(name="resnet18", weights="none", stride_in_1x1=True))


IMAGENET = {
    "cat": range(281, 294),
    "dog": range(151, 269),
    "bird": (*range(7, 25), *range(80, 101), *range(127, 147)),
}
"""ImageNet's numbers for VOC's animals (cats with big cats, as photographs of cats go)."""


def photographs(name, count):
    lines = (SUBSET / "ImageSets" / "Main" / f"{name}_trainval.txt").read_text().splitlines()
    ids = [line.split()[0] for line in lines if line.split()[1] == "1"]
    ids = [image_id for image_id in ids if (SUBSET / "JPEGImages" / f"{image_id}.jpg").exists()]
    return [SUBSET / "JPEGImages" / f"{image_id}.jpg" for image_id in ids[:: len(ids) // count][:count]]


def share_named_right(network, mean, std):
    right = []
    for name, numbers in IMAGENET.items():
        for path in photographs(name, 12):
            pixels = torch.from_numpy(read_image(path)).permute(2, 0, 1)[None]
            image = resize(pixels.float() / 255, (224, 224))
            top = network((image - mean) / std).topk(5).indices[0].tolist()
            right.append(any(number in numbers for number in top))
    return sum(right) / len(right)


@pytest.mark.skipif(
    not (RESNET50.exists() and SUBSET.exists()), reason="shared weights or photographs are absent"
)
def test_a_real_resnet50_names_photographs_with_stride_in_1x1_and_worse_without():
    features = Features(Backbone())
    shares = {}
    for stride_in_1x1 in (True, False):
        network = timm.create_model("resnet50").eval()
        if stride_in_1x1:
            move_stride_to_1x1(network)
        load_imagenet(network, RESNET50, "resnet50")
        with torch.inference_mode():
            shares[stride_in_1x1] = share_named_right(network, features.mean, features.std)
    print(json.dumps({str(key): value for key, value in shares.items()}))
    assert shares[True] >= 0.8
    assert shares[True] - shares[False] >= 0.05


def test_a_killed_write_leaves_no_file_but_one_of_ours(tmp_path, monkeypatch):
    seen = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *paths: seen.extend(os.listdir(tmp_path)) or replace(*paths))
    write_weights(tmp_path / "w", {"a": torch.ones(3)}, {"of": "a test"})
    assert [re.sub(r"\w{8}-\d+", "", name) for name in seen] == [".w..tmp"]  # remove_leftovers knows these
    assert os.listdir(tmp_path) == ["w"]
    assert read_weights(tmp_path / "w")["a"].tolist() == [1, 1, 1]
