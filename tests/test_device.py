import pytest
import torch

from ecsnet import device
from ecsnet.cards import Card
from ecsnet.device import choose_device
from ecsnet.errors import UserError
from ecsnet.settings import Runtime


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a card")
def test_without_a_card():
    assert choose_device(Runtime(), 1).type == "cpu"
    with pytest.raises(UserError, match=r"runtime\.device: cuda, but torch sees no card"):
        choose_device(Runtime(device="cuda"), 1)


@pytest.mark.parametrize(("precision", "short"), [("auto", True), ("float32", False)])
def test_single_precision_is_that_in_convolutions_too(monkeypatch, precision, short):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", not short)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: None)
    monkeypatch.setattr(device, "claimed_card", lambda: 0)
    assert choose_device(Runtime(precision=precision), 1) == torch.device("cuda", 0)
    assert torch.backends.cudnn.allow_tf32 == short


@pytest.mark.parametrize(
    ("variable", "names", "count", "known", "claimed"),
    [
        (None, ["0", "1"], 1, True, True),
        ("0,1", ["0", "1"], 1, False, True),
        ("1", ["1"], 1, True, True),  # two stages beside each other on a workstation
        ("0", ["0"], 1, False, False),  # a scheduler calls each job's card 0, and nvidia-smi is not there
        ("MIG-5", ["MIG-5"], 1, True, True),
        ("0,1", ["0", "1"], 2, False, False),
    ],
)
def test_a_card_is_claimed_unless_a_scheduler_gave_it(monkeypatch, variable, names, count, known, claimed):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if variable:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    cards = [Card(number, f"GPU-{number}", 0, 80) for number in ("0", "1")] if known else []
    looks = []
    monkeypatch.setattr(device, "list_cards", lambda: looks.append(1) or cards)
    asked = []
    monkeypatch.setattr(device, "claim_cards", lambda *arguments: asked.append(arguments) or [7])
    assert device.claim(names, count) == ([7] if claimed else list(range(count)))
    assert asked == ([(names, count)] if claimed else [])
    # nvidia-smi may take seconds, and a claim asks it too
    assert len(looks) == (variable in ("0", "1") or not claimed)


@pytest.mark.parametrize(
    ("given", "kind", "gigabytes", "batch"),
    [
        (None, "cpu", 0, 1),
        (3, "cpu", 0, 3),
        (None, "cuda", 80, 16),
        (None, "cuda", 8, 8),
        (40, "cuda", 8, 40),
    ],
)
def test_a_small_card_is_given_fewer_pictures_at_a_time(monkeypatch, given, kind, gigabytes, batch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1, gigabytes * 2**30 - 2**28))
    assert device.inference_batch(Runtime(inference_batch=given), torch.device(kind)) == batch
