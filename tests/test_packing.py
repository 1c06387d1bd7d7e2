import os
import tarfile

from ecsnet.packing import pack

FILES = [("b/one.txt", b"one"), ("a.txt", b""), ("b/ü" + "x" * 120, b"long")]


def test_an_archive_holds_its_files_in_order_and_nothing_else(tmp_path):
    pack(tmp_path / "a.tar.gz", iter(FILES))
    with tarfile.open(tmp_path / "a.tar.gz", "r:gz") as tar:
        members = tar.getmembers()
        assert [(member.name, tar.extractfile(member).read()) for member in members] == FILES
    assert {(member.mtime, member.uid, member.gid, member.uname, member.gname) for member in members} == {
        (0, 0, 0, "", "")
    }
    assert {member.mode for member in members} == {0o644}


def test_neither_name_nor_time_nor_umask_is_in_the_bytes(tmp_path, monkeypatch):
    pack(tmp_path / "a.tar.gz", FILES)
    monkeypatch.setattr("time.time", lambda: 10**9)
    before = os.umask(0o077)
    pack(tmp_path / "other.tar.gz", FILES)
    os.umask(before)
    content = (tmp_path / "a.tar.gz").read_bytes()
    assert content == (tmp_path / "other.tar.gz").read_bytes()
    assert content[:8] == b"\x1f\x8b\x08\0\0\0\0\0"  # deflate, no flags (so no name), no time
