"""What atomic writes, checksums and their checks cost, as a share of the stage that makes the files.

Run after `make demo`: python benchmarks/safety.py
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from ecsnet.palette import read_mask, voc_palette, write_mask
from ecsnet.store import ShardReader, ShardWriter, fingerprint

RESULTS, LOGS = Path("results/demo"), Path("logs/demo")


def seconds(work: Callable[[], object]) -> float:
    """The least of five times."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def took(stage: str) -> float:
    """Seconds that the jobs of a stage took in the run."""
    files = [*(LOGS / stage).rglob("*.benchmark.tsv"), *LOGS.glob(f"{stage}.benchmark.tsv")]
    return sum(pd.read_csv(file, sep="\t").s.iloc[0] for file in files)


def shards(stage: str, folder: Path) -> float:
    """Writing a stage's shards as the stage does, less the bare writing of their arrays."""
    reader = ShardReader(sorted((RESULTS / stage).rglob("*-of-*.npz")))
    members = np.load(next(iter((RESULTS / stage).rglob("*-of-*.npz")))).files
    names = {member.rsplit("/", 1)[-1] for member in members}
    arrays = {key: {name: reader.get(key, name) for name in names} for key in reader.ids()}

    def safe() -> None:
        with ShardWriter(folder / "shard.npz") as writer:
            for key, values in arrays.items():
                writer.add(key, **values)

    def bare() -> None:
        with (folder / "bare").open("wb") as file:
            for values in arrays.values():
                for value in values.values():
                    np.lib.format.write_array(file, value)

    return seconds(safe) - seconds(bare)


def masks(folder: Path) -> tuple[float, float]:
    """Writing the filtered labels atomically less writing them; and checking their digests on reading."""
    paths = sorted((RESULTS / "filter_labels").glob("*.png"))
    labels, palette = [read_mask(path) for path in paths], bytes(voc_palette())

    def bare() -> None:
        for path, label in zip(paths, labels, strict=True):
            picture = Image.fromarray(label)
            picture.putpalette(palette)
            picture.save(folder / path.name)

    def safe() -> None:
        for path, label in zip(paths, labels, strict=True):
            write_mask(folder / path.name, label)

    contents = [path.read_bytes() for path in paths]
    return seconds(safe) - seconds(bare), seconds(lambda: [fingerprint(content) for content in contents])


def main() -> None:
    with tempfile.TemporaryDirectory(dir=RESULTS) as name:
        folder = Path(name)
        rows = [(stage, shards(stage, folder), took(stage)) for stage in ("erase", "evidence", "ecs_labels")]
        writing, checking = masks(folder)
        epochs = pd.read_csv(RESULTS / "train_segmenter" / "history.csv").epoch.max()
        rows.append(("filter_labels", writing, took("filter_labels")))
        rows.append(("train_segmenter", checking * epochs, took("train_segmenter")))
    for stage, extra, whole in rows:
        print(f"{stage:16} {1000 * extra:7.1f} ms of {whole:6.1f} s: {100 * extra / whole:.2f} %")


if __name__ == "__main__":
    main()
