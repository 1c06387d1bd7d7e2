"""The table of the ablation, from counts made by hand and from the real Snakefile."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from edited_run import jobs_planned
from test_workflow import CONFIG, processor_seconds, snakemake

from ecsnet import ablation, scoring
from ecsnet.errors import UserError
from ecsnet.resampling import draws
from ecsnet.scoring import read_score, write_image_counts
from ecsnet.settings import Ablation, parse_config
from ecsnet.tables import write_classes
from ecsnet.variants import ROWS, Variants

IDS = ["a", "b", "c", "d", "e"]
CLASSES = ["cat", "dog"]


def random_counts(number, images=5):
    return np.random.default_rng(number).integers(0, 9, (images, 3, 4)).astype(np.int32)


def miou(counts):
    return scoring.mean_iou(scoring.all_pixels(counts.sum(0)))


def make_table(folder, given, resamples=40):
    """Run the stage on counts by row and seed; its tables, with the seed as text."""
    write_classes(folder / "classes.txt", CLASSES)
    rows, paths = [], []
    for (name, seed), (ids, counts) in given.items():
        rows.append(f"{name}/{seed}")
        paths.append(folder / f"{name}_{seed}.npz")
        write_image_counts(paths[-1], f"list{len(ids)}", ids, counts)
    out, out_iou = folder / "ablation.csv", folder / "ablation_iou.csv"
    settings = Ablation(resamples=resamples)
    ablation.run(settings, rows=rows, counts=paths, classes=folder / "classes.txt", out=out, out_iou=out_iou)
    return [pd.read_csv(path, dtype={"seed": str}) for path in (out, out_iou)]


def line(table, row, metric="miou", seed="mean"):
    [found] = table[(table.row == row) & (table.metric == metric) & (table.seed == seed)].to_dict("records")
    return found


def same_images(*rows, seeds=(0,)):
    """Counts of some rows with each seed."""
    keys = [(row, seed) for row in rows for seed in seeds]
    return {key: (IDS, random_counts(number)) for number, key in enumerate(keys)}


def test_the_value_is_that_of_score(tmp_path):
    given = same_images("cam", "cam_refined")
    table, iou = make_table(tmp_path, given)
    assert list(table.columns) == ablation.COLUMNS
    for (row, _), (_, counts) in given.items():
        total = counts.sum(0)
        values = {
            "miou": scoring.mean_iou(scoring.all_pixels(total)),
            "miou_kept": scoring.mean_iou(scoring.kept_pixels(total)),
            "coverage": scoring.coverage(total),
            "accuracy_kept": scoring.accuracy(scoring.kept_pixels(total)),
        }
        for metric, value in values.items():
            assert line(table, row, metric)["value"] == line(table, row, metric, "0")["value"]
            assert line(table, row, metric)["value"] == pytest.approx(value, abs=0.005)
        classes = iou[(iou.row == row) & (iou.seed == "mean")].iloc[0]
        expected = scoring.iou_per_class(scoring.all_pixels(total))
        np.testing.assert_allclose(classes[["background", *CLASSES]].astype(float), expected, atol=0.005)
    assert set(table.split) == {"list5"}


def test_change_and_intervals_are_those_of_a_loop(tmp_path):
    seeds = (0, 7)
    given = same_images("cam", "cam_refined", seeds=seeds)
    table, _ = make_table(tmp_path, given)
    own, change = [], []
    for times in draws(len(IDS), 40).astype(int):
        drawn = np.repeat(np.arange(len(IDS)), times)
        scores = {key: miou(counts[drawn]) for key, (_, counts) in given.items()}
        own.append([scores["cam_refined", seed] for seed in seeds])
        change.append([scores["cam_refined", seed] - scores["cam", seed] for seed in seeds])
    own, change = np.array(own), np.array(change)
    for name, columns in (*zip(map(str, seeds), np.eye(2), strict=True), ("mean", np.array([0.5, 0.5]))):
        found = line(table, "cam_refined", seed=name)
        for values, prefix in ((own @ columns, ""), (change @ columns, "change_")):
            assert found[prefix.rstrip("_") or "value"] == pytest.approx(values[0], abs=0.006)
            low, high = np.percentile(values[1:], (2.5, 97.5))
            assert (found[f"{prefix}low"], found[f"{prefix}high"]) == pytest.approx((low, high), abs=0.006)
    assert line(table, "cam_refined")["spread"] == pytest.approx(np.std(own[0], ddof=1), abs=0.006)
    assert line(table, "cam_refined")["change_spread"] == pytest.approx(np.std(change[0], ddof=1), abs=0.006)
    assert np.isnan(line(table, "cam_refined", seed="7")["spread"])
    assert line(table, "cam_refined")["against"] == "cam"


def test_the_same_labels_change_by_nothing_however_the_images_are_drawn(tmp_path):
    given = {("cam", 0): (IDS, random_counts(1)), ("cam_refined", 0): (IDS, random_counts(1))}
    found = line(make_table(tmp_path, given)[0], "cam_refined")
    assert found["change"] == found["change_low"] == found["change_high"] == 0
    assert found["low"] < found["value"] < found["high"]


def test_other_images_are_not_compared(tmp_path):
    given = same_images("cam")
    given["cam_refined", 0] = (IDS[:4], random_counts(1, 4))
    given["deeplab_on_ecs", 0] = (IDS, random_counts(2))
    table, _ = make_table(tmp_path, given)
    for row in ("cam", "cam_refined", "deeplab_on_ecs"):  # the last: its row to compare with is not there
        found = table[table.row == row]
        assert found[["against", "change", "change_low", "change_high"]].isna().all(axis=None)


def test_noise_rules_are_held_against_the_evidence_without_any(tmp_path):
    names = [row.name for row in ROWS if row.what == "evidence"]
    table, _ = make_table(tmp_path, same_images(*names))
    assert list(dict.fromkeys(table.row)) == names
    assert set(table[table.row != "erased_evidence"].against) == {"erased_evidence"}


def test_printed_table(tmp_path, capsys):
    table, _ = make_table(tmp_path, same_images("cam_refined", "cam", seeds=(0, 1)))
    printed = capsys.readouterr().out.splitlines()
    head, first, second = (text.split("  ") for text in printed[:3])
    assert head[0] == "row"
    assert [first[0], second[0]] == ["cam", "cam_refined"]  # in the table's order
    found = line(table, "cam_refined")
    text = f"{found['value']:.2f} ± {found['spread']:.2f}  {found['low']:.2f} to {found['high']:.2f}"
    assert text in printed[2]
    assert f"{found['change']:+.2f} ± {found['change_spread']:.2f}" in printed[2]
    assert f"{found['change_low']:+.2f} to {found['change_high']:+.2f}" in printed[2]
    assert printed[1].count("–") == 3  # no change, no interval of it, nothing to hold it against
    assert len({len(text) for text in printed[:3]}) == 1
    assert printed[3].startswith("Intervals: the middle 95 % of 40 resamplings")


def test_same_bytes_again(tmp_path):
    texts = []
    for _ in range(2):
        make_table(tmp_path, same_images("cam", "cam_refined", seeds=(0, 1)))
        texts.append((tmp_path / "ablation.csv").read_bytes())
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["cam/0"], "--rows has 1 names, --counts 2 files"),
        (["cam/0", "cam_refined"], "--rows cam_refined: expected a row and a seed, as cam/0"),
        (["cam/0", "kam/0"], "kam: no such row; known are cam, cam_refined"),
        (["cam/0", "cam_refined/1"], "the rows have different seeds"),
    ],
)
def test_mistakes(tmp_path, rows, message):
    paths = [tmp_path / "counts.npz"] * 2
    write_image_counts(paths[0], "train", IDS, random_counts(0))
    with pytest.raises(UserError, match=message):
        ablation.read_rows(rows, paths)


@pytest.mark.parametrize("text", [None, "", "id,label\n1,2\n"])
def test_unreadable_table(tmp_path, text):
    path = tmp_path / "ablation.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=r"ablation\.csv: not a readable ablation"):
        ablation.format_table(path)


# the real Snakefile

SMALL = {**CONFIG, "rounds": 1, "shards": 4}
RUN = {
    "demo": 1, "fetch_weights": 1, "prepare_train": 1, "prepare_val": 1, "check_masks": 3, "train_cam": 1,
    "erase": 4, "evidence": 4, "train_ecs": 1, "ecs_labels": 4, "filter_labels": 1, "train_segmenter": 1,
    "predict": 4, "gather_labels": 1, "train_supervised": 1, "predict_supervised": 4, "gather_supervised": 1,
    "score": 6, "summary": 1, "figures": 1, "pack_model": 1, "overview": 1,
}  # fmt: skip
MORE = {
    "evidence": 4 * 8,  # without rules, four rules, the refined CAM alone, without walk, without weight
    "train_ecs": 1,
    "ecs_labels": 4 * 2,
    "filter_labels": 1, "train_segmenter": 1, "predict": 4, "gather_variant": 1,
    "score": 2 + 5 + 1 + 2 + 1,  # refined CAMs; evidence, the run's own among it; ECS-Net's labels; DeepLab's
    "ablation": 1,
}  # fmt: skip
OTHER_SEED = {
    "train_cam": 1, "erase": 4, "evidence": 4 * 9, "train_ecs": 2, "ecs_labels": 4 * 3, "filter_labels": 2,
    "train_segmenter": 2, "predict": 4 * 2, "gather_variant": 2, "train_supervised": 1,
    "predict_supervised": 4, "gather_supervised": 1, "score": 17,
}  # fmt: skip


def jobs(folder, *targets, config=SMALL):
    result = snakemake(folder, *targets, "-n", config=config)
    assert result.returncode == 0, result.stdout
    return dict(jobs_planned(result.stdout))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder where the run itself is finished: stand-ins, recorded as done."""
    folder = tmp_path_factory.mktemp("stand-ins")
    plan = snakemake(folder, "-n", config=SMALL).stdout
    for names in re.findall(r"^    output: (.+)$", plan, re.MULTILINE):
        for name in names.split(", "):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"stands for {name}")
    (folder / "results/tiny/summary.csv").write_text("what,split,metric,value\n")  # a run prints it
    result = snakemake(folder, "--touch", "--forceall", "--quiet", "all", config=SMALL)
    assert result.returncode == 0, result.stdout
    return folder


def test_the_run_itself_knows_nothing_of_variants(finished, tmp_path):
    assert jobs(tmp_path) == RUN
    assert jobs(finished) == {}
    assert not (finished / "results/tiny/ablation").exists()


def test_from_nothing_the_ablation_makes_the_run_and_what_is_missing(tmp_path):
    shows = ("summary", "figures", "pack_model", "overview")
    shown = {rule: number for rule, number in RUN.items() if rule not in shows}
    assert jobs(tmp_path, "ablation") == {
        rule: shown.get(rule, 0) + MORE.get(rule, 0) for rule in shown | MORE
    }


def test_after_the_run_only_what_is_missing_remains(finished):
    assert jobs(finished, "ablation") == MORE


def test_a_variants_own_settings_reach_its_jobs(finished):
    both = {**SMALL, "ablation": {"seeds": [0, 1]}}
    plan = snakemake(finished, "ablation", "-n", "--printshellcmds", config=both).stdout
    found = re.findall(r"ecsnet (\w+) --settings '(.+?)' .* --out results/tiny(/ablation/\w+)/", plan)
    variants = Variants(parse_config(both))
    assert {variant for _, _, variant in found} == {
        name for name in variants.folders() if name in plan and name
    }
    for stage, settings, variant in found:
        assert json.loads(settings) == json.loads(variants.settings(variant, stage)), (stage, variant)
    rule = next(settings for _, settings, variant in found if variant == "/ablation/n2_conflict")
    assert json.loads(rule)["conflict"] == 0.5
    assert [json.loads(rule)[key] for key in ("residual", "margin", "speck")] == [0, 0, 0]


def test_another_seed_makes_all_but_the_tables_of_images_once_more(finished):
    both = {**SMALL, "ablation": {"seeds": [0, 1]}}
    expected = {rule: MORE.get(rule, 0) + OTHER_SEED.get(rule, 0) for rule in MORE | OTHER_SEED}
    assert jobs(finished, "ablation", config=both) == {**expected, "ablation": 1}


def test_rounds_are_taken_up(finished):
    more = jobs(finished, "ablation", config={**SMALL, "rounds": 2})
    # the run's second; both of the one that is trained on x; the second of labels from both views
    assert more["train_ecs"] == 1 + 2 + 1
    assert more["ecs_labels"] == 4 * (1 + 2 + 2)


def test_a_file_of_an_unknown_variant_is_refused(tmp_path):
    result = snakemake(tmp_path, "results/tiny/ablation/other/erase/1-of-4.npz", "-n", config=SMALL)
    assert result.returncode == 1
    assert "No rule to produce" in result.stdout or "MissingRuleException" in result.stdout
    assert "Traceback" not in result.stdout


BASELINE = {
    **SMALL,
    "run": "baseline",
    "evidence": {"erased": False},
    "filter_labels": {"source": "evidence"},
}


def test_the_baseline_as_a_run_of_its_own_trains_no_ecs_net(tmp_path):
    expected = {rule: number for rule, number in RUN.items() if rule not in ("train_ecs", "ecs_labels")}
    assert jobs(tmp_path, config=BASELINE) == {**expected, "score": 5}


def test_planning_takes_no_longer_for_the_run_itself(finished):
    seconds = []
    for _ in range(2):
        before = processor_seconds()
        assert jobs(finished, "ablation") == MORE
        seconds.append(processor_seconds() - before)
    assert min(seconds) < 3


TINY = {
    **CONFIG,
    "rounds": 1,
    "shards": 1,
    "demo": {"train_images": 6, "val_images": 3, "width": 96, "height": 64},
    "erase": {"scales": [1.0], "flip": False},
    "evidence": {"refine": {"rounds": 2}},
    "ecs_labels": {"scales": [1.0], "flip": False},
    "filter_labels": {"drop_image": False},
    "predict": {"scales": [1.0], "flip": False},
    "ablation": {"resamples": 100},
}


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_real_run(tmp_path):
    result = snakemake(tmp_path, "ablation", config=TINY)
    assert result.returncode == 0, result.stdout
    results = tmp_path / "results/tiny"
    table = pd.read_csv(results / "ablation.csv", dtype={"seed": str})
    assert list(dict.fromkeys(table.row)) == [row.name for row in ROWS]
    assert table[table.seed == "mean"].value.between(0, 100).all()
    for row in ("cam", "cam_weighted", "filter_off", "filter_on", "deeplab_on_ecs", "supervised"):
        what = next(one.what for one in ROWS if one.name == row)
        score = read_score(results / f"score/{what}.json").metrics
        expected = score["miou_best" if what == "cam" else "miou"]
        assert line(table, row)["value"] == pytest.approx(expected, abs=0.01)
        assert line(table, row, "coverage")["value"] == pytest.approx(score["coverage"], abs=0.01)
    without = set(table[table.against.isna()].row)
    assert without == {"cam", "deeplab_on_cam"}
    end = result.stdout.split("steps (100%) done")[-1]
    assert all(re.search(rf"^{row.name} +(train|val) ", end, re.MULTILINE) for row in ROWS)
    assert not list(results.rglob("*.resume.safetensors"))

    # the run itself finds its stages made; intervals need no mask
    assert set(jobs(tmp_path, config=TINY)) == {"summary", "figures", "pack_model", "overview"}
    shutil.rmtree(tmp_path / "resources/demo/SegmentationClass")
    again = {**TINY, "ablation": {"resamples": 50}}
    assert jobs(tmp_path, "ablation", config=again) == {"ablation": 1}
    assert snakemake(tmp_path, "ablation", config=again).returncode == 0
    assert jobs(tmp_path, "ablation", config=again) == {}
    new = pd.read_csv(results / "ablation.csv", dtype={"seed": str})
    assert line(new, "cam")["value"] == line(table, "cam")["value"]
