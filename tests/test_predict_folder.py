import csv
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from PIL import Image, features
from stage_data import CLASSES, RUNTIME, make_data
from test_pack_model import pack

from ecsnet import cli, predict_folder
from ecsnet.errors import UserError
from ecsnet.masklist import COLUMNS, find_photographs
from ecsnet.palette import read_mask, voc_palette, write_mask
from ecsnet.predict_folder import of_equal_shape
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


def state(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def drawn_in(mask):
    """Draw into a mask, as an editor does."""
    labels = read_mask(mask)
    labels[: len(labels) // 2] = 2
    write_mask(mask, labels)
    return mask.read_bytes()


def test_masks_that_were_edited_are_kept(model, photos, tmp_path, capsys):
    out, said = tmp_path / "out", "masks edited since: 1; they are kept, and --force makes them again"
    first = predict(model, photos, out)
    drawn = drawn_in(out / "large.png")
    (out / "alpha.png").write_bytes((out / "alpha.png").read_bytes()[:-20])  # damaged, not edited
    write_mask(out / "a.png", np.zeros((5, 5), np.uint8))  # of another picture
    capsys.readouterr()
    for options in ({}, {"fast": True}, {"overlays": tmp_path / "overlays"}):
        rows = predict(model, photos, out, **options)
        assert (out / "large.png").read_bytes() == drawn
        assert capsys.readouterr().out.count(said) == 1
    assert rows["large.JPEG"] == {**first["large.JPEG"], "overlay": rows["large.JPEG"]["overlay"]}
    assert rows["alpha.webp"]["digest"] == first["alpha.webp"]["digest"]
    assert read_mask(out / "a.png").shape == (80, 60)
    with Image.open(tmp_path / "overlays" / "large.jpg") as overlay:  # of what was drawn
        top = np.array(overlay)[2:28, 2:90].reshape(-1, 3).mean(0)
    assert top[1] > top[0] + 30  # class 2 is green
    predict(model, photos, out, force=True)
    assert (out / "large.png").read_bytes() != drawn
    assert said not in capsys.readouterr().out


def test_a_run_that_was_killed_leaves_no_mask_that_looks_edited(model, photos, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    predict(model, photos, out)
    writes = iter([predict_folder.write_rows])  # the first one alone reaches the disk
    monkeypatch.setattr(predict_folder, "write_rows", lambda *given: next(writes, lambda *_: None)(*given))
    predict(model, photos, out, fast=True)  # all masks are new, and the table knows of none
    monkeypatch.undo()
    predict(model, photos, out)
    assert "edited" not in capsys.readouterr().out


def test_another_folder_writes_over_nothing(model, photos, tmp_path):
    out, other = tmp_path / "out", tmp_path / "other"
    predict(model, photos, out)
    shutil.copytree(photos, other)
    assert {row["folder"] for row in predict(model, other, out).values()} == {"../other"}  # the same pictures
    Image.new("RGB", (30, 20)).save(other / "a.jpg")
    assert predict(model, other, out)["a.jpg"]["width"] == "30"  # edited where it was
    before = state(out)
    with pytest.raises(UserError, match=r"a\.png: is of another picture of that name, in .*other; --f"):
        predict(model, photos, out)
    assert state(out) == before
    assert predict(model, photos, out, force=True)["a.jpg"]["width"] == "60"
    (photos / "a.jpg").rename(photos / "a.jpeg")
    with pytest.raises(UserError, match=r"a\.png: is there already, and of a\.jpg, as .*masks\.csv says"):
        predict(model, photos, out)


def test_an_overlay_is_of_the_mask_beside_it(model, photos, tmp_path):
    out, overlays = tmp_path / "out", tmp_path / "overlays"
    photo = photos / "a.jpg"
    predict(model, photo, out, overlays=overlays)
    Image.new("RGB", (90, 40), "red").save(photo)
    predict(model, photo, out)
    predict(model, photo, out, overlays=overlays)
    with Image.open(overlays / "a.jpg") as overlay:
        assert overlay.width == 90


OTHERS = {
    "tags": lambda text: b"image,labels\na.jpg,cat\n",
    "of a run": lambda text: b"image,mask,part\na.jpg,a.png,val\n",
    "empty": lambda text: b"",
    "semicolons": lambda text: text.replace(b",", b";"),
    "a row cut": lambda text: text[:-30],
    "no text": lambda text: b"\xff",
}


@pytest.mark.parametrize("form", OTHERS)
def test_a_table_of_others_is_refused(model, photos, tmp_path, form):
    out = tmp_path / "out"
    predict(model, photos, out)
    table = out / "masks.csv"
    text = table.read_bytes()
    table.write_bytes(b"\xef\xbb\xbf" + text)  # a spreadsheet's mark
    predict(model, photos, out)
    table.write_bytes(OTHERS[form](text))
    before = state(out)
    with pytest.raises(UserError, match="is not, or no longer, the table that this command wrote; restore"):
        predict(model, photos, out)
    assert state(out) == before


@pytest.mark.parametrize(("feature", "ending"), [("avif", "AVIF"), ("jpg_2000", "jp2"), ("jpg_2000", "j2k")])
def test_formats_that_pillow_may_read(model, tmp_path, feature, ending):
    if not features.check(feature):
        pytest.skip(f"Pillow without {feature}")
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"exif": exif} if feature == "avif" else {}
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (40, 30), "red").save(tmp_path / "photos" / f"a.{ending}", **options)
    [row] = predict(model, tmp_path / "photos", tmp_path / "out").values()
    assert (row["width"], row["height"]) == (("30", "40") if feature == "avif" else ("40", "30"))


def test_heic_of_a_telephone(model, tmp_path):
    """Which it writes lying, and says how to turn it."""
    pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "photos").mkdir()
    picture = Image.new("RGB", (40, 30), "red")
    picture.save(tmp_path / "photos" / "a.HEIC", format="HEIF", exif=exif.tobytes())
    picture.save(tmp_path / "photos" / "b.heic", format="HEIF")
    picture.save(tmp_path / "photos" / "b.jpg")  # the same for those who cannot read it
    rows = predict(model, tmp_path / "photos", tmp_path / "out", overlays=tmp_path / "overlays")
    sizes = {name: (row["width"], row["height"]) for name, row in rows.items()}
    assert sizes == {"a.HEIC": ("30", "40"), "b.jpg": ("40", "30")}
    whole = (tmp_path / "photos" / "a.HEIC").read_bytes()
    (tmp_path / "photos" / "a.HEIC").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"a\.HEIC: is no JPEG .* or HEIF picture"):
        predict(model, tmp_path / "photos", tmp_path / "other")


def test_a_broken_library_for_heic_is_no_reason_to_refuse_others(photos, tmp_path):
    (tmp_path / "pillow_heif.py").write_text("raise ImportError('a library is missing')")
    code = "import sys; from ecsnet.photographs import *; print(opened_photo(Path(sys.argv[1])).size)"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{REPOSITORY}"}
    command = [sys.executable, "-c", code, photos / "a.jpg"]
    said = subprocess.run(command, env=environment, text=True, capture_output=True)
    assert said.stdout == "(60, 80)\n", said.stderr


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
    for name in ("camera.CR3", "camera2.raf", "new.jxl"):
        (photos / name).write_bytes(b"?")
    with pytest.raises(UserError) as error:
        predict(model, photos, tmp_path / "out")
    text = str(error.value)
    assert "broken.jpg: is damaged or cut off" in text
    assert "camera.CR3: cannot be read; convert it to JPEG" in text
    assert text.count("cannot be read; convert it to JPEG") == 3
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
    drawn = drawn_in(out / "large.png")
    assert cli.main(words) == 0
    assert (out / "large.png").read_bytes() == drawn
    assert cli.main([*words, "--force"]) == 0
    assert (out / "large.png").read_bytes() != drawn


def test_options_that_cannot_be_meant(model, photos, tmp_path, capsys, monkeypatch):
    def told(*words, network=model):
        given = ["predict-folder", str(photos), "--model", str(network), "--threads", "1", *map(str, words)]
        assert cli.main(given) == 1
        return capsys.readouterr().err

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    text = told("--out", tmp_path / "out", "--device", "cuda")
    assert "--device cuda: torch sees no card; leave the option out" in text
    assert not (tmp_path / "out").exists()
    if os.path.isdir("/proc/self"):
        for option in ("--out", "--overlays"):
            text = told("--out", tmp_path / "out", option, "/proc/absent")
            assert f"{option} /proc/absent: cannot be made (No such file or directory); name a folder" in text
    assert f"{photos}: is a folder; give a trained network, results/" in told(
        "--out", tmp_path, network=photos
    )
