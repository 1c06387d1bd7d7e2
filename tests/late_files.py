"""A shared file system that shows a job's files late; run by the stand-in for a scheduler when a job ends.

`hide` takes away what a job has written, and leaves a process behind that puts it back: first logs,
then what rules name, and, when another job waits for them, label images, which tables name: a half first.
"""

import contextlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

SECONDS = 2
"""How late logs are, and then what rules name."""
LABEL_SECONDS = 300
"""How late label images are at most: no job that reads them begins later than that."""
OF_THE_HEAD = re.compile(r"/(predict|summary)\.csv$|/(gather|summary)\.[\w.]+$|/\.")
"""What is written by the process that submits, and files that are being written."""


def hide(queue: Path, number: str, begun: int) -> None:
    written = [path for name in ("results", "logs") for path in Path(name).rglob("*") if path.is_file()]
    # a half that stands for an earlier job's label is new, too, and not this job's to put back
    halves = {path.relative_to(aside) for aside in (queue / "hidden").glob("*") for path in aside.rglob("*")}
    for path in written:
        if path not in halves and path.stat().st_mtime_ns >= begun and not OF_THE_HEAD.search(str(path)):
            aside = queue / "hidden" / number / path
            aside.parent.mkdir(parents=True, exist_ok=True)
            path.rename(aside)
    subprocess.Popen(
        [sys.executable, __file__, "show", number], stdin=subprocess.DEVNULL, start_new_session=True
    )


def show(queue: Path, number: str) -> None:
    hidden = queue / "hidden" / number
    files = sorted(path.relative_to(hidden) for path in hidden.rglob("*") if path.is_file())
    labels = [path for path in files if path.suffix == ".png" and path.parent.name != "figures"]
    logs = [path for path in files if path.suffix == ".log"]
    for group in (logs, set(files) - {*logs, *labels}):
        time.sleep(SECONDS)
        for path in group:
            if path.exists():  # by somebody who did not wait
                (queue / "overwritten").open("a").write(f"{path}\n")
            (hidden / path).rename(path)
    if not labels:
        return
    # not by time: the machine may be slow, and other jobs may come before the one that reads them
    end = time.monotonic() + LABEL_SECONDS
    while not is_waited_for(labels) and time.monotonic() < end:
        time.sleep(0.5)
    for path in labels:
        content = (hidden / path).read_bytes()
        path.write_bytes(content[: len(content) // 2])
    time.sleep(SECONDS)
    for path in labels:
        (hidden / path).rename(path)


def is_waited_for(labels: list[Path]) -> bool:
    """Whether a job's log says that it waits for labels of this stage, perhaps those of another shard."""
    stages = tuple("/".join(path.parts[:3]) + "/" for path in labels)
    for log in Path("logs").rglob("*.log"):
        with contextlib.suppress(FileNotFoundError):  # that job has ended, and its log was taken away
            lines = log.read_text().splitlines()
            if any(line.startswith(stages) and "waiting for the file system" in line for line in lines):
                return True
    return False


if __name__ == "__main__":
    folder = Path(os.environ["QUEUE"])
    if sys.argv[1] == "hide":
        hide(folder, sys.argv[2], int(sys.argv[3]))
    else:
        show(folder, sys.argv[2])
