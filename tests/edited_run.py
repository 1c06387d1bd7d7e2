"""A finished run whose files can be edited and put back, and what Snakemake would run after an edit."""

import contextlib
import copy
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml

COMMAND = ["--cores", "2", "--configfile", "config.yaml"]

# Importing Snakemake takes longer than planning. So one process imports it, and each dry run is a fork.
PLANNER = """
import json, os, sys
import smart_open, snakemake.report.html_reporter  # Snakemake would import them later
from snakemake.cli import main
for line in sys.stdin:
    folder, arguments, output = json.loads(line)
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        sys.path[0] = os.environ["PYTHONPATH"] = folder
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        main(arguments)
        sys.exit()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class EditedRun:
    """A project folder of its own, code included, with `config.yaml`; edits are undone to the last byte.

    Attributes:
        folder: where the project is now.
        arguments: further arguments of snakemake.
        config: what `config.yaml` says; `set` changes it.
    """

    def __init__(self, folder: Path, config: dict) -> None:
        self.folder = folder
        self._home = folder
        self._planner: subprocess.Popen | None = None
        self.config = config
        self._reset()
        self.write("config.yaml", dump(config))
        self.accept()

    def plan(self) -> Counter:
        """The jobs that a dry run would run, by rule."""
        if self._planner is None:
            self._planner = subprocess.Popen(
                [sys.executable, "-c", PLANNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        output = self._home.with_name("plan.txt")
        request = [str(self.folder), [*COMMAND, *self.arguments, "--dry-run"], str(output)]
        self._planner.stdin.write(json.dumps(request) + "\n")
        self._planner.stdin.flush()
        assert self._planner.stdout.readline() == "0\n", output.read_text()
        return jobs_planned(output.read_text())

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess:
        """Run the folder's own Snakefile, on the folder's own `ecsnet`; targets come first."""
        command = [
            sys.executable,
            "-m",
            "snakemake",
            *arguments,
            *COMMAND,
            "--max-threads",
            "1",
            "--resources",
            "gpu=2",
        ]
        return subprocess.run(
            [*command, *self.arguments], cwd=self.folder, text=True, timeout=600, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=self.environment(),
        )  # fmt: skip

    def execute(self, *arguments: str) -> Counter:
        """Run for real; the jobs that were run, by rule."""
        self._keep_results()
        result = self.snakemake(*arguments)
        assert result.returncode == 0, result.stdout
        rules = re.findall(r"^(?:local)?rule (\w+):$", result.stdout, re.MULTILINE)
        return Counter(rule for rule in rules if rule != "all")

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self.folder)}

    def close(self) -> None:
        if self._planner:
            self._planner.communicate()

    def path(self, name: str) -> Path:
        return self.folder / name

    def files(self, *patterns: str) -> list[Path]:
        """The files that match, the oldest first; Snakemake's own and Python's caches left out."""
        found = {path for pattern in patterns for path in self.folder.glob(pattern) if path.is_file()}
        own = [path for path in found if not {".snakemake", "__pycache__"} & set(path.parts)]
        return sorted(own, key=lambda path: (path.stat().st_mtime_ns, path))

    def stamps(self) -> dict[Path, tuple[int, int]]:
        """Size and time of change of every file."""
        return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in self.files("**/*")}

    def write(self, name: str, content: str | bytes) -> None:
        """Write a file; its folder is made where there is none."""
        path = self.path(name)
        self.keep(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def replace(self, name: str, old: str, new: str) -> None:
        """Put a text in the place of another, which must be there."""
        content = self.path(name).read_text()
        assert old in content, (name, old)
        self.write(name, content.replace(old, new, 1))

    def append(self, name: str, text: str) -> None:
        self.write(name, self.path(name).read_text() + text)

    def remove(self, *names: str) -> None:
        for name in names:
            self.keep(self.path(name))
            self.path(name).unlink()

    def touch(self, files: Iterable[Path]) -> None:
        """Give the files new times, in their order."""
        now = time.time_ns()
        for number, path in enumerate(files):
            self.keep(path)
            os.utime(path, ns=(now, now + number * 1_000_000))

    def age(self, name: str) -> None:
        """Give a file a time long ago."""
        self.keep(self.path(name))
        os.utime(self.path(name), (10**9, 10**9))

    def copy_folder(self, old: str, new: str) -> None:
        """Copy a folder; its files have new times."""
        self._made.append(self.path(new))
        shutil.copytree(self.path(old), self.path(new), copy_function=shutil.copyfile)

    def set_aside(self, name: str) -> None:
        """Take a folder away."""
        self._aside.append((self.path(name), self._home.with_name("aside")))
        self.path(name).rename(self._aside[-1][1])

    def move(self, name: str) -> None:
        """Move the whole project to a folder beside its own."""
        self.folder = self._home.with_name(name)
        self._home.rename(self.folder)

    def copy(self, name: str) -> None:
        """Go on in a copy of the whole project whose files all have new times, in no order."""
        self.folder = self._home.with_name(name)
        self._made.append(self.folder)
        shutil.copytree(self._home, self.folder, copy_function=shutil.copyfile)

    def get(self, key: str) -> object:
        value = self.config
        for name in key.split("."):
            value = value[name]
        return value

    def set(self, key: str, value: object) -> None:
        """Change a setting, such as `erase.scales`."""
        *sections, name = key.split(".")
        place = self.config
        for section in sections:
            place = place.setdefault(section, {})
        assert place.get(name) != value, f"{key} is {value} already"
        place[name] = value
        self.write("config.yaml", dump(self.config))

    @contextlib.contextmanager
    def undone(self) -> Iterator[None]:
        """Undo the block's edits at its end."""
        try:
            yield
        finally:
            self.undo()

    def undo(self) -> None:
        """Put everything back, contents and times."""
        if not self._home.exists():
            self.folder.rename(self._home)
        self.folder = self._home
        for path, (content, status) in self._kept.items():
            if not path.exists() or path.read_bytes() != content:
                path.write_bytes(content)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        for path in self._made:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        for path, aside in self._aside:
            shutil.rmtree(path, ignore_errors=True)
            aside.rename(path)
        self.config = copy.deepcopy(self._config)
        self._reset()

    def accept(self) -> None:
        """Leave the edits as they are: `undo` comes back to here."""
        self._config = copy.deepcopy(self.config)
        self._reset()

    def _reset(self) -> None:
        self.arguments: list[str] = []
        self._kept: dict[Path, tuple[bytes, os.stat_result]] = {}
        self._made: list[Path] = []
        self._aside: list[tuple[Path, Path]] = []

    def _keep_results(self) -> None:
        for path in [*self.files(*MADE), *self.folder.glob(".snakemake/metadata/*")]:
            self.keep(path)

    def keep(self, path: Path) -> None:
        """Remember how a file was before its first edit."""
        if path in self._kept or not {path, *path.parents}.isdisjoint(self._made):
            return
        if path.exists():
            self._kept[path] = path.read_bytes(), path.stat()
        else:
            self._made.append(next(new for new in [*reversed(path.parents), path] if not new.exists()))


MADE = ("results/**/*", "resources/**/*", "logs/**/*")
"""What a run writes."""


def dump(config: dict) -> str:
    return yaml.safe_dump(config, sort_keys=False)


def jobs_planned(output: str) -> Counter:
    if "Nothing to be done" in output:
        return Counter()
    table = output.split("Job stats:")[-1].split("\n\n")[0]
    jobs = {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE)}
    assert sum(jobs.values()) == 2 * jobs["total"] > 0, output
    return Counter({rule: count for rule, count in jobs.items() if rule not in ("all", "total")})
