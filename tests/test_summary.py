import pytest

from ecsnet import summary
from ecsnet.errors import UserError
from ecsnet.scoring import ScoreRecord


def write_scores(folder, **metrics_by_what):
    paths = []
    for what, metrics in metrics_by_what.items():
        split = "minival" if what in ("val", "supervised") else "minitrain"
        paths.append(folder / f"{what}.json")
        paths[-1].write_text(ScoreRecord(what, split, 3, metrics, {"background": 50.0}, [[1]]).to_json())
    return paths


SCORES = {
    "supervised": {"miou": 40.0, "coverage": 100.0, "accuracy_kept": 80.0},
    "val": {"miou": 33.337, "coverage": 100.0, "accuracy_kept": 75.0},
    "filtered_labels": {"miou": 38.0, "miou_kept": None, "coverage": 71.256, "accuracy_kept": 90.0},
    "cam": {"miou": 30.0, "miou_best": 31.5, "best_threshold": 0.3, "coverage": 100.0, "accuracy_kept": 70.0},
}


def test_rows_in_the_order_of_the_pipeline(tmp_path):
    summary.run(None, scores=write_scores(tmp_path, **SCORES), out=tmp_path / "summary.csv")
    assert (tmp_path / "summary.csv").read_text().splitlines() == [
        "what,split,metric,value",
        "cam,minitrain,miou,30.00",
        "cam,minitrain,miou_best,31.50",
        "cam,minitrain,coverage,100.00",
        "cam,minitrain,accuracy_kept,70.00",
        "filtered_labels,minitrain,miou,38.00",
        "filtered_labels,minitrain,miou_kept,",
        "filtered_labels,minitrain,coverage,71.26",
        "filtered_labels,minitrain,accuracy_kept,90.00",
        "val,minival,miou,33.34",
        "val,minival,coverage,100.00",
        "val,minival,accuracy_kept,75.00",
        "val,minival,ratio_to_supervised,83.34",
        "supervised,minival,miou,40.00",
        "supervised,minival,coverage,100.00",
        "supervised,minival,accuracy_kept,80.00",
    ]


def test_printed_table(tmp_path, capsys):
    summary.run(None, scores=write_scores(tmp_path, **SCORES), out=tmp_path / "summary.csv")
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "what             " + "                  split       miou   best  kept   share   acc.",
        "cam              activation maps   minitrain  30.00  31.50     –  100.00  70.00",
        "filtered_labels  reliable labels   minitrain  38.00      –     –   71.26  90.00",
        "val              DeepLab on them   minival    33.34      –     –  100.00  75.00",
        "supervised       DeepLab on masks  minival    40.00      –     –  100.00  80.00",
        *summary.LEGEND.splitlines(),
        "val reaches 83.34 % of supervised",
    ]
    assert max(map(len, lines[:5])) <= 80


@pytest.mark.parametrize("present", [["val"], ["supervised"], ["cam"]])
def test_no_ratio_without_both(tmp_path, present):
    paths = write_scores(tmp_path, **{what: SCORES[what] for what in present})
    summary.run(None, scores=paths, out=tmp_path / "summary.csv")
    assert "ratio" not in (tmp_path / "summary.csv").read_text()
    assert "of supervised" not in summary.format_table(tmp_path / "summary.csv")


@pytest.mark.parametrize("text", [None, "", "id,label\n1,2\n"])
def test_unreadable_summary(tmp_path, text):
    path = tmp_path / "summary.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=r"summary\.csv: not a readable summary"):
        summary.format_table(path)
