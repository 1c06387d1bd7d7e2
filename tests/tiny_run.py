"""The results of a tiny run, made by hand: what scoring and figures read."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from ecsnet.palette import write_mask
from ecsnet.scoring import count_pixels, write_image_counts
from ecsnet.store import ShardWriter, fingerprint, write_text
from ecsnet.tables import ImageRecord, LabelRecord, read_labels, write_classes, write_images, write_labels

CLASSES = ["cat", "dog", "cow"]
TRUTH = {
    "t1": np.array([[0, 0, 0, 1, 1], [0, 0, 255, 1, 1], [0, 0, 0, 255, 1]], np.uint8),
    "t2": np.array([[2, 2, 2, 2], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], np.uint8),
    "t3": np.array([[1, 1, 0], [2, 2, 255]], np.uint8),
}
"""True masks of the training images; no pixel is of the class cow."""

HISTORY = "epoch,step,learning_rate,loss,tags\n0.5,1,0.01,2.0,1.0\n1.0,2,0.005,1.0,0.5\n"


@dataclass
class TinyRun:
    """A run's folder, and the paths of what is in it."""

    folder: Path
    shards: dict[str, list[Path]] = field(default_factory=dict)

    @property
    def classes(self) -> Path:
        return self.folder / "prepare" / "classes.txt"

    @property
    def root(self) -> Path:
        return self.folder / "data"

    @property
    def truth(self) -> Path:
        return self.folder / "check_masks" / "train.csv"

    @property
    def images(self) -> Path:
        return self.folder / "prepare" / "train.csv"

    def write_labels(self, name: str, labels: dict[str, np.ndarray]) -> Path:
        """Write a label table with its PNGs beside it."""
        records = []
        for image_id, label in labels.items():
            path = self.folder / name / f"{image_id}.png"
            write_mask(path, label)
            records.append(LabelRecord(image_id, f"{name}/{image_id}.png", fingerprint(path.read_bytes())))
        write_labels(self.folder / f"{name}.csv", records)
        return self.folder / f"{name}.csv"


def write_filtered(run: TinyRun) -> Path:
    """Write the label table of `filter_labels`; of t2 everything was dropped."""
    table = run.write_labels("filtered", TRUTH)
    records = read_labels(table)
    rules = [(0.8, 0.1, 0.1, 0.0), (0.0, 0.3, 0.0, 0.1), (0.5, 0.0, 0.25, 0.25)]
    notes = [dict(zip(("kept", "confidence", "agreement", "speck"), row, strict=True)) for row in rules]
    records[1] = dataclasses.replace(records[1], dropped="no reliable pixel of dog")
    write_labels(table, records, notes)
    return table


def write_kept(path: Path) -> Path:
    """Write what `filter_labels` kept by class; nothing was labelled cow."""
    rows = ["background,50,0.9,0.8", "cat,20,0.5,0.9", "dog,10,0.25,1.0", "cow,0,0.3,0.0"]
    write_text(path, "".join(f"{row}\n" for row in ["class,labelled_cells,threshold,confident_share", *rows]))
    return path


def write_counts(run: TinyRun) -> Path:
    """Write the pixel counts of the true masks against themselves, but for t3, whose cat was not found."""
    given = {**TRUTH, "t3": np.where(TRUTH["t3"] == 1, 0, TRUTH["t3"])}
    counts = np.stack([count_pixels(TRUTH[name], given[name], len(CLASSES)) for name in TRUTH])
    write_image_counts(run.folder / "counts.npz", "train", list(TRUTH), counts.astype(np.int32))
    return run.folder / "counts.npz"


def make_run(folder: Path) -> TinyRun:
    """Write pictures, true masks, tables and two shards of each stage; the labels equal the truth."""
    run = TinyRun(folder)
    write_classes(run.classes, CLASSES)
    images, masks = [], []
    for number, (image_id, mask) in enumerate(TRUTH.items()):
        height, width = mask.shape
        picture = run.root / "JPEGImages" / f"{image_id}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(noise).save(picture)
        path = run.root / "SegmentationClass" / f"{image_id}.png"
        write_mask(path, mask)
        images.append(ImageRecord(image_id, f"JPEGImages/{picture.name}", width, height, _tags(mask), "0"))
        masks.append(LabelRecord(image_id, f"SegmentationClass/{path.name}", fingerprint(path.read_bytes())))
    write_images(run.images, images, CLASSES)
    write_labels(run.truth, masks)
    for part, image_ids in enumerate((["t1", "t2"], ["t3"]), 1):
        _write_shards(run, f"{part}-of-2.npz", image_ids)
    return run


def _tags(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(int(value) for value in np.unique(mask) if 0 < value < 255)


def _write_shards(run: TinyRun, name: str, image_ids: list[str]) -> None:
    for stage in ("erase", "evidence", "ecs_labels"):
        path = run.folder / stage / name
        run.shards.setdefault(stage, []).append(path)
        with ShardWriter(path) as shard:
            for image_id in image_ids:
                shard.add(image_id, **_arrays(stage, TRUTH[image_id]))


def _arrays(stage: str, mask: np.ndarray) -> dict[str, np.ndarray]:
    """A stage's arrays on a grid as fine as the picture."""
    classes = np.array(_tags(mask), np.uint8)
    cam = np.stack([mask == index for index in classes]).astype(np.float16) * np.float16(0.5)
    if stage == "erase":
        return {"classes": classes, "cam": cam, "erased_cam": cam / 2, "region": cam.max(0) >= 0.5}
    scores = np.concatenate([0.5 - cam.max(0, keepdims=True), cam])
    if stage == "ecs_labels":
        return {"classes": classes, "scores": scores, "label": mask}
    return {"classes": classes, "scores": scores, "label": mask, "cam_label": np.where(mask == 255, 0, mask)}


def write_history(folder: Path) -> Path:
    """Write a training's table of losses."""
    write_text(folder / "history.csv", HISTORY)
    return folder / "history.csv"
