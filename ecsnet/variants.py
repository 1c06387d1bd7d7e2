"""The ablation's rows, and the variants of a run that they need; which results variants have in common.

A variant is the run's configuration with a few keys changed. Each stage's results are made by one variant,
its owner: the first one, the run itself before all others, that has the same settings up to that stage. So
nothing is computed twice. Imports nothing heavy: the Snakefile reads it.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from .settings import ABLATION_ROWS, Config, Evidence, section_json

Overlay = Mapping[str, Mapping[str, Any]]
"""Settings that differ from the run's, by section."""


@dataclass(frozen=True)
class Row:
    """A row of the ablation's table.

    Attributes:
        name: what the row shows; docs/method.md explains each.
        what: the kind of label that is scored, one of `score.WHATS`.
        variant: name of the variant whose label it is; empty for the run itself.
        against: the row that its change is against; empty where no row has the same images before it.
    """

    name: str
    what: str
    variant: str = ""
    against: str = ""


ROWS = (
    Row("cam", "cam"),
    Row("cam_refined", "cam_refined", "refined_cam", against="cam"),
    Row("cam_walked", "cam_refined", "walked_cam", against="cam_refined"),
    Row("cam_weighted", "cam_refined", against="cam_walked"),
    Row("erased_evidence", "evidence", "no_rules", against="cam_weighted"),
    Row("n1_residual", "evidence", "n1_residual", against="erased_evidence"),
    Row("n2_conflict", "evidence", "n2_conflict", against="erased_evidence"),
    Row("n3_margin", "evidence", "n3_margin", against="erased_evidence"),
    Row("n5_specks", "evidence", "n5_specks", against="erased_evidence"),
    Row("all_rules", "evidence", "all_rules", against="erased_evidence"),
    Row("ecs_trained_on_x", "ecs_labels", "trained_on_x", against="n1_residual"),
    Row("ecs_trained_on_both", "ecs_labels", "trained_on_both", against="ecs_trained_on_x"),
    Row("ecs_labels_from_both", "ecs_labels", "labels_from_both", against="ecs_trained_on_both"),
    Row("filter_off", "ecs_labels", "filtered_ecs", against="cam"),
    Row("filter_on", "filtered_labels", "filtered_ecs", against="filter_off"),
    Row("deeplab_on_cam", "val", "filtered_cam"),
    Row("deeplab_on_ecs", "val", "filtered_ecs", against="deeplab_on_cam"),
    Row("supervised", "supervised", against="deeplab_on_ecs"),
)
"""In the order of the pipeline. A change is against the row above, with three exceptions. That of a noise
rule, or of all of them, is against the evidence without any: what one rule does says nothing about the next.
That of ECS-Net's labels is against the evidence with N1 alone, which ignores no pixel, as none is ignored in
them. That of the run's own labels, filter_off, is against the CAM seed: they are one of the rows above, once
more."""

RULES = {
    "n1_residual": {"residual": 0.0},
    "n2_conflict": {"conflict": 1.0},
    "n3_margin": {"margin": 0.0},
    "n5_specks": {"speck": 0.0},
}
"""The noise rules that have a key of their own, and where it is off."""

SOURCES = {
    "cam": "erase",
    "cam_refined": "evidence",
    "evidence": "evidence",
    "ecs_labels": "ecs_labels",
    "filtered_labels": "filter_labels",
    "val": "predict",
    "supervised": "predict_supervised",
}
"""The stage that makes each kind of label."""


def overlays(config: Config) -> dict[str, Overlay]:
    """The variants that the rows need, by name; the run itself, without a change, is the first."""
    views = config.train_ecs.views if config.train_ecs.views in ("both", "either") else "both"
    off = {key: value for rule in RULES.values() for key, value in rule.items()}
    found: dict[str, Overlay] = {
        "": {},
        "all_rules": {"evidence": {"erased": True}},
        "filtered_ecs": {"filter_labels": {"source": "ecs_labels"}},
        "no_rules": {"evidence": {"erased": True, **off}},
    }
    for name, rule in RULES.items():
        kept = {key: value for key, value in off.items() if key not in rule}
        found[name] = {"evidence": {"erased": True, **kept}}
    erased = {"evidence": {"erased": True}}
    return found | {
        **_refined_cams(config.evidence),
        "trained_on_x": {**erased, "train_ecs": {"views": "image"}, "ecs_labels": {"predict": "image"}},
        "trained_on_both": {**erased, "train_ecs": {"views": views}, "ecs_labels": {"predict": "image"}},
        "labels_from_both": {**erased, "train_ecs": {"views": views}, "ecs_labels": {"predict": "both"}},
        "filtered_cam": {"evidence": {"erased": False}, "filter_labels": {"source": "evidence"}},
    }


def _refined_cams(evidence: Evidence) -> dict[str, Overlay]:
    """The refined CAM without weight and walk, and without the weight.

    Each with the background that suits it, for the walk makes objects larger and the weight smaller. What the
    run does without changes nothing.
    """
    walked, weighed = evidence.walk.steps > 0, evidence.norm_power > 0
    plain: dict[str, Any] = {"norm_power": 0.0, "walk": dataclasses.replace(evidence.walk, steps=0)}
    if walked or weighed:
        plain["background_power"] = 2.0
    only_walked = {"norm_power": 0.0, "background_power": 1.0} if weighed else {}
    return {
        "refined_cam": {"evidence": plain},
        "walked_cam": {"evidence": only_walked if walked else plain},
    }


class Variants:
    """A run and the variants of it that its ablation needs, each with every seed.

    A variant is called by the folder of its results below the run's own: empty for the run itself, else
    /ablation/<name>, with _seed<number> where the seed is not the run's.
    """

    def __init__(self, config: Config) -> None:
        self._seed = config.seed
        self._seeds = config.ablation.seeds or (config.seed,)
        self._rows = config.ablation.rows or tuple(
            row for row in ABLATION_ROWS if row != "supervised" or config.supervised.enabled
        )
        seeds = dict.fromkeys([config.seed, *self._seeds])
        self._configs = {
            self._folder(name, seed): _changed(config, overlay, seed)
            for seed in seeds
            for name, overlay in overlays(config).items()
        }
        # looked up for every job
        self.owner = cache(self._owner)
        self.settings = cache(self._settings)

    def folders(self) -> list[str]:
        """All variants, the run itself first."""
        return list(self._configs)

    def source(self, variant: str) -> str:
        """What a variant filters: ecs_labels or evidence."""
        return self._configs[variant].filter_labels.source

    def rows(self) -> list[tuple[Row, int, str]]:
        """Each row that is wanted with each seed, and the variant that has its score.

        Where all are wanted, without that of the supervised bound if the run does without it: its masks are
        not to be had everywhere.
        """
        return [
            (row, seed, self._owner(self._folder(row.variant, seed), SOURCES[row.what], None))
            for row in ROWS
            if row.name in self._rows
            for seed in self._seeds
        ]

    def _folder(self, name: str, seed: int) -> str:
        parts = [name] if name else []
        if seed != self._seed:
            parts.append(f"seed{seed}")
        return f"/ablation/{'_'.join(parts)}" if parts else ""

    def _settings(self, variant: str, section: str) -> str:
        return section_json(self._configs[variant], section)

    def _owner(self, variant: str, stage: str, round: int | None = None) -> str:
        """The variant that makes a stage's results (of a round, the last if none is named) for another."""
        wanted = chain(self._configs[variant], stage, round)
        return next(name for name, config in self._configs.items() if chain(config, stage, round) == wanted)


def _changed(config: Config, overlay: Overlay, seed: int) -> Config:
    sections = {name: dataclasses.replace(getattr(config, name), **keys) for name, keys in overlay.items()}
    return dataclasses.replace(config, seed=seed, **sections)


BEFORE = {
    "erase": "train_cam",
    "evidence": "erase",
    "ecs_labels": "train_ecs",
    "train_segmenter": "filter_labels",
    "predict": "train_segmenter",
    "predict_supervised": "train_supervised",
}
"""The stage before each, on which all others that it reads depend, or that depends on all others."""

SECTIONS = {"train_supervised": "train_segmenter", "predict_supervised": "predict"}
"""Sections of settings that are not called as their stage."""


def chain(config: Config, stage: str, round: int | None = None) -> tuple[str, ...]:
    """The settings of a stage and of all before it: with equal ones, results are the same.

    Args:
        round: of train_ecs and ecs_labels; the last if none is named.
    """
    number = config.rounds if round is None else round
    before = BEFORE.get(stage)
    if stage == "filter_labels":
        before, number = config.filter_labels.source, config.rounds
    elif stage == "train_ecs":
        before, number = ("evidence", 1) if number == 1 else ("ecs_labels", number - 1)
    settings = section_json(config, SECTIONS.get(stage, stage))
    return (*(chain(config, before, number) if before else ()), f"{stage} {settings}")
