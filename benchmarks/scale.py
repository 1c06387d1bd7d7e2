"""A million images in a thousand shards: what planning, the tables and the readers of them take.

    python benchmarks/scale.py [--images 1000000] [--shards 1000] [--folder /tmp]

The pictures are hard links to a few small ones: what is measured is what grows with their number, not the
decoding of large ones. Every part runs in a process of its own; the data set is removed at the end.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import yaml
from PIL import Image
from processes import run_process

from ecsnet.tables import ImageRecord, LabelRecord, write_images, write_labels

CLASSES = ["cat", "dog", "cow"]
LINKS = 50_000  # ext4 takes 65,000 names for one file
REPOSITORY = Path(__file__).resolve().parents[1]
READ = "from ecsnet.tables import read_images; from ecsnet.store import Shard; from pathlib import Path; "
WHOLE = READ + "assert read_images(Path('train.csv'), ['cat', 'dog', 'cow'])"
PART = READ + "assert read_images(Path('train.csv'), ['cat', 'dog', 'cow'], Shard(7, {shards}))"
GATHER = (
    "from ecsnet import gather_labels; from pathlib import Path; "
    "gather_labels.run(None, tables=sorted(Path('tables').glob('*.csv')), folder=Path('none'),"
    " out=Path('all.csv'))"
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--shards", type=int, default=1000)
    parser.add_argument("--folder", type=Path, default=None, help="where the data set is put for the time")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        os.chdir(folder)
        measure(arguments.images, arguments.shards)


def measure(images: int, shards: int) -> None:
    """Print a table of what each part takes."""
    print(f"{images:,} images, {shards:,} shards\n\n| part | seconds | peak memory in MB |\n|---|---|---|")
    settings = make_data_set(images)
    config = {"run": "big", "shards": shards, "dataset": settings}
    Path("config.yaml").write_text(yaml.safe_dump(config))
    row("prepare", *prepare_words(settings))
    plan = [
        *("-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile"), "--cores", "8", "--configfile"),
        *("config.yaml", "--dry-run", "--quiet", "all"),
    ]
    row("first plan", *plan)
    put_table_in_place()
    row("plan after `prepare`, first look at the pictures", *plan)
    row("plan after `prepare`, nothing changed", *plan)
    row("read the table, all of it (a training)", "-c", WHOLE)
    row("read the table, one shard", "-c", PART.format(shards=shards))
    write_label_tables(images, shards)
    row("gather the tables of label images", "-c", GATHER)


def make_data_set(images: int) -> dict:
    """A folder in VOC's layout, tags in ImageSets/Main."""
    ids = [f"image_{number:07}" for number in range(images)]
    for name in ("JPEGImages", "ImageSets/Segmentation", "ImageSets/Main"):
        Path("data", name).mkdir(parents=True)
    generator = np.random.default_rng(0)
    for start in range(0, images, LINKS):
        first, *others = ids[start : start + LINKS]
        picture = generator.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(picture).save(f"data/JPEGImages/{first}.jpg")
        for image_id in others:
            os.link(f"data/JPEGImages/{first}.jpg", f"data/JPEGImages/{image_id}.jpg")
    Path("data/ImageSets/Segmentation/train.txt").write_text("\n".join(ids))
    Path("data/ImageSets/Segmentation/val.txt").write_text("\n".join(ids[:1000]))
    for number, name in enumerate(CLASSES):
        lines = [f"{image_id} {1 if index % 3 == number else -1}" for index, image_id in enumerate(ids)]
        Path(f"data/ImageSets/Main/{name}_trainval.txt").write_text("\n".join(lines))
    return {"root": "data", "train_list": "train", "val_list": "val", "classes": CLASSES, "tags": "main"}


def prepare_words(settings: dict) -> list[str]:
    outputs = ["--out", "train.csv", "--out-classes", "classes.txt", "--out-problems", "problems.csv"]
    words = ["--settings", json.dumps(settings), "--split", "train", *outputs, "--threads", "2"]
    return ["-m", "ecsnet", "prepare", *words]


def put_table_in_place() -> None:
    """The table where a run has it, so that planning looks at what it was made of."""
    place = Path("results/big/prepare")
    place.mkdir(parents=True)
    shutil.copy("train.csv", place)
    shutil.copy("classes.txt", place)
    write_images(place / "val.csv", [ImageRecord("a", "a.jpg", 1, 1, (1,), "")], CLASSES)
    words = ["--snakefile", str(REPOSITORY / "Snakefile"), "--cores", "1", "--configfile", "config.yaml"]
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "prepare",
        *words,
        "--touch",
        "--forceall",
        "--quiet",
        "all",
    ]
    subprocess.run(command, check=True, env=environment(), stderr=subprocess.DEVNULL)


def write_label_tables(images: int, shards: int) -> None:
    Path("tables").mkdir()
    for shard in range(shards):
        numbers = range(shard * images // shards, (shard + 1) * images // shards)
        records = [
            LabelRecord(f"image_{number:07}", f"p/image_{number:07}.png", "0" * 16) for number in numbers
        ]
        write_labels(Path(f"tables/{shard:05}.csv"), records)


def row(part: str, *words: str) -> None:
    used = run_process([sys.executable, *words], environment())
    print(f"| {part} | {used.seconds:.1f} | {used.memory:.0f} |", flush=True)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY)}


if __name__ == "__main__":
    main()
