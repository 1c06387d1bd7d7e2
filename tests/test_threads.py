from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from ecsnet import threads
from ecsnet.threads import mapped


@given(st.lists(st.integers(), max_size=30), st.integers(1, 10))
def test_every_item_once_and_in_order(items, at_once):
    before, threads.AT_ONCE = threads.AT_ONCE, at_once
    try:
        with ThreadPoolExecutor(3) as pool:
            assert list(mapped(pool, lambda item: item + 1, items)) == [item + 1 for item in items]
    finally:
        threads.AT_ONCE = before


def test_no_more_is_begun_than_is_asked_for():
    begun = []
    with ThreadPoolExecutor(1) as pool:
        results = mapped(pool, begun.append, range(threads.AT_ONCE * 3))
        next(results)
    assert len(begun) <= threads.AT_ONCE
