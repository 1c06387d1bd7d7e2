import json

import pytest
import torch
from safetensors.torch import save_file
from stage_data import CLASSES, make_data

from ecsnet import pack_model
from ecsnet.errors import UserError
from ecsnet.networks import DeepLab, load_network, read_about
from ecsnet.segmenter import LONGEST_SIDE, load_segmenter
from ecsnet.settings import PackModel, Predict, Refine


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data"))


def pack(data, out, licence="CC BY 4.0", weights="deeplab", **predict):
    pack_model.run(
        PackModel(licence=licence),
        predict=json.dumps(predict),
        images=data / "train.csv",
        weights=data / weights,
        out=out,
    )
    return out


def test_the_file_says_all_that_its_user_needs(data, tmp_path):
    out = pack(data, tmp_path / "segmenter.safetensors", scales=[1.0, 1.5], refine={"rounds": 3})
    about = read_about(out)
    assert about["spec"]["classes"] == CLASSES
    assert about["images"] == 4
    assert about["preprocessing"] == {
        "channels": "RGB",
        "range": [0, 1],
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "longest_side": 96,
    }
    segmenter = load_segmenter(out)
    assert segmenter.predict == Predict(scales=(1.0, 1.5), refine=Refine(rounds=3))
    assert (segmenter.longest_side, segmenter.licence) == (96, "CC BY 4.0")
    assert segmenter.names == ["background", *CLASSES]
    before, after = (load_network(path, DeepLab).state_dict() for path in (data / "deeplab", out))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_equal_settings_are_equal_bytes(data, tmp_path):
    first, second, third = (pack(data, tmp_path / name, scales=[1.0]) for name in "abc")
    assert first.read_bytes() == second.read_bytes()
    assert pack(data, third, scales=[1.5]).read_bytes() != first.read_bytes()


def test_the_weights_of_a_training_do_too(data, capsys):
    segmenter = load_segmenter(data / "deeplab")
    assert segmenter.predict == Predict()
    assert segmenter.longest_side == LONGEST_SIDE
    assert "does not say how to predict" in capsys.readouterr().out


def test_other_networks_are_refused(data, tmp_path):
    with pytest.raises(UserError, match="holds a network of kind EcsNet, but DeepLab is needed"):
        pack(data, tmp_path / "out", weights="ecsnet")
    assert not list(tmp_path.iterdir())


def test_what_to_give_is_said(data, tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((data / "deeplab").read_bytes()[:999])
    remedy = r"; give a trained network, results/<run>/segmenter\.safetensors$"
    for path, problem in (
        (data / "classifier", "holds a network of kind Classifier, but DeepLab is needed here"),
        (tmp_path / "foreign.safetensors", "is no network of ecsnet's"),
        (tmp_path / "cut.safetensors", "damaged weights file .*"),
        (tmp_path, "is a folder"),
        (tmp_path / "absent", "no such file"),
    ):
        with pytest.raises(UserError, match=f": {problem}{remedy}"):
            load_segmenter(path)
