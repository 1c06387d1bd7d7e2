import pytest

from ecsnet.errors import UserError, raise_problems


def test_no_problem_no_error():
    raise_problems([], "Nothing:")


def test_all_problems_in_one_message():
    with pytest.raises(UserError, match=r"^Two things:\n  - a\n  - b$"):
        raise_problems(["a", "b"], "Two things:")


def test_a_long_list_is_cut_and_says_so():
    with pytest.raises(UserError, match=r"  - 1\n  … and 3 more$"):
        raise_problems(["0", "1", "2", "3", "4"], "Five things:", limit=2)
