import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ecsnet import predict
from ecsnet.copies import to_host
from ecsnet.errors import UserError
from ecsnet.networks import DeepLab
from ecsnet.palette import read_mask
from ecsnet.predict import possible_winners, segment, write_label
from ecsnet.refine import refine
from ecsnet.settings import Predict, Refine, Runtime
from ecsnet.store import file_fingerprint
from ecsnet.tables import ImageRecord


def test_winners_by_hand():
    # 0.05 < 1/4; then 0.1 < 0.95/3; then 0.6 and 0.9 share at least 0.85
    assert possible_winners(np.array([0.9, 0.05, 0.6, 0.1])).tolist() == [0, 2]
    assert possible_winners(np.array([0.05, 0.2, 0.9])).tolist() == [2]
    assert possible_winners(np.full(4, 0.25)).tolist() == [0, 1, 2, 3]
    assert possible_winners(np.array([1.0])).tolist() == [0]


def test_scores_that_are_no_numbers_are_refused():
    with pytest.raises(UserError, match=r"not finite; set runtime\.precision to float32"):
        possible_winners(np.array([0.5, np.nan]))


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.floats(0.1, 8))
def test_a_class_that_is_left_out_is_the_best_nowhere(seed, count, sharpness):
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(1, 3, 16, 12, generator=generator)
    scores = (sharpness * torch.randn(count, 8, 6, generator=generator)).softmax(0)
    winners = possible_winners(scores.amax((1, 2)).numpy())
    for rounds in (0, 3):
        [refined] = refine([scores], image, Refine(rounds=rounds, size=0.5, dilations=(1, 2)))
        assert set(refined.argmax(0).flatten().tolist()) <= set(winners.tolist())


def test_a_label_is_written_with_the_classes_own_numbers(tmp_path):
    scores = torch.tensor([[[0.9, 0.1]], [[0.1, 0.9]]])
    record = ImageRecord("cat", "cat.jpg", 2, 1, (), "")
    [scores] = to_host([scores])
    label = write_label(tmp_path / "predict", record, scores, np.array([0, 7]))
    assert label.label == "predict/cat.png"
    assert label.fingerprint == file_fingerprint(tmp_path / label.label)
    assert read_mask(tmp_path / label.label).tolist() == [[0, 7]]


def test_half_precision_changes_few_labels(small_backbone, monkeypatch):
    """As a card computes, here on the CPU; of photographs: benchmarks/tables/cpu/precision.md."""
    network = DeepLab(small_backbone, ["cat", "dog"], (2, 4)).eval()
    coarse = torch.rand(2, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    pictures = torch.nn.functional.interpolate(coarse, (96, 128), mode="bilinear")
    with torch.inference_mode():
        exact = list(segment(network, pictures, Predict(), Runtime(device="cpu")))
        monkeypatch.setattr(predict, "autocast", lambda *_: torch.autocast("cpu", torch.bfloat16))
        half = list(segment(network, pictures, Predict(), Runtime(device="cpu")))
    for (one, classes), (other, others) in zip(exact, half, strict=True):
        assert not np.array_equal(one.array(), other.array())
        assert len(classes) > 1
        same = classes[one.array().argmax(0)] == others[other.array().argmax(0)]
        assert same.mean() > 0.98
