"""Claims of cards: pretended ones, real lock files and processes, and an `nvidia-smi` of our own."""

import multiprocessing
import os
import random
import time

import pytest

from ecsnet import cards
from ecsnet.cards import Card, claim_cards, known_as, list_cards, own_folder, visible_cards
from ecsnet.errors import UserError

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """Puts an `nvidia-smi` with the given output first in PATH."""

    def put(text, status=0):
        script = tmp_path / "bin" / "nvidia-smi"
        script.parent.mkdir(exist_ok=True)
        (tmp_path / "smi.txt").write_text(text)
        script.write_text(f"#!/bin/sh\ncat {tmp_path}/smi.txt\nexit {status}\n")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")

    return put


@pytest.fixture(autouse=True)
def release(monkeypatch):
    """Claims of this process end with the test."""
    monkeypatch.setattr(cards, "_held", [])


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


def test_cards_are_known_by_number_uuid_and_the_beginning_of_it(smi):
    smi("0, GPU-8a11, 10, 81559\n1, GPU-8b22, 70000, 81559\n2, GPU-8c33, [N/A], [N/A]\n")
    found = list_cards()
    assert found == [Card("0", "GPU-8a11", 10, 81559), Card("1", "GPU-8b22", 70000, 81559)]
    assert [known_as(name, found) for name in ("1", "GPU-8b22", "GPU-8a", "MIG-1", "7")] == [
        found[1],
        found[1],
        found[0],
        None,
        None,
    ]


@pytest.mark.parametrize(("text", "status"), [("", 0), ("no devices were found\n", 6), ("garbage, here", 0)])
def test_without_an_answer_no_card_is_known(smi, text, status):
    smi(text, status)
    assert list_cards() == []


def hold(folder, results, stop, count=1, names=("0", "1", "GPU-a/b")):
    results.put(claim_cards(names, count, folder, poll=0.01))
    stop.wait()


def test_processes_that_start_together_claim_different_cards(tmp_path):
    results, stop = FORK.Queue(), FORK.Event()
    processes = [FORK.Process(target=hold, args=(tmp_path, results, stop)) for _ in range(4)]
    for process in processes:
        process.start()
    first = sorted(results.get(timeout=20) for _ in range(3))
    assert first == [[0], [1], [2]]
    time.sleep(0.1)
    assert results.empty()  # the fourth waits
    stop.set()
    assert results.get(timeout=20) in ([0], [1], [2])
    for process in processes:
        process.join()


def use(folder, start, log, count):
    """Claim cards at a common moment, note begin and end of use, and end in one way or another."""
    start.wait()
    mine = claim_cards([str(number) for number in range(4)], count, folder, poll=0.005)
    with open(log, "a") as file:
        file.writelines(f"+{card}\n" for card in mine)
        file.flush()
        time.sleep(random.random() * 0.02)
        file.writelines(f"-{card}\n" for card in mine)
        file.flush()
    os._exit(0) if random.random() < 0.5 else os.kill(os.getpid(), 9)


@pytest.mark.parametrize("counts", [(1,), (1, 2, 3), (4, 1)])
def test_no_card_ever_has_two_users_and_nobody_waits_for_ever(tmp_path, counts):
    """Forty processes at once, some of which take several cards, half of which are killed."""
    start, log = FORK.Event(), tmp_path / "log"
    processes = [
        FORK.Process(target=use, args=(tmp_path / "locks", start, log, counts[number % len(counts)]))
        for number in range(40)
    ]
    for process in processes:
        process.start()
    start.set()
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode in (0, -9)
    used = set()
    lines = log.read_text().split()
    assert len(lines) == 2 * sum(counts[number % len(counts)] for number in range(40))
    for line in lines:
        assert (line[1:] in used) == (line[0] == "-"), lines
        used.symmetric_difference_update({line[1:]})


def test_a_killed_process_frees_its_cards(tmp_path):
    results, stop = FORK.Queue(), FORK.Event()
    # an event and a queue of its own: a process that is killed may leave both locked
    told = FORK.Queue()
    process = FORK.Process(target=hold, args=(tmp_path, told, FORK.Event(), 3))
    process.start()
    assert told.get(timeout=20) == [0, 1, 2]
    process.kill()
    process.join()
    again = FORK.Process(target=hold, args=(tmp_path, results, stop, 2))
    again.start()
    assert results.get(timeout=20) == [0, 1]
    stop.set()
    again.join()


def test_a_card_is_the_same_by_whatever_name(tmp_path, smi):
    smi("0, GPU-8a11, 10, 81559\n1, GPU-8b22, 10, 81559\n")
    assert claim_cards(["GPU-8a11"], folder=tmp_path) == [0]
    assert claim_cards(["0", "1"], folder=tmp_path) == [1]


def test_a_card_that_another_program_fills_is_passed_over(tmp_path, smi, capsys):
    smi("0, GPU-8a11, 70000, 81559\n1, GPU-8b22, 10, 81559\n")
    assert claim_cards(["0", "1"], folder=tmp_path) == [1]
    assert capsys.readouterr().out == ""


def test_where_all_cards_are_filled_the_one_taken_is_named(tmp_path, smi, capsys):
    smi("0, GPU-8a11, 70000, 81559\n1, GPU-8b22, 60000, 81559\n")
    assert claim_cards(["0", "1"], folder=tmp_path) == [0]
    assert capsys.readouterr().out.startswith("card 0: another program uses 68 of its 80 GiB, and no other")


def test_a_good_card_that_another_stage_holds_is_waited_for(tmp_path, smi):
    """What fills the free card is no stage: to compute beside it would end for want of memory."""
    smi("0, GPU-8a11, 70000, 81559\n1, GPU-8b22, 10, 81559\n")
    results, stop = FORK.Queue(), FORK.Event()
    first = FORK.Process(target=hold, args=(tmp_path, results, stop, 1, ("1",)))
    first.start()
    assert results.get(timeout=20) == [0]
    second = FORK.Process(target=hold, args=(tmp_path, results, FORK.Event(), 1, ("0", "1")))
    second.start()
    time.sleep(0.3)
    assert results.empty()
    stop.set()
    assert results.get(timeout=20) == [1]
    second.kill()
    for process in (first, second):
        process.join()


def test_more_cards_than_there_are(tmp_path):
    with pytest.raises(UserError, match=r"gpus_per_training: 3, but 2 cards are visible \(0, 1\); lower it"):
        claim_cards(["0", "1"], 3, tmp_path)


def test_a_folder_for_locks_that_is_a_link_is_refused(tmp_path):
    """A link in /tmp could lead the locks to files of this user."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    with pytest.raises(UserError, match="is not a folder of yours; remove it"):
        own_folder(tmp_path / "link")
    assert own_folder(tmp_path / "mine") == tmp_path / "mine"
