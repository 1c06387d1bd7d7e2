#!/bin/sh
# The commands of all stages: ecsnet itself, linked to where the Snakefile has it (rules/common.smk), so that
# the environment never holds another version than the one that plans the run.
set -eu
packages=$("$CONDA_PREFIX/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
ln -sfn "$ECSNET_PACKAGE" "$packages/ecsnet"
printf '#!%s\nimport sys\n\nfrom ecsnet.cli import main\n\nsys.exit(main())\n' "$CONDA_PREFIX/bin/python" \
    >"$CONDA_PREFIX/bin/ecsnet"
chmod +x "$CONDA_PREFIX/bin/ecsnet"
