import pytest

from ecsnet.errors import UserError, raise_problems
from ecsnet.report import Report, told


def test_no_problem_no_error():
    raise_problems([], "Nothing:")


def test_all_problems_in_one_message():
    with pytest.raises(UserError, match=r"^Two things:\n  - a\n  - b$"):
        raise_problems(["a", "b"], "Two things:")


def test_a_long_list_is_cut_and_says_so():
    with pytest.raises(UserError, match=r"  - 1\n  … and 3 more$"):
        raise_problems(["0", "1", "2", "3", "4"], "Five things:", limit=2)


def test_who_cuts_the_list_himself_has_all_of_it(capsys):
    with pytest.raises(UserError) as error:
        raise_problems([f"mask {number}" for number in range(60)], "The masks have 60 mistakes:")
    texts, head = told(error.value)
    assert (len(texts), texts[-1], head) == (60, "mask 59", "The masks have 60 mistakes")
    report = Report()
    report.many("masks", texts, head)
    assert report.problems == 60
    assert "… and 50 more; The masks have 60 mistakes\n" in capsys.readouterr().out
