"""The three networks on one backbone: classifier, ECS-Net, DeepLab; and their files."""

import contextlib
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import DeepLabHead

from .backbone import Features, load_imagenet, write_weights
from .errors import UserError
from .settings import Backbone, Training, parse


class Classifier(nn.Module):
    """Image tags by global average pooling of class activation maps (Zhou et al., CVPR 2016).

    A 1×1 convolution without bias gives one map per class; a class's score is its map's mean.
    """

    def __init__(self, backbone: Backbone, classes: Sequence[str]) -> None:
        super().__init__()
        self.spec: dict[str, Any] = {"backbone": _construction(backbone), "classes": list(classes)}
        self.features = Features(backbone)
        self.cam_head = nn.Conv2d(self.features.channels, len(classes), 1, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Class maps [B, C, h, w], before the ReLU, of images [B, 3, H, W] in [0, 1]."""
        return self.cam_head(self.features(images))


class EcsNet(Classifier):
    """The classifier with a segmentation head beside its class maps (ECS-Net).

    The head is a dilated 3×3 convolution (DeepLab's large field of view) and a 1×1 convolution to
    the classes and background.
    """

    def __init__(self, backbone: Backbone, classes: Sequence[str], channels: int, dilation: int) -> None:
        super().__init__(backbone, classes)
        self.spec |= {"channels": channels, "dilation": dilation}
        self.segmentation_head = nn.Sequential(
            nn.Conv2d(self.features.channels, channels, 3, padding=dilation, dilation=dilation, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Dropout(0.1),
            nn.Conv2d(channels, len(classes) + 1, 1),
        )

    def both(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Class maps [B, C, h, w] and segmentation logits [B, 1 + C, h, w]."""
        features = self.features(images)
        return self.cam_head(features), self.segmentation_head(features)

    def segment(self, images: Tensor) -> Tensor:
        """Segmentation logits [B, 1 + C, h, w], background first."""
        return self.segmentation_head(self.features(images))


class DeepLab(nn.Module):
    """DeepLab v3 (Chen et al., 2017): torchvision's ASPP head on the backbone's features."""

    def __init__(self, backbone: Backbone, classes: Sequence[str], atrous_rates: Sequence[int]) -> None:
        super().__init__()
        self.spec: dict[str, Any] = {
            "backbone": _construction(backbone),
            "classes": list(classes),
            "atrous_rates": list(atrous_rates),
        }
        self.features = Features(backbone)
        self.head = DeepLabHead(self.features.channels, len(classes) + 1, atrous_rates)

    def segment(self, images: Tensor) -> Tensor:
        """Segmentation logits [B, 1 + C, h, w], background first."""
        return self.head(self.features(images))


def _construction(backbone: Backbone) -> dict[str, Any]:
    """What is needed to build a backbone again; where its first weights came from is not, nor a path."""
    return {**asdict(backbone), "weights": "none"}


Network = Classifier | EcsNet | DeepLab
Kind = TypeVar("Kind", Classifier, EcsNet, DeepLab)


def save_network(
    path: Path, network: Network, settings: object = None, about: Mapping[str, Any] | None = None
) -> None:
    """Write a network's weights as safetensors, with its construction and settings in the metadata.

    Args:
        settings: dataclass of the training's settings; None if there are none.
        about: what else the metadata are to hold, for `read_about`; plain values.
    """
    about = {
        "settings": _without_paths(settings),
        **(about or {}),
        "kind": type(network).__name__,
        "spec": network.spec,
    }
    # one entry: safetensors writes several in an order that changes from one write to the next
    metadata = {"ecsnet": json.dumps(about, sort_keys=True)}
    state = {key: tensor.detach().cpu().contiguous() for key, tensor in network.state_dict().items()}
    write_weights(path, state, metadata)


def _without_paths(settings: Any) -> dict[str, Any] | None:
    if settings is None:
        return None
    values = asdict(settings)
    if "backbone" in values:
        values["backbone"]["weights"] = Path(values["backbone"]["weights"]).name
    return values


# the last five: metadata or tensors of no network that this version writes
_DAMAGED = (SafetensorError, OSError, LookupError, TypeError, AttributeError, ValueError, RuntimeError)


AGAIN = "delete it and run snakemake again"


def load_network(
    path: Path, kind: type[Kind], device: torch.device | str = "cpu", remedy: str = AGAIN
) -> Kind:
    """Read a network that `save_network` wrote onto a device, ready for inference.

    Raises:
        UserError: the file is missing, damaged, or holds another kind of network.
    """
    with _opened(path, remedy) as file:
        about = _about(file)
        found = about.get("kind", "unknown")
        if found != kind.__name__:
            raise UserError(f"{path}: holds a network of kind {found}, but {kind.__name__} is needed here")
        network = _build(kind, about["spec"])
        network.load_state_dict({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
    return network.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def read_about(path: Path) -> dict[str, Any]:
    """The metadata of a file that `save_network` wrote: kind, spec, settings and what else was given.

    Raises:
        UserError: the file is missing or damaged.
    """
    with _opened(path) as file:
        return dict(_about(file))


def _about(file: Any) -> Any:
    return json.loads((file.metadata() or {}).get("ecsnet", "{}"))


@contextlib.contextmanager
def _opened(path: Path, remedy: str = AGAIN) -> Iterator[Any]:
    """The file; whatever is wrong with it, found within the block too, is the user's to mend."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except FileNotFoundError:
        raise UserError(f"{path}: no such weights file; run the training that writes it") from None
    except UserError:
        raise
    except _DAMAGED as error:
        raise UserError(f"{path}: damaged weights file ({error}); {remedy}") from None


def _build(kind: type[Kind], spec: dict) -> Kind:
    backbone = parse(Backbone, spec.pop("backbone"), "backbone")
    return kind(backbone, **spec)


def freeze_batch_norm(module: nn.Module) -> None:
    """Let batch norm layers use their stored statistics, and keep those and their affine part fixed."""
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.eval()
            layer.requires_grad_(False)


def freeze_levels(features: Features, count: int) -> None:
    """Keep a backbone's first `count` feature levels, and all layers before them, as they are."""
    if count == 0:
        return
    info: Any = features.body.feature_info
    levels = [level["module"] for level in info.info]
    learning = levels.index(info.module_name()[-1])
    if count > learning:
        raise UserError(
            f"frozen_levels: {count}, but the backbone has {learning + 1} levels up to the one used; "
            f"{learning} at most leave one to learn"
        )
    last = levels[count - 1]
    for name, module in features.body.named_modules():
        if name in (last, last.replace(".", "_")):
            _freeze(module)
            return
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def _freeze(module: nn.Module) -> None:
    module.requires_grad_(False)
    freeze_batch_norm(module)


def set_training_mode(network: Network, settings: Training) -> None:
    """Training mode, with the backbone's first levels and its batch norm frozen or not.

    New heads always learn their statistics, except where a batch of one leaves nothing to learn
    from.
    """
    network.train()
    freeze_levels(network.features, settings.frozen_levels)
    if settings.batch_norm == "frozen":
        freeze_batch_norm(network.features)
    if settings.batch_size == 1:
        warnings.warn("a batch of one image: all batch norm is frozen", stacklevel=2)
        freeze_batch_norm(network)


def new_network(network: Callable[[], Kind], seed: int, imagenet: Path | None) -> Kind:
    """Build a network with its new layers drawn from `seed`, its backbone from a weights file.

    Args:
        network: builds it, with torch's own draws.
        imagenet: weights of the backbone (see `backbone.load_imagenet`); random without.
    """
    torch.manual_seed(seed)
    built = network()
    if imagenet:
        load_imagenet(built.features.body, imagenet, built.spec["backbone"]["name"])
    return built
