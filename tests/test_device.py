import multiprocessing
import time

import pytest
import torch

from ecsnet.device import choose_device, claim_card, visible_cards
from ecsnet.errors import UserError
from ecsnet.settings import Runtime


@pytest.mark.parametrize(
    ("variable", "count", "expected"),
    [
        (None, 2, ["0", "1"]),
        ("", 2, ["0", "1"]),
        ("3", 1, ["3"]),
        ("GPU-8a, MIG-7/1/0", 2, ["GPU-8a", "MIG-7/1/0"]),
    ],
)
def test_visible_cards(variable, count, expected):
    assert visible_cards(variable, count) == expected


def hold(folder, results, stop):
    results.put(claim_card(["0", "1", "GPU-a/b"], folder, poll=0.01))
    stop.wait()


def test_processes_that_start_together_claim_different_cards(tmp_path):
    context = multiprocessing.get_context("fork")
    results, stop = context.Queue(), context.Event()
    processes = [context.Process(target=hold, args=(tmp_path, results, stop)) for _ in range(4)]
    for process in processes:
        process.start()
    first = sorted(results.get(timeout=20) for _ in range(3))
    assert first == [0, 1, 2]
    time.sleep(0.1)
    assert results.empty()  # the fourth waits
    stop.set()
    assert results.get(timeout=20) in (0, 1, 2)
    for process in processes:
        process.join()


def test_a_killed_process_frees_its_card(tmp_path):
    context = multiprocessing.get_context("fork")
    results, stop = context.Queue(), context.Event()
    # an event of its own: a process that is killed while it waits may leave the event locked
    process = context.Process(target=hold, args=(tmp_path, results, context.Event()))
    process.start()
    assert results.get(timeout=20) == 0
    process.kill()
    process.join()
    again = context.Process(target=hold, args=(tmp_path, results, stop))
    again.start()
    assert results.get(timeout=20) == 0
    stop.set()
    again.join()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a card")
def test_without_a_card():
    assert choose_device(Runtime(), 1).type == "cpu"
    with pytest.raises(UserError, match=r"runtime\.device: cuda, but torch sees no card"):
        choose_device(Runtime(device="cuda"), 1)
