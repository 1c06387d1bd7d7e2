import pytest
import torch
from torch import nn

from ecsnet.folding import fold_batch_norm, load_folded
from ecsnet.networks import Classifier, DeepLab, EcsNet, load_network, save_network
from ecsnet.predict import segment
from ecsnet.settings import Backbone, Predict, Runtime

CLASSES = ["cat", "dog", "sheep"]


def trained(network):
    """In evaluation mode, with statistics and factors as a training leaves them."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean, std=0.2)
            nn.init.uniform_(layer.running_var, 0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.2)
    return network.eval()


def norms(network):
    return [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]


def near(one, other):
    return (one - other).abs().max() <= 1e-5 * one.abs().max()


class Pair(nn.Module):
    """A backbone of one convolution and what comes after it."""

    channels, stride = 2, 1

    def __init__(self, norm, order=("conv", "norm")):
        super().__init__()
        self.conv, self.norm, self.order = nn.Conv2d(3, 2, 1), norm, order

    def levels(self, images):
        for name in self.order:
            images = getattr(self, name)(images)
        return [images]

    def forward(self, images):
        return self.levels(images)[-1]


def classifier(features, small_backbone):
    network = Classifier(small_backbone, CLASSES)
    network.features, network.cam_head = features, nn.Conv2d(features.channels, 3, 1, bias=False)
    return network.eval()


def test_a_case_by_hand(small_backbone):
    pair = Pair(nn.BatchNorm2d(2, eps=0))
    pair.conv.weight.data = torch.tensor([1.0, 2, 3, 4, 5, 6]).reshape(2, 3, 1, 1)
    pair.conv.bias.data = torch.tensor([1.0, -1])
    pair.norm.running_mean, pair.norm.running_var = torch.tensor([2.0, 0]), torch.tensor([4.0, 0.25])
    pair.norm.weight.data, pair.norm.bias.data = torch.tensor([3.0, 1]), torch.tensor([0.5, 7])
    folded = fold_batch_norm(classifier(pair, small_backbone)).features
    # (w · x + b − mean) / sqrt(var) · weight + bias
    assert folded.conv.weight.flatten().tolist() == [1.5, 3, 4.5, 8, 10, 12]
    assert folded.conv.bias.tolist() == [(1 - 2) / 2 * 3 + 0.5, (-1 - 0) / 0.5 + 7]
    assert isinstance(folded.norm, nn.Identity)


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "resnet50",
        "tf_efficientnet_lite0",
        "mobilenetv3_small_050",
        "seresnet33ts",
        "regnetx_002",
    ],
)
def test_all_batch_norm_is_folded_and_the_outputs_stay(name):
    network = trained(DeepLab(Backbone(name=name, weights="none"), CLASSES, (2, 4)))
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    folded = fold_batch_norm(network)
    assert norms(network)
    assert not norms(folded)
    images = torch.rand(2, 3, 65, 49)
    with torch.inference_mode():
        assert near(network.segment(images), folded.segment(images))
    after = network.state_dict()
    assert all(torch.equal(tensor, after[key]) for key, tensor in before.items())


@pytest.mark.parametrize("kind", [Classifier, EcsNet, DeepLab])
def test_a_network_from_its_file(tmp_path, small_backbone, kind):
    more = {Classifier: (), EcsNet: (16, 2), DeepLab: ((2, 4),)}[kind]
    save_network(tmp_path / "weights", trained(kind(small_backbone, CLASSES, *more)))
    network, folded = load_network(tmp_path / "weights", kind), load_folded(tmp_path / "weights", kind)
    assert not folded.training
    assert not norms(folded)
    images = torch.rand(1, 3, 33, 65)
    with torch.inference_mode():
        if kind is EcsNet:
            for one, other in zip(network.both(images), folded.both(images), strict=True):
                assert near(one, other)
        else:
            call = "forward" if kind is Classifier else "segment"
            assert near(getattr(network, call)(images), getattr(folded, call)(images))


def test_a_network_that_computes_in_another_order_is_left_as_it_is(small_backbone):
    norm = nn.BatchNorm2d(3)
    norm.running_mean += 1
    pair = Pair(norm, order=("norm", "conv"))
    pair.conv = nn.Conv2d(3, 3, 1)
    pair.channels = 3
    network = classifier(pair, small_backbone)
    assert fold_batch_norm(network) is network


@pytest.mark.parametrize(
    "norm", [nn.GroupNorm(1, 2), nn.BatchNorm2d(2, track_running_stats=False), nn.InstanceNorm2d(2)]
)
def test_other_layers_are_not_folded(small_backbone, norm):
    network = classifier(Pair(norm), small_backbone)
    assert type(fold_batch_norm(network).features.norm) is type(norm)


def test_labels_stay(small_backbone):
    network = trained(DeepLab(small_backbone, CLASSES, (2, 4)))
    pictures = torch.rand(1, 3, 70, 90, generator=torch.Generator().manual_seed(1))
    pictures = nn.functional.avg_pool2d(pictures, 9, 1, 4)
    with torch.inference_mode():
        [one], [other] = (
            segment(each, pictures, Predict(scales=(0.5, 1.0)), Runtime(device="cpu"))
            for each in (network, fold_batch_norm(network))
        )
    labels = [classes[scores.array().argmax(0)] for scores, classes in (one, other)]
    assert len(set(labels[0].ravel())) > 1
    assert (labels[0] == labels[1]).mean() > 0.999
