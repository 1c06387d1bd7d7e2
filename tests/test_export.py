import json

import pytest
import torch
from stage_data import CLASSES, make_data
from test_pack_model import pack
from timm.layers import Conv2dSame

from ecsnet import export
from ecsnet.errors import UserError
from ecsnet.export import TOLERANCE, Exported, padded_plainly
from ecsnet.networks import DeepLab, save_network
from ecsnet.segmenter import load_segmenter
from ecsnet.settings import Backbone


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    data = make_data(tmp_path_factory.mktemp("data"))
    return pack(data, data / "segmenter.safetensors")


def pictures():
    return torch.rand(1, 3, 50, 75), torch.rand(3, 3, 111, 64)  # none of what is compared by export itself


def answers(model):
    network = Exported(load_segmenter(model).network).eval()
    with torch.inference_mode():
        return [network(images) for images in pictures()]


def test_probabilities_have_the_pictures_size(model):
    for images, scores in zip(pictures(), answers(model), strict=True):
        assert scores.shape == (len(images), len(CLASSES) + 1, *images.shape[2:])
        assert torch.allclose(scores.sum(1), torch.ones(()), atol=1e-5)


def test_onnx_answers_as_torch_does(model, tmp_path, capsys):
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(1)
    export.run(model=model, out=tmp_path / "segmenter.onnx")
    assert "differs from torch by" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(tmp_path / "segmenter.onnx")
    about = json.loads(session.get_modelmeta().custom_metadata_map["ecsnet"])
    assert about["classes"] == ["background", *CLASSES]
    assert about["licence"] == "CC BY 4.0"
    torch.manual_seed(2)
    given = pictures()
    torch.manual_seed(2)
    for images, expected in zip(given, answers(model), strict=True):
        [found] = session.run(None, {"images": images.numpy()})
        assert abs(found - expected.numpy()).max() <= TOLERANCE
    assert [path.name for path in tmp_path.iterdir()] == ["segmenter.onnx"]


def test_torch_export_answers_as_torch_does(model, tmp_path):
    export.run(model=model, out=tmp_path / "segmenter.pt2")
    extra = {"ecsnet.json": ""}
    program = torch.export.load(tmp_path / "segmenter.pt2", extra_files=extra).module()
    assert json.loads(extra["ecsnet.json"])["classes"] == ["background", *CLASSES]
    torch.manual_seed(2)
    given = pictures()
    torch.manual_seed(2)
    with torch.inference_mode():
        for images, expected in zip(given, answers(model), strict=True):
            assert (program(images) - expected).abs().max() <= TOLERANCE


LITE = "tf_efficientnet_lite0"


@pytest.mark.parametrize(("level", "stride"), [(-1, 32), (-1, 16), (-2, 16)])
def test_padding_by_a_constant_changes_nothing(level, stride):
    network = DeepLab(Backbone(name=LITE, weights="none", level=level, output_stride=stride), CLASSES, (2, 4))
    network = Exported(network).eval()
    plain = Exported(padded_plainly(network.network)).eval()
    assert not any(isinstance(layer, Conv2dSame) for layer in plain.modules())
    with torch.inference_mode():
        for images in pictures():
            assert torch.allclose(network(images), plain(images), atol=1e-6)


def test_torch_export_of_a_backbone_that_pads_as_tensorflow(tmp_path):
    backbone = Backbone(name=LITE, weights="none")
    save_network(tmp_path / "model", DeepLab(backbone, CLASSES, (2, 4)))
    export.run(model=tmp_path / "model", out=tmp_path / "segmenter.pt2")


def test_another_result_is_not_written(model, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "write_exported", lambda _network, _segmenter, out: out.write_bytes(b"?"))
    monkeypatch.setattr(export, "compare", lambda *_: float("nan"))
    with pytest.raises(UserError, match="differs from torch by nan"):
        export.run(model=model, out=tmp_path / "segmenter.pt2")
    assert not list(tmp_path.iterdir())


def test_the_ending_says_the_format(model, tmp_path):
    with pytest.raises(UserError, match=r"write to a file that ends in \.onnx or \.pt2"):
        export.run(model=model, out=tmp_path / "segmenter.tflite")
