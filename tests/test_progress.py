import pytest

from ecsnet.progress import Progress, clock


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3600, "1:00:00"), (7265, "2:01:05")]
)
def test_clock(seconds, text):
    assert clock(seconds) == text


def test_lines_tell_rate_and_time_left(capsys):
    progress = Progress("erase", 10, "images", interval=0)
    progress.done = 4
    line = progress.line(progress._start + 2.0, "loss 0.5")
    assert line == "erase  4/10   40 %  loss 0.5  2.0 images/s  0:03 left"


def test_a_resumed_training_counts_only_its_own_steps():
    progress = Progress("train_cam", 100, "steps", done=90)
    progress.done = 95
    assert "1.0 steps/s  0:05 left" in progress.line(progress._start + 5.0)


def test_lines_come_at_intervals_and_at_the_end(capsys):
    progress = Progress("erase", 3, "images", interval=1000)
    progress.step()
    progress.step()
    assert capsys.readouterr().out == ""
    progress.step()
    assert capsys.readouterr().out.startswith("erase  3/3  100 %")
