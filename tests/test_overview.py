import dataclasses
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from tiny_run import make_run

from ecsnet import overview
from ecsnet.errors import UserError
from ecsnet.overview import PICTURES, times
from ecsnet.scoring import make_record
from ecsnet.settings import Config, Dataset, Predict, changed_settings


class Tags(HTMLParser):
    """All tags of a page, and whether each is closed."""

    VOID = ("meta", "img", "br")

    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path)


def write(run, scores=("cam", "val", "supervised"), **changes):
    paths = []
    for what in scores or ():
        metrics = {"miou": {"val": 30.0, "supervised": 40.0}.get(what, 20.0), "coverage": float("nan")}
        split = "train" if what == "cam" else "val"
        record = make_record(what, split, 3, metrics, np.eye(4, dtype=int), ["cat", "dog", "cow"])
        paths.append(run.folder / f"{what}.json")
        paths[-1].write_text(record.to_json())
    pictures = [run.folder / f"{name}.png" for name in reversed(PICTURES)]
    for path in pictures:
        Image.new("RGB", (4, 4)).save(path)
    folder = run.folder / "logs" / "run"
    for name, row in (
        ("erase/1-of-2", "30 100"),
        ("erase/2-of-2", "30 300"),
        ("summary", "1 -"),
        ("ablation/x", "9 9"),
    ):
        path = folder / f"{name}.benchmark.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("s\tmax_rss\n{}\t{}\n".format(*row.split()))
    config = dataclasses.replace(Config(), run="a <b>", predict=Predict(flip=False), **changes)
    overview.run(
        None,
        config=json.dumps(dataclasses.asdict(config)),
        images=run.images,
        val_images=run.images,
        classes=run.classes,
        scores=paths or None,
        pictures=pictures,
        logs=folder,
        out=run.folder / "overview.html",
    )
    return (run.folder / "overview.html").read_text()


def test_the_page_stands_alone(run):
    text = write(run)
    page = Tags(text)
    assert not page.open
    names = [tag for tag, _ in page.found]
    assert not {"script", "link", "iframe"} & set(names)
    assert names.count("img") == len(PICTURES)
    for _, attributes in page.found:
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/png;base64,"))
    targets = {attributes["id"] for _, attributes in page.found if "id" in attributes}
    assert {attributes["href"][1:] for tag, attributes in page.found if tag == "a"} <= targets
    assert "url(" not in text
    assert "@import" not in text


def test_it_says_what_was_run(run):
    text = write(run)
    assert "<title>a &lt;b&gt;: ecsnet</title>" in text
    assert "3 to learn from, 3 held back" in text
    assert "it learned from 3 images, not from the 10582 of trainaug" in text
    assert "this run</td>" not in text
    assert re.search(r"reaches 0\.750 of what it reaches on true masks", text)
    assert "predict.flip: False" in text
    order = [text.index(f'<h2 id="{name}">') for name in PICTURES]
    assert order == sorted(order)


def test_a_run_by_the_protocol_stands_in_the_table(run, monkeypatch):
    monkeypatch.setattr(overview, "differences", lambda *_: [])
    text = write(run)
    assert "may not be compared" not in text
    row = re.search(r'<tr class="ours">(.*?)</tr>', text, re.DOTALL)[1]
    assert re.findall(r">([^<]+)</td>", row) == ["this run", "30.0", "–", "–", "–", "see above"]


def test_without_masks_it_says_so(run):
    text = write(run, scores=None, dataset=Dataset(kind="folder"))
    assert "Nothing is scored: there are no true masks." in text
    assert "kind folder" in text


def test_times_by_stage(run, tmp_path):
    write(run)
    assert times(tmp_path / "logs" / "run") == [
        ["erase", "2", "1:00", "98 %", "300"],
        ["summary", "1", "0:01", "2 %", "0"],
    ]
    (tmp_path / "logs" / "run" / "erase" / "1-of-2.benchmark.tsv").write_text("")
    assert times(tmp_path / "logs" / "run")[0][:3] == ["erase", "1", "0:30"]
    assert times(tmp_path / "absent") == []


def test_a_picture_that_is_gone(run):
    with pytest.raises(UserError, match=r"iou\.png: No such file"):
        overview.embedded(run.folder / "iou.png")


def test_changed_settings():
    assert changed_settings(Config()) == {}
    config = dataclasses.replace(Config(), seed=3, dataset=Dataset(kind="demo"))
    assert changed_settings(config) == {"seed": 3, "dataset.kind": "demo"}
