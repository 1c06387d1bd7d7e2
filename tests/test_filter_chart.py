import numpy as np
import pytest
from PIL import Image
from tiny_run import CLASSES, make_run, write_filtered, write_kept

from ecsnet.errors import UserError
from ecsnet.filter_chart import PARTS, draw_filter, read_table, shares_by_class
from ecsnet.tables import read_images


def test_shares_by_hand(tmp_path):
    run = make_run(tmp_path)
    shares = read_table(write_filtered(run))
    assert list(shares.columns) == list(PARTS)
    assert shares.loc["t2"].tolist() == pytest.approx([0, 0.3, 0, 0.1, 0.6])  # dropped: what no rule took
    assert shares.loc["t3"].tolist() == pytest.approx([0.5, 0, 0.25, 0.25, 0])
    assert np.allclose(shares.sum(axis=1), 1)
    rows = shares_by_class(shares, read_images(run.images, CLASSES), CLASSES)
    assert list(rows) == ["all images", "cat", "dog"]  # no image has the tag cow
    assert rows["cat"].kept == pytest.approx((0.8 + 0.5) / 2)
    assert rows["dog"].kept == pytest.approx((0 + 0.5) / 2)
    assert rows["all images"].confidence == pytest.approx((0.1 + 0.3 + 0) / 3)


def test_the_chart_is_drawn(tmp_path):
    run = make_run(tmp_path)
    records = read_images(run.images, CLASSES)
    out = tmp_path / "filter.png"
    draw_filter(out, write_filtered(run), write_kept(tmp_path / "kept.csv"), records, CLASSES)
    with Image.open(out) as picture:
        colors = {tuple(color) for color in np.asarray(picture).reshape(-1, 3)}
    wanted = {tuple(bytes.fromhex(color[1:])) for color, _ in PARTS.values()}
    assert wanted <= colors  # all that became of a pixel occurs here


def test_another_table_is_refused(tmp_path):
    run = make_run(tmp_path)
    with pytest.raises(UserError, match="not a readable table of labels"):
        read_table(run.truth)
