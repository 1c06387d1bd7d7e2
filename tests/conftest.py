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


@pytest.fixture
def small_backbone() -> Backbone:
    """A backbone that is quick to build and run, with random weights."""
    return Backbone(name="resnet18", weights="none")
