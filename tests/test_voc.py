"""Lists and tags of data sets in VOC's layout."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from voc_folder import make_voc, write_annotation, write_list, write_main_lists, write_picture

from ecsnet import voc
from ecsnet.errors import UserError
from ecsnet.settings import Dataset


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return make_voc(tmp_path / "voc")


def read(tmp_path: Path, text: str | bytes) -> list[str]:
    write_list(tmp_path, "mine", text)
    return voc.read_list(tmp_path, "mine")


def problems_of(data: Dataset, ids: list[str]) -> list[str]:
    problems: list[voc.Problem] = []
    voc.read_tags(data, ids, problems)
    return [str(problem) for problem in problems]


def test_all_mistakes_of_a_list_come_at_once(tmp_path):
    with pytest.raises(UserError) as caught:
        read(tmp_path, "a\na\n../b\nmy cat\n")
    assert len(str(caught.value).splitlines()) == 4


def test_lists_of_the_field_name_pictures_and_masks_by_path(tmp_path):
    text = "/JPEGImages/2007_000032.jpg /SegmentationClassAug/2007_000032.png\nJPEGImages/b.JPG\nc\n"
    assert read(tmp_path, text) == ["2007_000032", "b", "c"]
    with pytest.raises(UserError, match=r"mine\.txt:2: a stands on line 1 already"):
        read(tmp_path, "a\n/JPEGImages/a.jpg /SegmentationClass/a.png\n")


def test_a_missing_list_names_those_there_are(data):
    with pytest.raises(UserError, match=r"trainaug\.txt: no such list; .*\(train, val\) or the path"):
        voc.read_list(Path(data.root), "trainaug")


@pytest.mark.parametrize("name", ["lists/mine.txt", "mine.txt", "./lists/mine"])
def test_a_path_is_relative_to_the_current_folder(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text("a\n")
    assert voc.read_list(Path("elsewhere"), name) == ["a"]


def test_pictures_are_found_with_any_ending(tmp_path):
    for name in ("a.jpg", "b.JPG", "c.jpeg", "d.Png", "e.gif", "two.jpg", "two.png"):
        write_picture(tmp_path / "JPEGImages" / name)
    (tmp_path / "JPEGImages" / "folder.jpg").mkdir()
    (tmp_path / "JPEGImages" / "dangling.jpg").symlink_to("nowhere")
    assert voc.find_pictures(tmp_path) == {
        "a": ["a.jpg"],
        "b": ["b.JPG"],
        "c": ["c.jpeg"],
        "d": ["d.Png"],
        "two": ["two.jpg", "two.png"],
    }
    assert voc.find_pictures(tmp_path / "nothing") == {}


def test_objects_are_read_without_their_parts(tmp_path):
    write_annotation(tmp_path, "a", ("cat", "dog"), difficult=1)
    assert voc.read_annotation(tmp_path / "Annotations" / "a.xml") == [("cat", True), ("dog", True)]


def test_tags_of_annotations_are_ascending(data):
    problems: list[voc.Problem] = []
    assert voc.read_tags(data, ["a2", "a1"], problems) == {"a2": (1, 2), "a1": (1,)}
    assert not problems


def test_each_kind_of_image_without_tags_is_named(data):
    root = Path(data.root)
    write_annotation(root, "a1", ())
    write_annotation(root, "v1", ("cat",), difficult=1)
    (root / "Annotations" / "a2.xml").unlink()
    shown = problems_of(replace(data, difficult=False), ["a1", "a2", "v1"])
    assert "a1.xml: image without tags: no object; add one, or take" in shown[0]
    assert "a2.xml: no such annotation; add it, take the id off" in shown[1]
    assert "v1.xml: image without tags: all its objects are difficult; set dataset.difficult" in shown[2]


def test_difficult_objects_count_if_the_setting_says_so(data):
    write_annotation(Path(data.root), "a1", ("cat",), difficult=1)
    assert voc.read_tags(data, ["a1"], []) == {"a1": (1,)}
    assert voc.read_tags(replace(data, difficult=False), ["a1"], []) == {}


def test_an_unknown_class_is_named_with_the_nearest(data):
    write_annotation(Path(data.root), "a1", ("Cat", "lorry", "dog"))
    problems: list[voc.Problem] = []
    assert voc.read_tags(data, ["a1"], problems) == {"a1": (2,)}
    assert "a1.xml: unknown class 'Cat'; did you mean cat?" in str(problems[0])
    assert "a1.xml: unknown class 'lorry'; correct it, or add it to dataset.classes" in str(problems[1])


def test_auto_takes_annotations_where_there_are_any(data):
    root = Path(data.root)
    write_main_lists(root, {"cat": "a1 -1\na2 -1\n", "dog": "a1  1\na2  0\n"})
    assert voc.read_tags(data, ["a1"], []) == {"a1": (1,)}
    assert voc.read_tags(replace(data, tags="main"), ["a1"], []) == {"a1": (2,)}
    shutil.rmtree(root / "Annotations")
    assert voc.read_tags(data, ["a1", "a2"], []) == {"a1": (2,), "a2": (2,)}
    assert voc.read_tags(replace(data, difficult=False), ["a1", "a2"], []) == {"a1": (2,)}
    (shown,) = problems_of(replace(data, tags="annotations"), ["a1"])
    assert "Annotations: no such folder; set dataset.tags" in shown


def test_main_lists_without_an_image_or_a_class(data):
    root = Path(data.root)
    main = replace(data, tags="main")
    assert "Main: no such folder" in problems_of(main, ["a1", "a2"])[0]
    write_main_lists(root, {"cat": "a1 1\na2 -1\n"})
    assert problems_of(main, ["a1", "a2"]) == [
        f"{root}/ImageSets/Main/dog_trainval.txt: no such list; put it there, or correct dataset.classes"
    ]
    write_main_lists(root, {"dog": "a1 -1\na2 -1\n"})
    (shown,) = problems_of(main, ["a1", "a2"])
    assert "Main: image a2 without tags; add its classes there" in shown


def test_malformed_main_lists_are_named_once(data):
    write_main_lists(Path(data.root), {"cat": "a1 1\na2 yes\nv1\n", "dog": "a2 1\n"})
    (shown,) = problems_of(replace(data, tags="main"), ["a1", "a2"])
    assert "cat_trainval.txt:2: 'a2 yes' (2 such lines); write an id and 1, -1 or 0" in shown
