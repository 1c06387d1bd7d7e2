import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ecsnet.ahead import batches_of_equal_shape, in_order, one_behind, read_ahead, side_threads
from ecsnet.errors import UserError
from ecsnet.tables import ImageRecord

CPU = torch.device("cpu")


def record(name, width=40, height=30):
    return ImageRecord(name, f"{name}.png", width, height, (1,), "")


def ids(batches):
    return [[one.id for one in batch] for batch in batches]


def test_equal_shapes_go_together_and_rests_come_at_the_end():
    wide, tall = [record(name) for name in "abcde"], [record(name, 30, 40) for name in "vwx"]
    mixed = [wide[0], tall[0], wide[1], wide[2], tall[1], wide[3], tall[2], wide[4]]
    assert ids(batches_of_equal_shape(mixed, 2)) == [["a", "b"], ["v", "w"], ["c", "d"], ["x"], ["e"]]


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 2)), max_size=30), st.integers(1, 5))
def test_every_image_goes_once_and_alone_in_its_order(shapes, size):
    records = [record(str(number), *shape) for number, shape in enumerate(shapes)]
    batches = list(batches_of_equal_shape(records, size))
    assert sorted(one.id for batch in batches for one in batch) == sorted(one.id for one in records)
    assert all(len(batch) <= size and len({(r.width, r.height) for r in batch}) == 1 for batch in batches)
    assert len(batches) == sum(-(-shapes.count(shape) // size) for shape in set(shapes))
    assert [batch[0] for batch in batches_of_equal_shape(records, 1)] == records


def test_pictures_are_those_of_their_records_in_0_to_1(tmp_path):
    generator = np.random.default_rng(0)
    pictures = {name: generator.integers(0, 256, (30, 40, 3), dtype=np.uint8) for name in "abc"}
    for name, picture in pictures.items():
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
    records = [record(name) for name in pictures]
    for threads in (1, 4):
        found = list(read_ahead(tmp_path, records, 2, CPU, threads))
        assert [len(batch) for batch, _ in found] == [2, 1]
        for batch, tensors in found:
            assert (tensors.shape[1:], tensors.dtype) == ((3, 30, 40), torch.float32)
            for one, tensor in zip(batch, tensors, strict=True):
                assert np.array_equal((tensor.permute(1, 2, 0) * 255).round().byte(), pictures[one.id])


def test_items_come_one_behind():
    made = []

    def items():
        for number in range(3):
            made.append(number)
            yield number

    seen = [(item, len(made)) for item in one_behind(items())]
    assert seen == [(0, 2), (1, 3), (2, 3)]
    assert list(one_behind([])) == []


def test_a_picture_that_is_gone_ends_the_stream_where_it_would_stand(tmp_path):
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(tmp_path / "a.png")
    stream = read_ahead(tmp_path, [record("a"), record("b")], 1, CPU)
    assert next(stream)[0][0].id == "a"
    with pytest.raises(UserError, match=r"b\.png: no such picture"):
        next(stream)


@given(st.lists(st.integers(0, 3), max_size=12), st.integers(1, 4))
def test_results_come_in_the_calls_order(delays, threads):
    def late(number, delay):
        time.sleep(delay / 1000)
        return number

    calls = ((late, number, delay) for number, delay in enumerate(delays))
    assert list(in_order(calls, threads)) == list(range(len(delays)))


def test_calls_are_fetched_by_the_caller_and_few_of_them_wait():
    fetched, fetchers = [], set()

    def calls():
        for number in range(20):
            fetched.append(number)
            fetchers.add(threading.get_ident())
            yield (lambda: threading.get_ident(),)

    workers = set()
    for count, worker in enumerate(in_order(calls(), 2), 1):
        workers.add(worker)
        assert len(fetched) <= count + 3
    assert fetchers == {threading.get_ident()}
    assert threading.get_ident() not in workers


def test_a_batch_is_fetched_while_threads_still_work_on_the_one_before():
    """Of batches of four: the next one comes when at most a thread's one and four more are undone."""
    fetched, release = [], threading.Event()

    def calls():
        for number in range(12):
            fetched.append(number)
            yield (release.wait,)

    results = in_order(calls(), 1, 4)
    threading.Timer(0.2, release.set).start()
    next(results)
    assert len(fetched) == 9
    assert len(list(results)) == 11


def test_an_error_comes_in_its_place_and_what_waits_is_not_begun():
    begun = []

    def work(number):
        begun.append(number)
        if number == 1:
            raise UserError("one is broken")
        return number

    results = in_order(((work, number) for number in range(100)), 1)
    assert next(results) == 0
    with pytest.raises(UserError, match="one is broken"):
        next(results)
    assert len(begun) < 6


def test_a_cpus_cores_are_the_networks():
    assert side_threads(CPU, 16) == 1
    assert side_threads(torch.device("cuda"), 16) == 8
    assert side_threads(torch.device("cuda"), 1) == 1
