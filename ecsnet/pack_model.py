"""Stage `pack_model`: the final network in one file to pass on, which says what it is."""

from dataclasses import asdict
from pathlib import Path

from . import __version__
from .networks import DeepLab, load_network, read_about, save_network
from .settings import PackModel, Predict, parse_json
from .tables import read_images


def run(settings: PackModel, *, predict: str, images: Path, weights: Path, out: Path) -> None:
    """Write the network with its classes, its preprocessing, how it is to predict, and a note on its licence.

    Args:
        settings: section `pack_model`.
        predict: section `predict` as JSON.
        images: table of the training images; pictures are brought to the longest side that it has.
        weights: the trained network.
        out: safetensors file. Its metadata have the JSON text `ecsnet`, which docs/own-data.md describes.

    Raises:
        UserError: the weights or the table are missing or damaged.
    """
    network = load_network(weights, DeepLab)
    records = read_images(images, network.spec["classes"])
    about = {
        "version": __version__,
        "licence": settings.licence,
        "images": len(records),
        "predict": asdict(parse_json(Predict, predict, "predict")),
        "preprocessing": {
            "channels": "RGB",
            "range": [0, 1],
            "mean": [round(value, 6) for value in network.features.mean.flatten().tolist()],
            "std": [round(value, 6) for value in network.features.std.flatten().tolist()],
            "longest_side": max(max(record.width, record.height) for record in records),
        },
    }
    save_network(out, network, about={**about, "settings": read_about(weights).get("settings")})
    print(f"pack_model: {out}, {len(network.spec['classes'])} classes, {out.stat().st_size / 1e6:.0f} MB")
