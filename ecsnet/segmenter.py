"""A trained network as a file to pass on, which `pack_model` writes: what anyone needs to segment with it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .errors import UserError
from .folding import load_folded
from .networks import AGAIN, DeepLab, read_about
from .settings import Predict, parse
from .store import file_fingerprint

REMEDY = "give a trained network, results/<run>/segmenter.safetensors"
LONGEST_SIDE = 500
"""VOC's, of a file that does not say it."""


@dataclass(frozen=True)
class Segmenter:
    """A network and how to use it.

    Attributes:
        network: ready for inference.
        predict: views and refinement.
        longest_side: in pixels, of the pictures that it learned from.
        licence: a note; empty without one.
        digest: of the file.
    """

    network: DeepLab
    predict: Predict
    longest_side: int
    licence: str
    digest: str

    @property
    def names(self) -> list[str]:
        """The classes in the order of mask values, background first."""
        return ["background", *self.network.spec["classes"]]


def load_segmenter(path: Path, device: torch.device | str = "cpu") -> Segmenter:
    """The network of a file by `pack_model`, or of a training, which then is used with the defaults.

    Raises:
        UserError: the file is missing, damaged, or of another kind.
    """
    if not path.is_file():
        raise UserError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}; {REMEDY}")
    about = _about_segmenter(path)
    network = load_folded(path, DeepLab, device, REMEDY)
    if "predict" not in about:
        print(f"{path}: does not say how to predict (segmenter.safetensors of the run does): by the defaults")
    return Segmenter(
        network=network,
        predict=parse(Predict, about.get("predict", {}), f"{path}: predict"),
        longest_side=about.get("preprocessing", {}).get("longest_side", LONGEST_SIDE),
        licence=about.get("licence", ""),
        digest=file_fingerprint(path),
    )


def _about_segmenter(path: Path) -> dict[str, Any]:
    """What a file says of itself, refused in the words of one who has no run to repeat."""
    try:
        about = read_about(path)
    except UserError as error:
        raise UserError(str(error).replace(AGAIN, REMEDY)) from None
    kind = about.get("kind")
    if kind is None:
        raise UserError(f"{path}: is no network of ecsnet's; {REMEDY}")
    if kind != DeepLab.__name__:
        found = f"holds a network of kind {kind}, but {DeepLab.__name__} is needed here"
        raise UserError(f"{path}: {found}; {REMEDY}")
    return about
