import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecsnet.errors import UserError
from ecsnet.store import Shard, ShardReader, ShardWriter, atomic_path, write_text


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "folder" / "file.txt"
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert list(path.parent.iterdir()) == []
    write_text(path, "whole")
    assert path.read_text() == "whole"


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"


def test_the_content_is_on_the_disk_before_the_name(tmp_path, monkeypatch):
    """A power cut between the two would leave a name without its content."""
    calls = []
    sync, rename = os.fsync, os.replace

    def recorded_sync(number):
        calls.append(("sync", os.fstat(number).st_size))
        sync(number)

    def recorded_rename(old, new):
        calls.append(("rename", os.stat(old).st_size))
        rename(old, new)

    monkeypatch.setattr(os, "fsync", recorded_sync)
    monkeypatch.setattr(os, "replace", recorded_rename)
    write_text(tmp_path / "table.csv", "content")
    with ShardWriter(tmp_path / "1-of-1.npz") as shard:
        shard.add("a", labels=np.zeros((2, 2)))
    size = (tmp_path / "1-of-1.npz").stat().st_size
    assert calls == [("sync", 7), ("rename", 7), ("sync", size), ("rename", size)]


@given(st.integers(0, 50), st.integers(1, 20))
def test_shards_together_give_the_list_in_its_order(length, count):
    items = list(range(length))
    parts = [Shard(index, count).select(items) for index in range(1, count + 1)]
    assert [item for part in parts for item in part] == items
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["3/16", "3-of-16"])
def test_shard_names(text):
    assert Shard.parse(text) == Shard(3, 16)


@pytest.mark.parametrize("text", ["", "3", "0/4", "5/4", "a/4", "1/2/3", "-1/4"])
def test_bad_shard_names_are_refused(text):
    with pytest.raises(UserError, match="expected a number of a count"):
        Shard.parse(text)


def write(path, **images):
    with ShardWriter(path) as writer:
        for image_id, array in images.items():
            writer.add(image_id, values=array)


def test_shards_keep_arrays_types_and_order(tmp_path):
    write(tmp_path / "1.npz", b=np.arange(6, dtype=np.float16).reshape(2, 3), a=np.array([[True]]))
    write(tmp_path / "2.npz", c=np.zeros((0, 2), np.uint8))
    reader = ShardReader([tmp_path / "1.npz", tmp_path / "2.npz"])
    assert reader.ids() == ["b", "a", "c"]
    assert reader.get("b", "values").dtype == np.float16
    assert reader.get("b", "values").tolist() == [[0, 1, 2], [3, 4, 5]]
    assert reader.get("c", "values").shape == (0, 2)


def test_numpy_reads_a_shard(tmp_path):
    write(tmp_path / "1.npz", a=np.arange(3))
    assert np.load(tmp_path / "1.npz")["a/values"].tolist() == [0, 1, 2]


def test_equal_contents_are_equal_bytes(tmp_path):
    for name in ("1.npz", "2.npz"):
        write(tmp_path / name, a=np.arange(100))
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "2.npz").read_bytes()


def test_an_interrupted_shard_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), ShardWriter(tmp_path / "1.npz") as writer:
        writer.add("a", values=np.arange(3))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_image_is_named(tmp_path):
    write(tmp_path / "1.npz", a=np.arange(3))
    with pytest.raises(UserError, match="image b is in none"):
        ShardReader([tmp_path / "1.npz"]).get("b", "values")


@pytest.mark.parametrize("cut", [10, 200, -1])
def test_a_cut_shard_is_refused(tmp_path, cut):
    path = tmp_path / "1.npz"
    write(path, a=np.arange(100))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UserError, match=r"1\.npz: damaged or cut off .*; delete the file"):
        ShardReader([path])


def test_a_changed_bit_is_noticed(tmp_path):
    path = tmp_path / "1.npz"
    write(path, a=np.arange(100))
    content = bytearray(path.read_bytes())
    content[400] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        ShardReader([path]).get("a", "values")


def test_a_pickled_array_is_never_loaded(tmp_path):
    path = tmp_path / "1.npz"
    np.savez(path, **{"a/values": np.array([{"code": 1}], dtype=object)})
    with pytest.raises(UserError, match="damaged"):
        ShardReader([path]).get("a", "values")
