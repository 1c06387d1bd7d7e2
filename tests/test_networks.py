import pytest
import torch

from ecsnet.errors import UserError
from ecsnet.networks import (
    Classifier,
    DeepLab,
    EcsNet,
    load_network,
    new_network,
    save_network,
    set_training_mode,
)
from ecsnet.settings import Backbone, TrainCam, Training

CLASSES = ["cat", "dog", "sheep"]


@pytest.fixture
def networks(small_backbone):
    return {
        Classifier: Classifier(small_backbone, CLASSES),
        EcsNet: EcsNet(small_backbone, CLASSES, 16, 2),
        DeepLab: DeepLab(small_backbone, CLASSES, (2, 4)),
    }


def test_shapes(networks):
    images = torch.rand(2, 3, 65, 49)
    for network in networks.values():
        network.eval()
    with torch.inference_mode():
        assert networks[Classifier](images).shape == (2, 3, 5, 4)
        maps, logits = networks[EcsNet].both(images)
        assert (maps.shape, logits.shape) == ((2, 3, 5, 4), (2, 4, 5, 4))
        assert torch.allclose(networks[EcsNet].segment(images), logits)
        assert networks[DeepLab].segment(images).shape == (2, 4, 5, 4)


@pytest.mark.parametrize("kind", [Classifier, EcsNet, DeepLab])
def test_a_network_comes_back_from_its_file(tmp_path, networks, kind):
    network = networks[kind].eval().to(memory_format=torch.channels_last)  # as it comes back
    save_network(tmp_path / "weights.safetensors", network, TrainCam())
    loaded = load_network(tmp_path / "weights.safetensors", kind)
    assert loaded.spec == network.spec
    assert not loaded.training
    images = torch.rand(1, 3, 33, 33)
    call = "forward" if kind is Classifier else "segment"
    with torch.inference_mode():
        assert torch.equal(getattr(loaded, call)(images), getattr(network, call)(images))


def test_equal_networks_are_equal_bytes(tmp_path, networks):
    for name in ("1", "2"):
        save_network(tmp_path / name, networks[Classifier], TrainCam())
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_others_may_read_the_file(tmp_path, networks):
    save_network(tmp_path / "1", networks[Classifier])
    (tmp_path / "2").touch()
    assert (tmp_path / "1").stat().st_mode == (tmp_path / "2").stat().st_mode


def test_another_kind_of_network_is_refused(tmp_path, networks):
    save_network(tmp_path / "weights.safetensors", networks[Classifier])
    with pytest.raises(UserError, match="holds a network of kind Classifier, but DeepLab is needed"):
        load_network(tmp_path / "weights.safetensors", DeepLab)


def test_damaged_and_missing_files_are_refused(tmp_path, networks):
    path = tmp_path / "weights.safetensors"
    with pytest.raises(UserError, match="no such weights file"):
        load_network(path, Classifier)
    save_network(path, networks[Classifier])
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="damaged weights file"):
        load_network(path, Classifier)


def test_frozen_batch_norm_keeps_its_statistics_and_the_heads_learns(networks):
    network = networks[DeepLab]
    set_training_mode(network, Training(batch_norm="frozen", batch_size=2))
    body, head = network.features.body.bn1, network.head[2]
    before = body.running_mean.clone(), head.running_mean.clone()
    network.segment(torch.rand(2, 3, 33, 33))
    assert torch.equal(body.running_mean, before[0])
    assert not body.weight.requires_grad
    assert not torch.equal(head.running_mean, before[1])


def test_live_batch_norm_learns(networks):
    network = networks[Classifier]
    set_training_mode(network, Training(batch_norm="live", batch_size=2))
    before = network.features.body.bn1.running_mean.clone()
    network(torch.rand(2, 3, 33, 33))
    assert not torch.equal(network.features.body.bn1.running_mean, before)


def test_a_batch_of_one_image_trains(networks):
    with pytest.warns(UserWarning, match="batch of one"):
        set_training_mode(networks[DeepLab], Training(batch_norm="live", batch_size=1))
    networks[DeepLab].segment(torch.rand(1, 3, 33, 33)).sum().backward()


def test_new_layers_follow_the_seed(small_backbone):
    def heads(seed):
        return (
            new_network(lambda: EcsNet(small_backbone, CLASSES, 16, 2), seed, None)
            .segmentation_head[0]
            .weight
        )

    assert torch.equal(heads(1), heads(1))
    assert not torch.equal(heads(1), heads(2))


@pytest.mark.parametrize(
    ("name", "count", "frozen", "free"),
    [
        ("resnet18", 1, {"conv1"}, {"layer1", "layer4"}),
        ("resnet18", 3, {"conv1", "layer1", "layer2"}, {"layer3", "layer4"}),
        ("tf_efficientnet_lite0", 2, {"conv_stem", "blocks.0", "blocks.1"}, {"blocks.2", "blocks.6"}),
    ],
)
def test_first_levels_keep_their_weights(name, count, frozen, free):
    network = Classifier(Backbone(name=name, weights="none"), CLASSES)
    set_training_mode(network, Training(frozen_levels=count, batch_norm="live"))
    learning = {key: parameter.requires_grad for key, parameter in network.features.body.named_parameters()}
    for parts, expected in ((frozen, False), (free, True)):
        for part in parts:
            assert {value for key, value in learning.items() if key.startswith(f"{part}.")} == {expected}


def test_all_levels_frozen_is_refused(small_backbone):
    network = Classifier(Backbone(name="resnet18", weights="none", level=-4), CLASSES)
    set_training_mode(network, Training(frozen_levels=1))
    with pytest.raises(UserError, match="2, but the backbone has 2 levels up to the one used; 1 at most"):
        set_training_mode(network, Training(frozen_levels=2))


def test_frozen_levels_keep_their_statistics_even_with_live_batch_norm():
    network = Classifier(Backbone(name="resnet18", weights="none"), CLASSES)
    set_training_mode(network, Training(frozen_levels=2, batch_norm="live"))
    body = network.features.body
    before = [
        body.bn1.running_mean.clone(),
        body.layer1[0].bn1.running_mean.clone(),
        body.layer4[0].bn1.running_mean.clone(),
    ]
    network(torch.rand(2, 3, 33, 33))
    assert torch.equal(body.bn1.running_mean, before[0])
    assert torch.equal(body.layer1[0].bn1.running_mean, before[1])
    assert not torch.equal(body.layer4[0].bn1.running_mean, before[2])


def test_no_path_stands_in_a_weights_file(tmp_path):
    backbone = Backbone(name="resnet18", weights="/home/someone/resnet18.safetensors")
    save_network(tmp_path / "weights", Classifier(backbone, CLASSES), TrainCam(backbone=backbone))
    assert b"/home/someone" not in (tmp_path / "weights").read_bytes()
