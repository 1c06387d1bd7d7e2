"""`--software-deployment-method conda`, with a stand-in for conda that makes environments of this Python."""

import os
import subprocess
import sys

import yaml
from conftest import REPOSITORY
from test_workflow import CONFIG

# This one's packages are read from where they lie: those installed editable, as ecsnet, are not among them.
STAND_IN = """#!{python}
import subprocess, sys, sysconfig
from pathlib import Path

words = sys.argv[1:]
if words == ["--version"]:
    print("conda 99.9.9")
elif words[0] == "info":
    print('{{"conda_prefix": "{prefix}", "platform": "linux-64"}}')
elif words[0] == "clean":
    pass
elif words[0] == "config":
    print('{{"get": {{"channel_priority": "strict"}}}}')
elif words[:2] == ["env", "create"]:
    environment = Path(words[words.index("--prefix") + 1])
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    [packages] = environment.glob("lib/python*/site-packages")
    (packages / "stand_in.pth").write_text(sysconfig.get_path("purelib"))
else:
    sys.exit("unknown: " + " ".join(words))
"""
ACTIVATE = """
export CONDA_PREFIX=$(realpath "$1") PATH=$(realpath "$1")/bin:$PATH
type -P ecsnet >>{prefix}/commands || true
"""


def test_stages_run_in_the_environment_that_snakemake_makes(tmp_path):
    prefix = tmp_path / "conda"
    (prefix / "bin").mkdir(parents=True)
    for name, text in (("conda", STAND_IN), ("activate", ACTIVATE)):
        (prefix / "bin" / name).write_text(text.format(python=sys.executable, prefix=prefix))
        (prefix / "bin" / name).chmod(0o755)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    command = [
        sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile"), "--cores", "2",
        "--configfile", "config.yaml", "--software-deployment-method", "conda", "--",
        "results/tiny/prepare/val.csv",
    ]  # fmt: skip
    environment = {**os.environ, "PATH": f"{prefix}/bin:{os.environ['PATH']}"}
    environment.pop("PYTHONPATH", None)  # else ecsnet would be found without the environment
    said = subprocess.run(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stdout
    made = tmp_path / ".snakemake/conda"
    assert "prepare: done" in said.stdout
    own = [path.resolve() for path in made.glob("*/bin/ecsnet")]
    assert len(own) == 1
    commands = (prefix / "commands").read_text().split()
    assert set(commands[-2:]) == {str(own[0])}  # of the stages demo and prepare
