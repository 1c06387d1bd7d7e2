import csv
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from stage_data import CLASSES, RUNTIME, make_data
from test_pack_model import pack

from ecsnet import cli, predict_folder
from ecsnet.errors import UserError
from ecsnet.masklist import COLUMNS
from ecsnet.palette import read_mask, voc_palette
from ecsnet.predict_folder import find_photographs, of_equal_shape
from ecsnet.settings import Runtime


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    data = make_data(tmp_path_factory.mktemp("data"))
    return pack(data, data / "segmenter.safetensors", scales=[1.0], flip=False, refine={"rounds": 1})


@pytest.fixture
def photos(tmp_path):
    """Photographs of all formats, depths and sizes, as they lie in a drawer."""
    folder = tmp_path / "photos"
    (folder / "in the garden").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    picture = Image.fromarray(noise)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(folder / "a.jpg", exif=exif)
    picture.resize((300, 200)).save(folder / "large.JPEG")
    picture.convert("L").save(folder / "in the garden" / "grey.png")
    picture.convert("RGBA").save(folder / "alpha.webp")
    picture.convert("CMYK").save(folder / "print.tif")
    picture.convert("P").save(folder / "old.gif")
    picture.resize((1, 1)).save(folder / "dot.bmp")
    return folder


def predict(model, photos, out, **options):
    predict_folder.run(model=model, photos=photos, out=out, runtime=RUNTIME, threads=1, **options)
    with (out / "masks.csv").open(encoding="utf-8", newline="") as file:
        return {row["image"]: row for row in csv.DictReader(file)}


def test_every_photograph_gets_a_mask_of_its_own_size(model, photos, tmp_path, capsys):
    rows = predict(model, photos, tmp_path / "out", overlays=tmp_path / "overlays")
    sizes = {name: (int(row["width"]), int(row["height"])) for name, row in rows.items()}
    assert sizes == {
        "a.jpg": (60, 80), "alpha.webp": (80, 60), "dot.bmp": (1, 1), "in the garden/grey.png": (80, 60),
        "large.JPEG": (300, 200), "old.gif": (80, 60), "print.tif": (80, 60),
    }  # fmt: skip
    for name, row in rows.items():
        assert tuple(row) == COLUMNS
        mask = read_mask(tmp_path / "out" / row["mask"])
        assert mask.shape == sizes[name][::-1]
        found = {CLASSES[value - 1]: 100 * (mask == value).mean() for value in set(mask.ravel()) - {0}}
        labels, shares = (row[key].split(";") if row[key] else [] for key in ("labels", "percent"))
        percent = dict(zip(labels, map(float, shares), strict=True))
        assert percent == pytest.approx(
            {key: value for key, value in found.items() if value >= 0.1}, abs=0.06
        )
        assert list(percent.values()) == sorted(percent.values(), reverse=True)
    with Image.open(tmp_path / "out" / "in the garden" / "grey.png") as mask:
        assert (mask.mode, mask.getpalette()) == ("P", voc_palette())
    with Image.open(tmp_path / "overlays" / "large.jpg") as overlay:
        assert overlay.width == 96  # as large as what the network saw
    assert "licence: CC BY 4.0" in capsys.readouterr().out


def test_batches_change_no_label(model, photos, tmp_path):
    for name, batch in (("one", 1), ("many", 4)):
        runtime = Runtime(device="cpu", inference_batch=batch)
        predict_folder.run(model=model, photos=photos, out=tmp_path / name, runtime=runtime, threads=2)
    for path in (tmp_path / "one").rglob("*.png"):
        ours = read_mask(path)
        theirs = read_mask(tmp_path / "many" / path.relative_to(tmp_path / "one"))
        assert (ours == theirs).mean() > 0.99


def test_what_is_done_is_passed_over(model, photos, tmp_path, monkeypatch):
    out = tmp_path / "out"
    predict(model, photos, out)
    seen = []
    segment = predict_folder.segment
    monkeypatch.setattr(
        predict_folder, "segment", lambda *arguments: seen.append(len(arguments[1])) or segment(*arguments)
    )

    def again(**options):
        seen.clear()
        rows = predict(model, photos, out, **options)
        assert set(rows) == {path.relative_to(photos).as_posix() for path in photos.rglob("*.*")}
        return sum(seen)

    assert again() == 0
    (out / "a.png").unlink()
    Image.new("RGB", (30, 20)).save(photos / "new.jpg")
    Image.new("RGB", (30, 20)).save(photos / "old.gif")
    assert again() == 3
    assert again(overlays=tmp_path / "overlays") == 8
    assert again(fast=True) == 8
    (out / "a.png").write_bytes(b"")  # cut off by a power cut
    assert again(fast=True) == 1
    assert set(predict(model, photos / "a.jpg", out)) == set(again_rows(out))  # of the others nothing is lost


def again_rows(out):
    return {row["image"] for row in csv.DictReader((out / "masks.csv").open(encoding="utf-8", newline=""))}


def test_nothing_of_the_user_is_written_over(model, photos, tmp_path):
    drawn = tmp_path / "drawn"
    drawn.mkdir()
    (drawn / "a.png").write_bytes(b"by hand")
    with pytest.raises(UserError, match=r"a\.png: is there already, and .*masks\.csv does not list it"):
        predict(model, photos, drawn)
    assert (drawn / "a.png").read_bytes() == b"by hand"
    with pytest.raises(UserError, match="is where the photograph is; name another folder"):
        predict(model, photos / "a.jpg", tmp_path / "out", overlays=photos)
    (photos / "photos").mkdir()
    Image.new("RGB", (9, 9)).save(photos / "photos" / "b.png")
    Image.new("RGB", (9, 9)).save(photos / "b.png")
    with pytest.raises(UserError, match=r"photos/b\.png: is one of the photographs"):
        predict(model, photos, tmp_path)


def test_a_run_that_was_stopped_goes_on(model, photos, tmp_path, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setattr(predict_folder.stopping, "asked", lambda: True)
    monkeypatch.setattr(predict_folder.stopping, "leave", lambda note: pytest.fail(note, pytrace=False))
    with pytest.raises(pytest.fail.Exception, match="1 of 7 pictures are done; the same command goes on"):
        predict(model, photos, out)
    monkeypatch.undo()
    with (out / "masks.csv").open(encoding="utf-8", newline="") as file:
        assert [bool(row["digest"]) for row in csv.DictReader(file)].count(True) == 1
    assert len(predict(model, photos, out)) == 7


def test_odd_names_and_files(model, photos, tmp_path):
    (photos / "loop").symlink_to(photos)
    (photos / "a.CR2").write_bytes(b"?")  # beside a.jpg, as cameras write
    (photos / "nowhere.jpg").symlink_to("absent")
    shutil.copy(photos / "old.gif", os.fsencode(photos) + b"/caf\xe9.gif")
    (tmp_path / "out" / "print.png").mkdir(parents=True)
    with pytest.raises(UserError) as error:
        predict(model, photos, tmp_path / "out")
    assert "print.png: is there already" in str(error.value)
    (tmp_path / "out" / "print.png").rmdir()
    with pytest.raises(UserError) as error:
        predict(model, photos, tmp_path / "out")
    lines = str(error.value).splitlines()[1:]
    assert len(lines) == 2
    assert "'caf\\\\udce9.gif' has signs that no table can hold; rename it" in lines[0]
    assert lines[1].endswith("nowhere.jpg: is no file (a link that leads nowhere, or a pipe)")
    assert len(again_rows(tmp_path / "out")) == 7


def test_pictures_that_cannot_be_read_are_told_after_the_others(model, photos, tmp_path):
    (photos / "broken.jpg").write_bytes((photos / "large.JPEG").read_bytes()[:600])
    (photos / "phone.heic").write_bytes(b"?")
    with pytest.raises(UserError) as error:
        predict(model, photos, tmp_path / "out")
    text = str(error.value)
    assert "broken.jpg: is damaged or cut off" in text
    assert "phone.heic: cannot be read; convert it to JPEG" in text
    assert len(list((tmp_path / "out").rglob("*.png"))) == 7
    assert "broken" not in (tmp_path / "out" / "masks.csv").read_text()


def test_a_single_photograph(model, photos, tmp_path):
    assert set(predict(model, photos / "a.jpg", tmp_path / "out")) == {"a.jpg"}


def test_folders_that_cannot_be_meant(model, photos, tmp_path):
    with pytest.raises(UserError, match="lies in the folder of photographs"):
        find_photographs(photos, [photos / "masks"])
    with pytest.raises(UserError, match="no such folder or picture"):
        find_photographs(tmp_path / "absent", [])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no picture \(\.jpg"):
        find_photographs(tmp_path / "empty", [])
    (photos / "a.png").write_bytes(b"?")
    with pytest.raises(UserError, match=r"a\.jpg and a\.png would have the same mask; rename one"):
        find_photographs(photos, [])


def test_pictures_of_equal_shape_go_together():
    shapes = [(4, 6, 3), (6, 4, 3), (4, 6, 3), (4, 6, 3), (6, 4, 3)]
    pictures = [
        predict_folder.Picture(str(number), "", (1, 1), np.zeros(shape, np.uint8))
        for number, shape in enumerate(shapes)
    ]
    batches = [[picture.name for picture in batch] for batch in of_equal_shape(pictures, 2)]
    assert batches == [["0", "2"], ["3"], ["1", "4"]]


def test_the_command(model, photos, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["predict-folder", "--model", str(model), str(photos), "--out", str(out), "--threads", "1"]
    assert cli.main(words) == 0
    assert f"7 masks in {out}" in capsys.readouterr().out
    torch.set_num_threads(1)
    assert cli.main([*words[:2], str(tmp_path / "absent"), *words[3:]]) == 1
    assert capsys.readouterr().err.startswith("ecsnet predict-folder: ")
