"""`ecsnet export`: a trained network for other programs, as ONNX or torch.export, checked against torch."""

import copy
import json
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn
from torch.nn import functional

from . import __version__
from .errors import UserError
from .networks import DeepLab
from .segmenter import Segmenter, load_segmenter
from .store import atomic_path

TOLERANCE = 1e-3
"""The most that a probability may differ from torch's."""
SMALLEST, LARGEST = 33, 4096
SHAPES = ((1, 97, 129), (2, 160, 64), (1, 321, 257))
"""Batch, height and width of the pictures that are compared."""


class Exported(nn.Module):
    """Probabilities [B, 1 + C, H, W] of pictures [B, 3, H, W] in [0, 1], of any size, by one view alone.

    `predict`, which averages over views and refines by the picture's edges, is more exact.
    """

    def __init__(self, network: DeepLab) -> None:
        super().__init__()
        self.network = network
        self.stride = network.features.stride

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        # lengths that suit a corner-aligned network; see views.aligned_side
        size = [(side - 1 + self.stride // 2) // self.stride * self.stride + 1 for side in (height, width)]
        fitting = functional.interpolate(images, size, mode="bilinear", align_corners=True)
        scores = self.network.segment(fitting).softmax(1)
        return functional.interpolate(scores, (height, width), mode="bilinear", align_corners=True)


def run(*, model: Path, out: Path) -> None:
    """Write the network as .onnx or .pt2, for pictures of any size and number.

    Args:
        model: file by `pack_model`.
        out: its ending says which.

    Raises:
        UserError: the ending is another, a package is missing, or the result differs from torch's.
    """
    writers = {".onnx": write_onnx, ".pt2": write_exported}
    if out.suffix not in writers:
        raise UserError(f"{out}: write to a file that ends in {' or '.join(writers)}")
    segmenter = load_segmenter(model)
    network = Exported(segmenter.network).eval()
    traced = Exported(padded_plainly(segmenter.network)).eval()
    with atomic_path(out) as temporary:
        # by its ending torch knows what it is to write
        place = temporary.with_name(temporary.name + out.suffix)
        try:
            place.touch()  # where that is not allowed, it is known before minutes of work
            answers = writers[out.suffix](traced, segmenter, place)
            difference = compare(network, answers)
            if not difference <= TOLERANCE:
                raise UserError(
                    f"{out}: differs from torch by {difference:.2g}, more than {TOLERANCE}; not written"
                )
            place.replace(temporary)
        finally:
            place.unlink(missing_ok=True)
    print(f"{out}: {out.stat().st_size / 1e6:.0f} MB; differs from torch by {difference:.1g} at most")


def padded_plainly(network: DeepLab) -> DeepLab:
    """A copy whose convolutions that pad as TensorFlow does, by the picture's size, pad by a constant.

    Nothing changes: a side of a multiple of the stride and one is odd before each of its halvings, and then
    that padding is the same on both sides, whatever the side. What traces the network is spared the formula.
    """
    plain = copy.deepcopy(network)
    for layer in plain.modules():
        if isinstance(layer, Conv2dSame):
            layer.__class__ = nn.Conv2d  # type: ignore[assignment]
            sides = zip(layer.kernel_size, layer.dilation, strict=True)
            layer.padding = tuple(dilation * (kernel - 1) // 2 for kernel, dilation in sides)
    return plain


def compare(network: nn.Module, answers: Callable[[Tensor], Tensor]) -> float:
    """The largest difference between a network and another program's answers, on pictures of some shapes."""
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    with torch.inference_mode():
        for batch, height, width in SHAPES:
            images = torch.rand(batch, 3, height, width, generator=generator)
            worst = max(worst, float((network(images) - answers(images)).abs().max()))
    return worst


def dynamic_shapes() -> dict:
    """Any number of pictures, of any size that a network can see."""
    any_of = torch.export.Dim
    sides = {2: any_of("height", min=SMALLEST, max=LARGEST), 3: any_of("width", min=SMALLEST, max=LARGEST)}
    return {"images": {0: any_of("batch", min=1, max=1024), **sides}}


def example() -> tuple[Tensor]:
    """Pictures to trace with: of no two equal lengths, so that none is taken for another."""
    return (torch.rand(2, 3, 97, 129),)


def write_exported(network: nn.Module, segmenter: Segmenter, out: Path) -> Callable[[Tensor], Tensor]:
    """Write a program of torch.export; what it answers when it is read back."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own inner workings
        program = torch.export.export(network, example(), dynamic_shapes=dynamic_shapes())
        torch.export.save(program, out, extra_files={"ecsnet.json": json.dumps(about(segmenter))})
    return torch.export.load(out).module()


def write_onnx(network: nn.Module, segmenter: Segmenter, out: Path) -> Callable[[Tensor], Tensor]:
    """Write an ONNX model; what onnxruntime answers from it."""
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 - torch.onnx needs it
    except ModuleNotFoundError as error:
        raise UserError(
            f"ONNX needs {error.name}: pip install onnx onnxruntime onnxscript, or write a .pt2 file"
        ) from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            example(),
            dynamo=True,
            input_names=["images"],
            output_names=["probabilities"],
            dynamic_shapes=dynamic_shapes(),
            verbose=False,
        )
    assert program is not None  # with dynamo there is one
    onnx_model = program.model_proto
    onnx.helper.set_model_props(onnx_model, {"ecsnet": json.dumps(about(segmenter))})
    onnx.save(onnx_model, out)
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])

    def answers(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])

    return answers


def about(segmenter: Segmenter) -> dict:
    """What the file says of itself."""
    return {
        "version": __version__,
        "classes": segmenter.names,
        "licence": segmenter.licence,
        "input": "images: float32 [batch, 3, height, width], RGB in 0..1, the longest side near "
        f"{segmenter.longest_side}",
        "output": "probabilities: float32 [batch, classes, height, width]",
    }
