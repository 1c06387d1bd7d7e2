import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ecsnet.settings import Views
from ecsnet.views import aligned_side, average_views, resize


@given(st.floats(1, 5000), st.sampled_from([8, 16, 32]))
def test_aligned_side_is_a_multiple_plus_one_and_the_nearest(side, stride):
    aligned = aligned_side(side, stride)
    assert (aligned - 1) % stride == 0
    assert aligned >= stride + 1
    assert abs(aligned - side) <= stride / 2 or aligned == stride + 1


def test_resize_keeps_corners():
    maps = torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]])
    large = resize(maps, (5, 7))
    assert large[0, 0, 0, 0] == 0
    assert large[0, 0, 0, -1] == 1
    assert large[0, 0, -1, -1] == 3
    assert large[0, 0, 2, 3] == pytest.approx(1.5)


def test_average_views_averages_scales_and_undoes_the_mirror():
    # a "network" that gives the picture's own brightness: every view must fall on the same places
    image = torch.linspace(0, 1, 33).view(1, 1, 1, 33).repeat(1, 3, 33, 1)
    seen = []

    def maps_of(view):
        seen.append(view.shape[2:])
        return view[:, :1, ::16, ::16]

    views = Views(scales=(1.0, 2.0), flip=True)
    maps = average_views(maps_of, image, views, 16, (33, 33))
    assert seen == [(33, 33), (65, 65)]
    assert torch.allclose(maps, image[:, :1], atol=1e-5)


def test_average_views_is_the_mean():
    constants = iter([1.0, 2.0, 6.0])
    views = Views(scales=(0.5, 1.0, 2.0), flip=False)
    maps = average_views(
        lambda view: torch.full((1, 2, 3, 3), next(constants)), torch.zeros(1, 3, 32, 32), views, 16, (4, 4)
    )
    assert torch.equal(maps, torch.full((1, 2, 4, 4), 3.0))


@pytest.mark.parametrize("flip", [True, False])
def test_mirrored_images_go_with_the_others(flip):
    sizes = []

    def maps_of(view):
        sizes.append(len(view))
        return view[:, :2, ::16, ::16].square()

    # not reduced: averaged areas are not corner-aligned
    images, views = torch.rand(3, 3, 33, 49), Views(scales=(1.0, 1.5), flip=flip)
    maps = average_views(maps_of, images, views, 16, (7, 9))
    assert sizes == ([6, 6] if flip else [3, 3])
    plain = Views(scales=views.scales, flip=False)
    both = [average_views(maps_of, one, plain, 16, (7, 9)) for one in (images, images.flip(-1))]
    expected = (both[0] + both[1].flip(-1)) / 2 if flip else both[0]
    assert torch.allclose(maps, expected, atol=1e-6)
