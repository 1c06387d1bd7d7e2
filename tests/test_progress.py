import io
import os
import pty
import subprocess
import sys

import pytest
from conftest import REPOSITORY

from ecsnet.progress import Progress, clock, say, speed
from ecsnet.terminal import listed, painted


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3600, "1:00:00"), (7265, "2:01:05")]
)
def test_clock(seconds, text):
    assert clock(seconds) == text


def test_lines_tell_rate_and_time_left(capsys):
    progress = Progress("erase", 10, "images", interval=0)
    progress.done = 4
    line = progress.line(progress._start + 2.0, "loss 0.5")
    assert line == "erase   4/10   40 %  loss 0.5  2.0 images/s  0:03 left"


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


@pytest.mark.parametrize(
    ("rate", "text"),
    [(0.0, "0.0 steps/s"), (0.25, "4.0 s/step"), (0.949, "1.1 s/step"), (12.34, "12.3 steps/s")],
)
def test_slow_rates_are_seconds(rate, text):
    assert speed(rate, "steps") == text


STEPS = """
import sys, time
from ecsnet.progress import Progress, say
Progress.vanishes = "vanish" in sys.argv
progress = Progress("erase", 3, "images", interval=0)
progress.step(note="loss 0.5")
if "say" in sys.argv:
    say("a note")
progress.step()
progress.step()
print("the end")
"""


def on_terminal(*words, **variables):
    """What a program writes to a terminal of 40 columns."""
    ours, its = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "40", "TERM": "xterm", **variables}
    with subprocess.Popen([sys.executable, "-c", STEPS, *words], stdout=its, env=environment) as process:
        os.close(its)
        written = b""
        while True:
            try:
                part = os.read(ours, 1000)
            except OSError:  # how a terminal ends on Linux
                break
            if not part:
                break
            written += part
    os.close(ours)
    assert process.returncode == 0
    return written.decode().replace("\r\n", "\n")


def test_one_line_is_rewritten_on_a_terminal():
    _, first, second, third = on_terminal().split("\r")
    assert first.startswith("erase  1/3   33 %  loss 0.5")
    assert first.endswith("\x1b[K")
    assert len(first) <= 39 + len("\x1b[K")  # one row
    assert second.startswith("erase  2/3   67 %")
    assert third.split("\n")[1:] == ["the end", ""]


def test_another_line_meanwhile_has_its_own_row():
    rows = on_terminal("say").split("\n")
    assert rows[0].startswith("\rerase  1/3")
    assert rows[1] == "a note"
    assert rows[2].startswith("\rerase  2/3")


def test_a_commands_line_vanishes():
    assert on_terminal("vanish").endswith("\r\x1b[Kthe end\n")
    assert on_terminal("vanish", TERM="dumb").count("erase") == 2


def test_plain_lines_where_a_terminal_cannot_rewrite():
    text = on_terminal(TERM="dumb")
    assert "\r" not in text
    assert text.count("\n") == 4


def test_say_in_a_log(capsys):
    say("a note")
    assert capsys.readouterr().out == "a note\n"


class Terminal:
    def isatty(self):
        return True


def test_colours_only_where_they_are_wanted(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert painted("problem", "red", Terminal()) == "\x1b[31mproblem\x1b[0m"
    assert painted("problem", "red", io.StringIO()) == "problem"
    monkeypatch.setenv("NO_COLOR", "1")
    assert painted("problem", "red", Terminal()) == "problem"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert painted("problem", "red", Terminal()) == "problem"


def test_lists_are_aligned_and_narrow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    text = listed([("a", "one two three four five six"), ("name", "short")])
    assert text.splitlines() == [
        "  a     one two three four",
        "        five six",
        "  name  short",
    ]
