"""Shared fixtures: tiny pictures and networks, so that tests run in seconds."""

from pathlib import Path

import pytest
import torch

from ecsnet.settings import Backbone

REPOSITORY = Path(__file__).parent.parent
SUBSET = REPOSITORY / "data" / "VOCdevkit" / "VOC2012"
RESNET50 = REPOSITORY.parent / "shared" / "weights" / "resnet50_v1_imagenet.safetensors"


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Small tensors gain nothing from threads, and results do not depend on the machine."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _same_draws() -> None:
    """Random weights and pictures are the same in every run."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a finished run by the real Snakefile, for all modules to read, and what it printed."""
    from test_workflow import snakemake

    folder = tmp_path_factory.mktemp("run")
    result = snakemake(folder)
    assert result.returncode == 0, result.stdout
    return folder, result.stdout


@pytest.fixture
def small_backbone() -> Backbone:
    """A backbone that is quick to build and run, with random weights."""
    return Backbone(name="resnet18", weights="none")
