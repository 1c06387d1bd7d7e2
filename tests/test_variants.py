"""Which variant of a run makes which stage's results."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_staleness import leaves, with_other_value

from ecsnet import variants
from ecsnet.score import WHATS
from ecsnet.settings import ABLATION_ROWS, Config, Evidence, Walk, parse_config
from ecsnet.variants import ROWS, SOURCES, Variants, chain, overlays

LINE = "train_cam erase evidence train_ecs ecs_labels filter_labels train_segmenter predict".split()
"""Stages of which each depends on all before it."""

SUPERVISED = {"train_supervised": {"train_segmenter"}, "predict_supervised": {"train_segmenter", "predict"}}
DEPENDS_ON = {stage: set(LINE[: number + 1]) for number, stage in enumerate(LINE)} | SUPERVISED
"""The sections that a stage's results depend on, written down by hand."""

PATHS = [path for path in leaves(Config) if len(path) > 1 and path[-1] not in ("seed", "source")]
FIRST = {path[0]: path for path in PATHS}
"""A setting of each section."""


def changed(*sections: str, config: Config | None = None) -> Config:
    for section in sections:
        config = with_other_value(config or Config(), FIRST[section])
    return config or Config()


@pytest.mark.parametrize("stage", DEPENDS_ON)
@pytest.mark.parametrize("section", FIRST)
def test_a_change_in_a_section_reaches_what_depends_on_it_and_nothing_else(section, stage):
    same = chain(changed(section), stage) == chain(Config(), stage)
    assert same == (section not in DEPENDS_ON[stage])


@settings(deadline=None)
@given(st.sets(st.sampled_from(sorted(FIRST))), st.sets(st.sampled_from(sorted(FIRST))))
def test_two_configurations_share_a_stage_if_what_it_depends_on_is_the_same(first, second):
    for stage, sections in DEPENDS_ON.items():
        shared = chain(changed(*first), stage) == chain(changed(*second), stage)
        assert shared == (first & sections == second & sections)


@pytest.mark.parametrize("section", LINE)
def test_own_folders_from_the_changed_stage_on(section, monkeypatch):
    value = getattr(changed(section), section)
    overlay = {section: {FIRST[section][1]: getattr(value, FIRST[section][1])}}
    other = {"figures": {"panels": 3}}
    monkeypatch.setattr(variants, "overlays", lambda config: {"": {}, "a": overlay, "b": overlay, "c": other})
    plan = Variants(Config())
    for stage, sections in DEPENDS_ON.items():
        own = "/ablation/a" if section in sections else ""
        assert [plan.owner(name, stage) for name in ("", "/ablation/a", "/ablation/b")] == ["", own, own]
        assert plan.owner("/ablation/c", stage) == ""


def test_the_seed_reaches_every_stage_and_has_folders_of_its_own():
    plan = Variants(parse_config({"seed": 5, "ablation": {"seeds": [5, 6]}}))
    assert [name for name in plan.folders() if "5" in name] == [
        "/ablation/n5_specks",
        "/ablation/n5_specks_seed6",
    ]
    assert {seed for _, seed, _ in plan.rows()} == {5, 6}
    for stage in DEPENDS_ON:
        assert plan.owner("/ablation/seed6", stage) == "/ablation/seed6"
    assert '"seed": 6' in plan.settings("/ablation/seed6", "train_cam")
    # a variant with another seed shares with the run with that seed, never with the run itself
    assert plan.owner("/ablation/no_rules_seed6", "erase") == "/ablation/seed6"
    assert plan.owner("/ablation/no_rules_seed6", "evidence") == "/ablation/no_rules_seed6"


def test_rows_and_overlays_word_for_word():
    """As docs/method.md has them."""
    off = {"residual": 0.0, "conflict": 1.0, "margin": 0.0, "speck": 0.0}
    erased = {"evidence": {"erased": True}}
    assert overlays(Config()) == {
        "": {},
        "all_rules": erased,
        "filtered_ecs": {"filter_labels": {"source": "ecs_labels"}},
        "no_rules": {"evidence": {"erased": True, **off}},
        **{
            f"{rule}_{name}": {"evidence": {"erased": True, **{k: v for k, v in off.items() if k != name}}}
            for rule, name in (("n1", "residual"), ("n2", "conflict"), ("n3", "margin"))
        },
        "n5_specks": {"evidence": {"erased": True, "residual": 0.0, "conflict": 1.0, "margin": 0.0}},
        "refined_cam": {"evidence": {"norm_power": 0, "walk": Walk(steps=0), "background_power": 2}},
        "walked_cam": {"evidence": {"norm_power": 0, "background_power": 1}},
        "trained_on_x": {**erased, "train_ecs": {"views": "image"}, "ecs_labels": {"predict": "image"}},
        "trained_on_both": {**erased, "train_ecs": {"views": "both"}, "ecs_labels": {"predict": "image"}},
        "labels_from_both": {**erased, "train_ecs": {"views": "both"}, "ecs_labels": {"predict": "both"}},
        "filtered_cam": {"evidence": {"erased": False}, "filter_labels": {"source": "evidence"}},
    }
    assert {row.name: row.against for row in ROWS} == {
        "cam": "",
        "cam_refined": "cam",
        "cam_walked": "cam_refined",
        "cam_weighted": "cam_walked",
        "erased_evidence": "cam_weighted",
        **dict.fromkeys([*OWN, "all_rules"], "erased_evidence"),
        "ecs_trained_on_x": "n1_residual",
        "ecs_trained_on_both": "ecs_trained_on_x",
        "ecs_labels_from_both": "ecs_trained_on_both",
        "filter_off": "cam",
        "filter_on": "filter_off",
        "deeplab_on_cam": "",
        "deeplab_on_ecs": "deeplab_on_cam",
        "supervised": "deeplab_on_ecs",
    }


@pytest.mark.parametrize(
    ("evidence", "refined", "walked"),
    [
        ({"norm_power": 0.0, "walk": Walk(steps=0), "background_power": 4.0}, 4, 4),
        ({"norm_power": 0.0, "background_power": 4.0}, 2, 4),
        ({"walk": Walk(steps=0), "background_power": 4.0}, 2, 2),
        ({"background_power": 4.0}, 2, 1),
    ],
)
def test_what_the_run_does_without_changes_no_background(evidence, refined, walked):
    config = dataclasses.replace(Config(), evidence=Evidence(**evidence))
    plan = Variants(config)
    found = [json.loads(plan.settings(f"/ablation/{name}_cam", "evidence")) for name in ("refined", "walked")]
    assert [one["background_power"] for one in found] == [refined, walked]
    assert [one["norm_power"] for one in found] == [0, 0]
    assert [one["walk"]["steps"] for one in found] == [0, config.evidence.walk.steps]


def test_without_a_supervised_bound_there_is_no_row_of_it():
    names = [row.name for row, *_ in Variants(Config()).rows()]
    assert names == [row.name for row in ROWS if row.name != "supervised"]


def test_rows_that_are_chosen_come_in_the_tables_order_with_every_seed():
    chosen = ["supervised", "deeplab_on_ecs", "cam"]
    plan = Variants(parse_config({"ablation": {"rows": chosen, "seeds": [0, 4]}}))
    assert [(row.name, seed) for row, seed, _ in plan.rows()] == [
        (name, seed) for name in reversed(chosen) for seed in (0, 4)
    ]


def test_every_row_can_be_chosen():
    assert [row.name for row in ROWS] == list(ABLATION_ROWS)


def test_the_runs_own_seed_is_the_ablations_if_none_is_given():
    plan = Variants(parse_config({"seed": 3}))
    assert {seed for _, seed, _ in plan.rows()} == {3}
    assert not [name for name in plan.folders() if "seed" in name]


def owners(**config: dict) -> dict[str, str]:
    config = {"supervised": {"enabled": True}} | config
    return {
        row.name: variant.removeprefix("/ablation/")
        for row, _, variant in Variants(parse_config(config)).rows()
    }


OWN = "n1_residual n2_conflict n3_margin n5_specks".split()
EXPECTED = {row.name: "" for row in ROWS} | {name: name for name in OWN} | {
    "cam_refined": "refined_cam",
    "cam_walked": "walked_cam",
    "erased_evidence": "no_rules",
    "ecs_trained_on_x": "trained_on_x",
    "ecs_labels_from_both": "labels_from_both",
    "deeplab_on_cam": "filtered_cam",
}  # fmt: skip


def test_the_run_itself_serves_every_row_that_means_the_same():
    assert owners() == EXPECTED
    assert owners(train_ecs={"views": "either"}) == EXPECTED  # that is x and x' too


def test_rows_mean_the_same_in_any_run():
    assert owners(ecs_labels={"predict": "both"}) == EXPECTED | {
        "ecs_trained_on_both": "trained_on_both",
        "ecs_labels_from_both": "",
    }
    plain = {"norm_power": 0, "walk": {"steps": 0}, "background_power": 4}
    assert owners(evidence=plain) == EXPECTED | {"cam_refined": "", "cam_walked": ""}
    assert owners(train_ecs={"views": "image"})["ecs_trained_on_x"] == ""
    assert owners(evidence={"residual": 0}) == EXPECTED | {"n1_residual": "no_rules"}
    assert owners(evidence={"erased": False}, filter_labels={"source": "evidence"})["deeplab_on_cam"] == ""
    for views in ("image", "erased"):
        config = parse_config({"train_ecs": {"views": views}})
        assert overlays(config)["trained_on_both"]["train_ecs"] == {"views": "both"}
    unerased = owners(evidence={"erased": False})
    assert [unerased[f"ecs_trained_on_{what}"] for what in ("x", "both")] == ["trained_on_x", "all_rules"]


def test_rounds_share_the_first_ones():
    plan = Variants(parse_config({"rounds": 2}))
    variant = "/ablation/labels_from_both"
    assert plan.owner(variant, "train_ecs", 1) == ""
    assert plan.owner(variant, "ecs_labels", 1) == plan.owner(variant, "train_ecs", 2) == variant
    assert plan.owner(variant, "ecs_labels") == plan.owner(variant, "ecs_labels", 2) == variant


def test_the_baseline_does_not_depend_on_ecs_net():
    config = parse_config({"filter_labels": {"source": "evidence"}})
    for section in ("train_ecs", "ecs_labels"):
        for stage in ("filter_labels", "predict"):
            assert chain(changed(section, config=config), stage) == chain(config, stage)
    assert chain(changed("evidence", config=config), "filter_labels") != chain(config, "filter_labels")


def test_rows_and_their_kinds_are_known():
    assert set(SOURCES) == set(WHATS)
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)
    for number, row in enumerate(ROWS):
        assert row.against in ("", *names[:number])
        assert row.variant in overlays(Config())
    kinds = {field.name for field in dataclasses.fields(Config)}
    assert {section for overlay in overlays(Config()).values() for section in overlay} <= kinds
