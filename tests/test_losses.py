import pytest
import torch

from ecsnet.losses import segmentation_loss, tag_loss

LOG2 = 0.6931472


def test_tag_loss_by_hand():
    maps = torch.zeros(1, 2, 3, 3)
    maps[0, 0, 1, 1] = 9  # mean 1
    expected = -(torch.sigmoid(torch.tensor(1.0)).log() + torch.tensor(0.5).log()) / 2
    assert tag_loss(maps, torch.tensor([[1.0, 0.0]])) == pytest.approx(expected.item())


def logits_for(labels, confident):
    """Logits whose loss is log 2 where undecided, and nearly 0 where confident and right."""
    logits = torch.zeros(1, 2, *labels.shape)
    logits[0, 0] = torch.where(confident & (labels == 0), 50.0, 0.0)
    logits[0, 1] = torch.where(confident & (labels == 1), 50.0, 0.0)
    return logits


def test_balanced_loss_weighs_background_and_objects_alike():
    # on the grid of stride 4: three background points, right; one object point, undecided
    labels = torch.zeros(1, 5, 5, dtype=torch.int64)
    labels[0, 4, 4] = 1
    grid = labels[0, ::4, ::4]
    logits = logits_for(grid, grid == 0)
    assert segmentation_loss(logits, labels, balance="objects") == pytest.approx(LOG2 / 2)
    assert segmentation_loss(logits, labels, balance="none") == pytest.approx(LOG2 / 4)


def test_loss_balanced_by_classes_weighs_a_small_class_as_a_large_one():
    # background right; nine points of class 1, right; one point of class 2, undecided between two classes
    labels = torch.zeros(1, 17, 17, dtype=torch.int64)
    labels[0, 8:, :] = 1
    labels[0, 16, 16] = 2
    grid = labels[:, ::4, ::4]
    logits = torch.nn.functional.one_hot(grid, 4).permute(0, 3, 1, 2).float() * 100
    logits[0, :, 4, 4] = torch.tensor([-100.0, -100.0, 0.0, 0.0])  # class 3 is in no label
    assert segmentation_loss(logits, labels, "classes") == pytest.approx(LOG2 / 4)
    assert segmentation_loss(logits, labels, "objects") == pytest.approx(LOG2 / (grid > 0).sum() / 2)


@pytest.mark.parametrize("balance", ["objects", "classes"])
def test_one_class_alone_is_the_same_by_objects_and_by_classes(balance):
    labels = torch.zeros(1, 9, 9, dtype=torch.int64)
    labels[0, 4:] = 1
    assert segmentation_loss(torch.zeros(1, 2, 3, 3), labels, balance) == pytest.approx(LOG2)


def test_where_there_is_only_background_it_counts_whole():
    labels = torch.zeros(1, 5, 5, dtype=torch.int64)
    assert segmentation_loss(torch.zeros(1, 2, 2, 2), labels, balance="objects") == pytest.approx(LOG2)


def test_ignored_pixels_do_not_count():
    labels = torch.full((1, 5, 5), 255)
    labels[0, 0, 0] = 1
    logits = torch.zeros(1, 2, 2, 2)
    logits[0, 0, 1, 1] = 100  # far off, but ignored there
    assert segmentation_loss(logits, labels, balance="none") == pytest.approx(LOG2)


@pytest.mark.parametrize("balance", ["none", "objects", "classes"])
def test_nothing_to_learn_from_gives_zero_and_no_nan(balance):
    logits = torch.zeros(1, 3, 2, 2, requires_grad=True)
    loss = segmentation_loss(logits, torch.full((1, 5, 5), 255), balance)
    loss.backward()
    assert loss == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))
