import torch

from ecsnet.cam import activation_maps, erase, erased_region, normalise
from ecsnet.networks import Classifier
from ecsnet.settings import Erase


def test_erased_maps_are_divided_by_the_originals_maximum():
    original = torch.tensor([[[2.0, 4.0]], [[1.0, 0.5]]])
    maximum = original.amax((1, 2))
    assert normalise(original, maximum).tolist() == [[[0.5, 1.0]], [[1.0, 0.5]]]
    erased = torch.tensor([[[1.0, 0.4]], [[3.0, 0.0]]])
    # 1/4 and 0.4/4, not 1/1 and 0.4/1; above the original's maximum is clipped
    assert torch.allclose(normalise(erased, maximum), torch.tensor([[[0.25, 0.1]], [[1.0, 0.0]]]))


def test_a_class_without_any_activation_stays_zero_in_the_erased_picture_too():
    assert normalise(torch.zeros(1, 1, 2), torch.zeros(1)).tolist() == [[[0, 0]]]
    assert normalise(torch.full((1, 1, 2), 5.0), torch.zeros(1)).tolist() == [[[0, 0]]]


def test_erased_region_is_where_the_strongest_class_reaches_tau():
    cams = torch.tensor([[[0.2, 0.5, 0.9]], [[0.6, 0.1, 0.9]]])
    assert erased_region(cams, 0.5).tolist() == [[True, True, True]]
    assert erased_region(cams, 0.6).tolist() == [[True, False, True]]
    assert erased_region(cams, 0.95).tolist() == [[False, False, False]]


def test_erasing_fills_the_region_with_the_mean_and_leaves_the_rest():
    images = torch.rand(1, 3, 9, 9)
    region = torch.zeros(1, 3, 3, dtype=torch.bool)
    region[0, 0, 0] = True
    fill = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)
    erased = erase(images, region, fill)
    # cell (0, 0) of the corner-aligned 3×3 grid reaches to pixel 2 of 9 on the axes, its half-way line
    assert torch.equal(erased[0, :, 0, :3], fill[0, :, 0].expand(3, 3))
    assert torch.equal(erased[0, :, 0, 3:], images[0, :, 0, 3:])
    assert torch.equal(erased[0, :, 3:], images[0, :, 3:])


def test_the_fill_is_zero_after_the_networks_normalisation(small_backbone):
    network = Classifier(small_backbone, ["a"])
    image = network.features.mean.expand(1, 3, 4, 4)
    assert torch.equal((image - network.features.mean) / network.features.std, torch.zeros(1, 3, 4, 4))


def two_signed(network):
    """The network with class maps that are positive in places and negative in others."""
    image = torch.rand(2, 3, 65, 65)
    with torch.inference_mode():
        maps = network.eval().features(image)
    # a difference between two places, made orthogonal to the mean feature
    weight = maps[0, :, 0, 0] - maps[0, :, 4, 4]
    centre = maps.mean((0, 2, 3))
    weight = weight - centre * (weight @ centre) / (centre @ centre)
    network.cam_head.weight.data = weight.view(1, -1, 1, 1).repeat(network.cam_head.out_channels, 1, 1, 1)
    return network


def test_activation_maps_are_the_positive_part_of_the_class_maps(small_backbone):
    network = two_signed(Classifier(small_backbone, ["a", "b"]))
    image = torch.rand(2, 3, 65, 49)
    settings = Erase(scales=(1.0,), flip=False)
    with torch.inference_mode():
        maps, probability = activation_maps(network, image, settings, (5, 4))
        raw = network(image)
    assert maps.shape == (2, 2, 5, 4)
    assert maps.min() == 0
    assert torch.allclose(maps, raw.clamp(min=0), atol=1e-5)
    assert torch.allclose(probability, raw.mean((2, 3)).sigmoid(), atol=1e-5)


def test_mirrored_pictures_have_mirrored_maps(small_backbone):
    network = two_signed(Classifier(small_backbone, ["a"]))
    image = torch.rand(1, 3, 65, 65)
    settings = Erase(scales=(1.0,), flip=True)
    with torch.inference_mode():
        maps, _ = activation_maps(network, image, settings, (5, 5))
        mirrored, _ = activation_maps(network, image.flip(-1), settings, (5, 5))
    assert torch.allclose(maps, mirrored.flip(-1), atol=1e-5)
    assert maps.max() > 0
