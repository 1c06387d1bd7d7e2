"""Stage `overview`: all of a run on one page that stands alone: what it was, scores, pictures, times."""

import base64
import json
from pathlib import Path

import jinja2
import yaml

from . import __version__
from .ending import stage_times
from .errors import UserError
from .overview_page import PAGE
from .progress import clock
from .published import METHODS, differences
from .scoring import ScoreRecord, read_score
from .settings import Config, changed_settings, parse_json
from .store import write_text
from .tables import read_classes, read_images

NAMES = {
    "cam": "CAM, best threshold",
    "cam_refined": "refined CAM",
    "evidence": "evidence",
    "ecs_labels": "ECS-Net's labels",
    "filtered_labels": "filtered labels",
    "val": "DeepLab on the filtered labels",
    "supervised": "the same network on true masks",
}
"""Of what is scored, for a person; in the order of the pipeline."""

PICTURES = {
    "iou": "IoU by class",
    "confusion": "Where the pixels of each class went",
    "filter": "Where the pixels of the labels went in the filter",
    "curves": "Trainings",
    "panels": "Training images through the stages",
    "examples": "Best, median and worst validation images of each class",
    "predictions": "Validation images",
}
"""Figures, by name, in their order on the page."""


def run(
    settings: None,
    *,
    config: str,
    images: Path,
    val_images: Path,
    classes: Path,
    scores: list[Path] | None,
    pictures: list[Path],
    logs: Path,
    out: Path,
) -> None:
    """Write the page, UTF-8 HTML with all pictures in it.

    Args:
        settings: this stage has none.
        config: the run's whole configuration as JSON.
        images, val_images: image tables.
        classes: file with the class names.
        scores: JSON files that `score` wrote; None where nothing could be scored.
        pictures: by `figures`.
        logs: folder of the run's logs, with what each job took.
        out: file to write.

    Raises:
        UserError: a file is missing or damaged.
    """
    chosen = parse_json(Config, config, "config")
    names = read_classes(classes)
    train, val = (len(read_images(table, names)) for table in (images, val_images))
    records = sorted(map(read_score, scores or []), key=lambda record: list(NAMES).index(record.what))
    reasons = differences(chosen, train, {record.what: record.images for record in records})
    page = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(PAGE)
    text = page.render(
        run=chosen.run,
        facts=facts(chosen, train, val, names),
        reasons=reasons,
        scores=[score_row(record) for record in records],
        ratio=ratio(records),
        published=published(records, comparable=not reasons),
        pictures=[(key, PICTURES[key], embedded(path)) for key, path in by_name(pictures)],
        times=times(logs),
        changed=changed_settings(chosen),
        settings=yaml.safe_dump(json.loads(config), sort_keys=False, allow_unicode=True),
        version=__version__,
    )
    write_text(out, text)
    print(f"overview: {out}, {out.stat().st_size / 1e6:.1f} MB")


def facts(config: Config, train: int, val: int, names: list[str]) -> list[tuple[str, str]]:
    """What was run, in a few lines."""
    kinds = {"voc": f"VOC's layout, {config.dataset.root}", "demo": "the generated demo set"}
    backbones = dict.fromkeys(section.backbone.name for section in (config.train_cam, config.train_segmenter))
    return [
        ("data", kinds.get(config.dataset.kind, f"kind {config.dataset.kind}")),
        ("images", f"{train} to learn from, {val} held back"),
        ("classes", f"{len(names)}: {', '.join(names)}"),
        ("backbone", ", ".join(backbones)),
        ("seed", str(config.seed)),
    ]


def score_row(record: ScoreRecord) -> list[str]:
    """A line of the table of scores."""
    metrics = record.metrics
    best = metrics.get("miou_best") or metrics.get("miou")
    cells = [best, metrics.get("miou_kept"), metrics.get("coverage"), metrics.get("accuracy_kept")]
    # what matters most stands where a narrow screen shows it
    return [NAMES[record.what], *map(number, cells), f"{record.split}, {record.images} images"]


def number(value: float | None) -> str:
    """A percentage with one decimal."""
    return "–" if value is None else f"{value:.1f}"


def ratio(records: list[ScoreRecord]) -> str | None:
    """The share of the supervised bound that the network reaches."""
    mious = {record.what: record.metrics["miou"] for record in records}
    found, bound = mious.get("val"), mious.get("supervised")
    return f"{found / bound:.3f}" if found is not None and bound else None


def published(records: list[ScoreRecord], comparable: bool) -> list[tuple[list[str], bool]]:
    """Lines of the table of published results, with this run's where it may stand there: marked as ours."""
    rows = [
        ([one.method, *map(number, (one.val, one.test, one.cam, one.labels)), one.network], False)
        for one in METHODS
    ]
    if not comparable:
        return rows
    found = {record.what: record.metrics for record in records}
    cam = found.get("cam", {}).get("miou_best")
    labels, val = (found.get(what, {}).get("miou") for what in ("filtered_labels", "val"))
    return [(["this run", *map(number, (val, None, cam, labels)), "see above"], True), *rows]


def by_name(pictures: list[Path]) -> list[tuple[str, Path]]:
    """The figures in their order."""
    found = {path.stem: path for path in pictures}
    return [(name, found[name]) for name in PICTURES if name in found]


def embedded(path: Path) -> str:
    """A PNG as a data URI."""
    try:
        return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; run figures again") from None


def times(logs: Path) -> list[list[str]]:
    """For each stage: jobs, their time together, its share, the largest job's memory; the longest first.

    The ablation's variants are left out, which are no part of the run.
    """
    taken = {stage: one for stage, one in stage_times(logs).items() if stage != "ablation"}
    total = sum(one.seconds for one in taken.values()) or 1.0
    return [
        [stage, str(one.jobs), clock(one.seconds), f"{100 * one.seconds / total:.0f} %", f"{one.memory:.0f}"]
        for stage, one in sorted(taken.items(), key=lambda item: -item[1].seconds)
    ]
