"""Whatever the bytes: every reader gives a right result or a `UserError` that names the file."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from bad_files import encoded, saved, wide_color
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from voc_folder import CLASSES, outcome

from ecsnet import check_masks, contents, pictures, tables, voc
from ecsnet.errors import UserError
from ecsnet.palette import read_mask
from ecsnet.scoring import ScoreRecord, read_score
from ecsnet.settings import Config, Dataset, Erase, parse_config, parse_json
from ecsnet.store import Shard, ShardReader, ShardWriter

REPOSITORY = Path(__file__).resolve().parents[1]
RECORD = tables.ImageRecord("a1", "JPEGImages/a1.jpg", 40, 30, (1,), "0")
LABEL = tables.LabelRecord("a1", "masks/a1.png", "0")
INTERESTING = b"\0\xff\n\r,;\"'<>&/\\.-1 {}[]:#*!%\x80\xef\xbb\xbf"

edits = st.lists(
    st.tuples(
        st.sampled_from(["change", "insert", "delete", "double", "cut"]),
        st.floats(0, 1, exclude_max=True),
        st.integers(1, 12),
        st.binary(min_size=1, max_size=12) | st.sampled_from([bytes([sign]) for sign in INTERESTING]),
    ),
    min_size=1,
    max_size=5,
)


def damage(content: bytes, changes: list[tuple[str, float, int, bytes]]) -> bytes:
    """A good file after some edits; places are shares of its length."""
    for kind, place, length, new in changes:
        start = int(place * len(content))
        before, middle, after = content[:start], content[start : start + length], content[start + length :]
        content = {
            "change": before + new + content[start + len(new) :],
            "insert": before + new + middle + after,
            "delete": before + after,
            "double": before + middle + middle + after,
            "cut": before,
        }[kind]
    return content


bounded = settings(max_examples=120, deadline=None)


def table(write: Callable, *arguments: Any) -> Callable[[Path], Any]:
    """A maker of a good table."""
    return lambda path: write(path, *arguments)


def write_shard(path: Path) -> None:
    with ShardWriter(path) as writer:
        for image_id in ("a1", "a2"):
            writer.add(image_id, classes=np.arange(3, dtype=np.uint8), scores=np.zeros((2, 4, 5), np.float16))


def read_shard(path: Path) -> list[np.ndarray]:
    reader = ShardReader([path])
    return [reader.get(image_id, name) for image_id in reader.ids() for name in ("classes", "scores")]


def read_main_list(path: Path) -> Any:
    problems: list[voc.Problem] = []
    rows = voc._read_main_list(path, problems)
    if problems:
        raise UserError("\n".join(map(str, problems)))
    return rows


def read_list(path: Path) -> list[str]:
    return voc.read_list(Path(), str(path))


def check_mask(path: Path) -> Any:
    result = check_masks._try_mask(path.parent, ".", RECORD, 2)
    if isinstance(result, str):
        raise UserError(result)
    return result


def of(content: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(content)


SCORE = ScoreRecord("val", "val", 3, {"miou": 50.0}, {"cat": None}, [[1, 2], [3, 4]])
ANNOTATION = b"<annotation><object><name>cat</name><difficult>1</difficult></object></annotation>"
PNG = saved(Image.fromarray(np.arange(1200, dtype=np.uint8).reshape(30, 40) % 3))
# What makes a good file of a name, and what reads it
READERS: dict[str, tuple[Callable[[Path], Any], str, Callable[[Path], Any]]] = {
    "list": (of(b"2007_000027\r\na1 1\n\nk\xc3\xa4fer\n"), "list.txt", read_list),
    "list of Main": (of(b"a1  1\na2 -1\na3  0\n"), "cat_trainval.txt", read_main_list),
    "annotation": (of(ANNOTATION), "a1.xml", voc.read_annotation),
    "JPEG": (of(encoded("JPEG")), "a1.jpg", pictures.read_image),
    "PNG": (of(encoded("PNG", "P")), "a1.jpg", pictures.read_image),
    "16-bit PNG": (of(wide_color(20, 10)), "a1.png", pictures.read_image),
    "mask": (of(PNG), "a1.png", read_mask),
    "mask of an image": (of(PNG), "a1.png", check_mask),
    "image table": (
        table(tables.write_images, [RECORD], list(CLASSES)),
        "train.csv",
        lambda path: tables.read_images(path, list(CLASSES)),
    ),
    "label table": (table(tables.write_labels, [LABEL], [{"kept": 0.5}]), "labels.csv", tables.read_labels),
    "classes": (table(tables.write_classes, CLASSES), "classes.txt", tables.read_classes),
    "score": (lambda path: path.write_text(SCORE.to_json()), "val.json", read_score),
    "shard": (write_shard, "1-of-2.npz", read_shard),
}


@pytest.mark.filterwarnings("ignore")  # decoders warn of what they put up with
@pytest.mark.parametrize("kind", READERS)
@bounded
@given(edits)
def test_a_damaged_file_is_read_or_named(kind, tmp_path_factory, changes):
    make, name, read = READERS[kind]
    path = tmp_path_factory.getbasetemp() / kind / name
    path.parent.mkdir(exist_ok=True)
    make(path)
    assert not isinstance(outcome(read, path), UserError)
    path.write_bytes(damage(path.read_bytes(), changes))
    check(outcome(read, path), name)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", READERS)
@bounded
@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes_are_read_or_named(kind, tmp_path_factory, content):
    _, name, read = READERS[kind]
    path = tmp_path_factory.getbasetemp() / kind / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    check(outcome(read, path), name)


def test_a_shard_with_a_changed_directory_is_read_or_named(tmp_path):
    path = tmp_path / "1-of-2.npz"
    write_shard(path)
    good, arrays = path.read_bytes(), read_shard(path)
    for place in range(good.index(b"PK\1\2"), len(good)):
        for value in (0, 1, 99, 255):
            path.write_bytes(good[:place] + bytes([value]) + good[place + 1 :])
            result = outcome(read_shard, path)
            check(result, path.name)
            if not isinstance(result, UserError) and len(result) == len(arrays):
                assert all(map(np.array_equal, result, arrays)), place


def check(result: Any, name: str) -> None:
    if isinstance(result, UserError):
        assert name in str(result)
        assert "; " in str(result)  # the remedy stands behind it


LINES = [
    "a",
    "../x",
    "/a",
    "a.jpg",
    ".a",
    "a\\b",
    "a\0",
    "é",
    "猫",
    "a\u200b",
    "x",
    "",
    "\ufeff",
    "a 1",
    "a b",
]


@bounded
@given(st.lists(st.sampled_from(LINES)))
def test_ids_of_a_list_that_is_taken_are_file_names(tmp_path_factory, lines):
    path = tmp_path_factory.getbasetemp() / "ids.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    ids = outcome(read_list, path)
    if not isinstance(ids, UserError):
        assert ids
        assert len(set(ids)) == len(ids)
        assert all(Path(image_id).name == image_id and image_id.split() == [image_id] for image_id in ids)


@bounded
@given(st.text(max_size=12) | st.from_regex(r"\A[0-9]{0,4}(/|-of-)[0-9]{0,4}\Z"))
def test_any_text_is_a_shard_or_named(text):
    shard = outcome(Shard.parse, text)
    assert isinstance(shard, UserError) or 1 <= shard.index <= shard.count


# The configuration


@pytest.mark.parametrize("name", ["config", "demo", "minivoc"])
@bounded
@given(edits)
def test_a_damaged_configuration_is_taken_or_named(name, changes):
    text = (REPOSITORY / f"config/{name}.yaml").read_text(encoding="utf-8")
    # comments and the list of classes would take most of the edits, and of the time
    lines = [line for line in text.split("\n") if line.strip() and line.lstrip()[0] not in "#-"]
    content = damage("\n".join(lines).replace("classes:", "classes: [cat]").encode(), changes)
    try:
        values = yaml.load(io.BytesIO(content), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError):  # Snakemake names the file then
        return
    config = outcome(parse_config, values)
    if isinstance(config, UserError):
        assert all(": " in line and "; " in line for line in str(config).splitlines()[1:])
    else:
        assert isinstance(config, Config)


@bounded
@given(edits)
def test_damaged_settings_of_a_stage_are_taken_or_named(changes):
    good = b'{"flip": true, "grid_stride": 4, "scales": [0.5, 1.0], "threshold": 0.5}'
    text = damage(good, changes).decode("utf-8", "replace")
    result = outcome(parse_json, Erase, text, "erase")
    assert isinstance(result, Erase) or "erase" in str(result)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"grid_stride": 1' + "0" * 5000 + "}", "1" * 5000])
def test_settings_that_blow_up_are_named(text):
    result = outcome(parse_json, Erase, text, "erase")
    assert isinstance(result, UserError)
    assert len(str(result)) < 500


@bounded
@given(st.text(max_size=20), st.text(max_size=20))
def test_any_text_as_names_of_a_data_set_is_taken_or_told(root, name):
    data = Dataset(root=root, train_list=name, val_list=name, classes=("cat",))
    assert contents.table_contents(data, name)
    assert contents.mask_contents(data, name, name)
    problems: list[voc.Problem] = []
    voc.scan_list(Path(root), name, problems)
    voc.read_tags(data, ["a1"], problems)
    assert problems
