"""`snakemake --lint` has nothing to say."""

import os
import subprocess
import sys

from conftest import REPOSITORY


def test_snakemake_finds_nothing(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "snakemake", "--lint", "--snakefile", str(REPOSITORY / "Snakefile")],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, text=True, capture_output=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert "Lints for" not in result.stderr, result.stderr
    assert result.returncode == 0, result.stderr
