"""`snakemake --lint`: what it says, and what of it is meant (CONTRIBUTING.md says why)."""

import os
import re
import subprocess
import sys

from conftest import REPOSITORY


def test_snakemake_finds_nothing_that_is_not_meant(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "snakemake", "--lint", "--snakefile", str(REPOSITORY / "Snakefile")],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, text=True, capture_output=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert not re.search(r"^Lints for snakefile", result.stderr, re.MULTILINE), result.stderr
    titles = set(re.findall(r"^    \* (.*):$", result.stderr, re.MULTILINE))
    assert titles == {"Specify a conda environment or container for each rule."}
