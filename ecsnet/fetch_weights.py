"""ImageNet weights of a backbone as a safetensors file, downloaded or converted once."""

from pathlib import Path

from safetensors.torch import save_file

from .backbone import fetch_weights, full_name
from .store import atomic_path, for_others_too


def run(settings: None, *, name: str, source: str, out: Path) -> None:
    """Write the weights of the timm network `name` from `source` (timm or package)."""
    state = {key: tensor.contiguous() for key, tensor in fetch_weights(name, source).items()}
    which = full_name(name) if source == "timm" else name
    print(f"weights: {which} from {source}", flush=True)
    with atomic_path(out) as temporary:
        save_file(state, temporary, {"ecsnet": f"{which} from {source}"})
        for_others_too(temporary)
