import pytest
import torch

from ecsnet.copies import HostCopy, to_device, to_host

CPU = torch.device("cpu")


def test_values_arrive():
    first, second = torch.rand(2, 3), torch.arange(4)
    assert to_device(first, CPU) is first
    copies = to_host([first, second])
    assert [copy.array().tolist() for copy in copies] == [first.tolist(), [0, 1, 2, 3]]
    assert to_host([]) == []


def test_values_of_a_card_are_waited_for():
    class Event:
        """As the card's: the values are there once it is reached."""

        def synchronize(self):
            values.fill_(7)

    values = torch.zeros(3)
    assert HostCopy(values, Event()).array().tolist() == [7, 7, 7]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a card")
def test_a_card_is_not_held_up():
    card = torch.device("cuda")
    there = to_device(torch.full((1000, 1000), 2.0), card)
    [copy] = to_host([there @ there])
    for _ in range(50):  # given to the card since; the copy does not wait for it
        there = there @ there / 1000
    assert copy.tensor.is_pinned()
    assert copy.array()[0, 0] == 4000
