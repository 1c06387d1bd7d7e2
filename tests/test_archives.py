"""Archives made to do harm: each is refused by name, and nothing outside of its folder is touched."""

import contextlib
import gzip
import io
import os
import re
import tarfile
import tracemalloc
from collections import Counter

import pytest
from voc_archives import packed

from ecsnet import archives
from ecsnet.archives import unpack
from ecsnet.errors import UserError


def member(name, kind=tarfile.REGTYPE, mode=0o644, **values):
    info = tarfile.TarInfo(name)
    info.type, info.mode = kind, mode
    for key, value in values.items():
        setattr(info, key, value)
    return info


def everything(name):
    return name


@pytest.fixture
def pack(tmp_path):
    """Writes an archive of members: names with bytes, or a TarInfo."""

    def write(*members, mode="w"):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode=mode, format=tarfile.GNU_FORMAT) as tar:
            for item in members:
                if isinstance(item, tarfile.TarInfo):
                    tar.addfile(item)
                else:
                    name, content = item
                    tar.addfile(member(name, size=len(content)), io.BytesIO(content))
        (tmp_path / "a.tar").write_bytes(stream.getvalue())
        return tmp_path / "a.tar"

    return write


@pytest.fixture
def place(tmp_path):
    """The folder to unpack to; checks that all that is outside of it stays as it was."""
    folder = tmp_path / "in" / "side"
    folder.parent.mkdir()
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "in" / "secret").write_text("secret")
    yield folder
    outside = {
        path.relative_to(tmp_path).as_posix()
        for path in tmp_path.rglob("*")
        if not path.is_relative_to(folder) and path.name != "a.tar"
    }
    assert outside == {"in", "secret", "in/secret"}
    for secret in ("secret", "in/secret"):
        assert (tmp_path / secret).read_text() == "secret"
    assert not [path for path in folder.rglob("*") if path.is_symlink() or path.stat().st_mode & 0o7000]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_kept_files_are_written_and_others_are_not(mode, pack, place):
    archive = pack(
        member("./top/", tarfile.DIRTYPE, 0o2775), ("./top/a", b"1"), ("top//b/c", b"22"), ("other/d", b"3"),
        ("e" * 150 + "/" + "f" * 150, b""), mode=mode,
    )  # fmt: skip
    counts = unpack(archive, place, lambda name: name if not name.startswith("other") else None)
    assert counts == Counter({"top": 2, "e" * 150: 1})
    files = {path.relative_to(place).as_posix(): path for path in place.rglob("*") if path.is_file()}
    assert set(files) == {"top/a", "top/b/c", "e" * 150 + "/" + "f" * 150}
    assert files["top/b/c"].read_bytes() == b"22"


def test_files_are_made_anew_with_nothing_of_the_archives_but_their_bytes(pack, place):
    umask = os.umask(0o022)
    unpack(pack(member("a", mode=0o1777, mtime=1, uid=12345, size=0)), place, everything)
    os.umask(umask)
    status = (place / "a").stat()
    assert status.st_mode & 0o7777 == 0o644
    assert status.st_uid == os.getuid()
    assert status.st_mtime > 1


HOSTILE = {
    "absolute": [("/tmp/ecsnet-escaped", b"1")],
    "two slashes": [("//tmp/ecsnet-escaped", b"1")],
    "parent": [("../secret", b"1")],
    "parent within": [("a/../../secret", b"1")],
    "parent that stays": [("a/../b", b"1")],
    "folder outside": [member("../more", tarfile.DIRTYPE)],
    "symbolic link out": [member("a", tarfile.SYMTYPE, linkname="../secret")],
    "absolute symbolic link": [member("a", tarfile.SYMTYPE, linkname="/etc/passwd")],
    "file through a link": [member("a", tarfile.SYMTYPE, linkname=".."), ("a/secret", b"1")],
    "symbolic link within": [("b", b"1"), member("a", tarfile.SYMTYPE, linkname="b")],
    "file over a link": [member("a", tarfile.SYMTYPE, linkname="b"), ("a", b"1")],
    "hard link out": [member("a", tarfile.LNKTYPE, linkname="../secret")],
    "hard link to an absolute name": [member("a", tarfile.LNKTYPE, linkname="/etc/passwd")],
    "hard link within": [("b", b"1"), member("a", tarfile.LNKTYPE, linkname="b")],
    "character device": [member("a", tarfile.CHRTYPE, devmajor=1, devminor=3)],
    "block device": [member("a", tarfile.BLKTYPE, devmajor=8)],
    "pipe": [member("a", tarfile.FIFOTYPE)],
    "contiguous": [member("a", tarfile.CONTTYPE)],
    "unknown kind": [member("a", b"Z")],
    "setuid": [member("a", mode=0o4755)],
    "setgid": [member("a", mode=0o2755)],
    "twice": [("a", b"1"), ("a", b"2")],
    "twice by another name": [("a/b", b"1"), ("./a//b", b"2")],
    "file, then folder": [("a", b"1"), ("a/b", b"2")],
    "folder, then file": [("a/b", b"1"), ("a", b"2")],
    "newline": [("a\nb", b"1")],
    "escape": [("a\x1b[2Jb", b"1")],
    "reversed writing": [("a\u202eb", b"1")],
    "no text": [("a\udcffb", b"1")],
    "backslash": [("..\\secret", b"1")],
    "long name": [("a" * 256, b"1")],
    "long path": [("/".join(["a" * 200] * 6), b"1")],
}  # fmt: skip


@pytest.mark.parametrize("members", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_member_is_refused_by_name(members, pack, place):
    archive = pack(*members)
    with pytest.raises(UserError) as caught:
        unpack(archive, place, everything)
    text = str(caught.value)
    assert re.match(r".*/a\.tar: refused, because its member '.*' (is|has|leaves) ", text), text
    assert text.endswith("; take the archive from another source")
    assert text.isprintable()
    assert len(text) < len(str(archive)) + 220


NOT_KEPT = [name for name in HOSTILE if not re.search("within$|twice|over|then|through", name)]


@pytest.mark.parametrize("name", NOT_KEPT)
def test_a_hostile_member_is_refused_also_where_it_is_not_wanted(name, pack, place):
    with pytest.raises(UserError, match="refused"):
        unpack(pack(*HOSTILE[name]), place, lambda _: None)


def test_a_link_that_stays_within_and_is_not_wanted_is_passed_over(pack, place):
    archive = pack(member("a/b", tarfile.SYMTYPE, linkname="../c"), ("c", b"1"))
    assert unpack(archive, place, lambda name: name if name == "c" else None) == {"c": 1}
    assert [path.name for path in place.iterdir()] == ["c"]


# bombs


def test_too_many_members_are_refused(pack, place):
    archive = pack(*[member(f"d{number}", tarfile.DIRTYPE) for number in range(6)])
    unpack(archive, place, everything, max_members=6)
    with pytest.raises(UserError, match=r"holds more than 5 members or .* bytes; take"):
        unpack(archive, place, everything, max_members=5)


@pytest.mark.parametrize("keep", [everything, lambda _: None], ids=["kept", "not kept"])
def test_an_archive_that_unpacks_to_too_much_is_refused_before_it_does(keep, tmp_path, place):
    size = 40 << 20
    with gzip.open(tmp_path / "a.tar", "wb", compresslevel=1) as file:
        file.write(member("bomb", size=size).tobuf())
        file.write(bytes(size))
    assert (tmp_path / "a.tar").stat().st_size < size / 100
    with pytest.raises(UserError, match="refused, because it holds more than"):
        unpack(tmp_path / "a.tar", place, keep, max_bytes=size - 1)
    assert not place.exists()


def test_the_bound_is_of_all_members_together(pack, place):
    archive = pack(("a", bytes(600)), ("b", bytes(600)))
    with pytest.raises(UserError, match="1,000 bytes"):
        unpack(archive, place, everything, max_bytes=1000)


def test_a_claimed_size_of_terabytes_is_refused(tmp_path, place):
    (tmp_path / "a.tar").write_bytes(member("a", size=1 << 42).tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(UserError, match="holds more than"):
        unpack(tmp_path / "a.tar", place, everything)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, b"g"])
def test_a_header_without_end_does_not_fill_the_memory(kind, tmp_path, place):
    size = 64 << 20
    with gzip.open(tmp_path / "a.tar", "wb", compresslevel=1) as file:
        file.write(member("a", kind, size=size).tobuf())
        file.write(bytes(size))
    tracemalloc.start()
    with pytest.raises(UserError, match="damaged, or no tar archive"):
        unpack(tmp_path / "a.tar", place, everything)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_a_header_that_points_back_is_refused(tmp_path, place):
    """Else tarfile reads the same members for ever."""
    header = bytearray(member("a", size=0).tobuf())
    header[124:136] = b"\xff" + (-512).to_bytes(11, "big", signed=True)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    (tmp_path / "a.tar").write_bytes(bytes(header) * 3 + bytes(1024))
    with pytest.raises(UserError, match=r"negative size|points back|damaged"):
        unpack(tmp_path / "a.tar", place, everything)


def test_headers_within_headers_end_with_a_message(tmp_path, place):
    one = member("a", b"x", size=0).tobuf()
    (tmp_path / "a.tar").write_bytes(one * 5000 + bytes(1024))
    with pytest.raises(UserError, match="damaged"):
        unpack(tmp_path / "a.tar", place, everything)


@pytest.mark.parametrize("about", [{"GNU.sparse.map": "0,0"}, {"GNU.sparse.map": "0,1,1099511627776,0"}])
def test_a_sparse_file_is_refused(about, tmp_path, place):
    """It takes no room in the archive, but any on a disk."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(member("a", pax_headers={"GNU.sparse.size": "1000", **about}, size=1), io.BytesIO(b"1"))
    (tmp_path / "a.tar").write_bytes(stream.getvalue())
    with pytest.raises(UserError, match="'a' is no plain file"):
        unpack(tmp_path / "a.tar", place, everything)


def test_tarfile_may_not_go_back(tmp_path):
    stream = archives._Stream(tmp_path / "a.tar", io.BytesIO(bytes(2000)))
    stream.seek(1000)
    stream.seek(1000)
    with pytest.raises(UserError, match="a header points back"):
        stream.seek(999)


# damage


@pytest.mark.parametrize(
    "content", [b"", b"\x1f\x8b", b"\x1f\x8b" + bytes(600), b"<html>404</html>" * 99, bytes(10)]
)
def test_what_is_no_archive_is_named(content, tmp_path, place):
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.tar: damaged, or no tar archive \(.+\); delete it"):
        unpack(tmp_path / "a.tar", place, everything)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_an_archive_that_is_cut_off_is_named(mode, pack, place):
    archive = pack(("a", os.urandom(5000)), mode=mode)
    archive.write_bytes(archive.read_bytes()[:3000])
    with pytest.raises(UserError, match=r"a\.tar: damaged"):
        unpack(archive, place, everything)


def test_no_bytes_make_anything_but_a_message(tmp_path):
    whole = bytearray(
        packed({"a": b"1" * 600, "b" * 120: b"2", "c": member("c", tarfile.SYMTYPE, linkname="a")})
    )
    seed = 1
    for number in range(300):
        content = bytearray(whole)
        for _ in range(3):
            seed = seed * 1103515245 + 12345 & 0x7FFFFFFF
            content[seed % len(content)] = seed >> 16 & 255
        (tmp_path / "a.tar").write_bytes(content)
        with contextlib.suppress(UserError):  # any other error fails the test
            unpack(tmp_path / "a.tar", tmp_path / str(number), everything)


# folders that stand


def test_a_folder_that_stands_is_compared_and_not_written(pack, place, tmp_path):
    archive = pack(("a/1", b"one"), ("a/2", b"two"), ("b/1", b"three"))
    standing = place / "standing"
    (standing / "a").mkdir(parents=True)
    (standing / "b").mkdir()
    (standing / "a" / "1").write_bytes(b"one")
    (standing / "a" / "2").write_bytes(b"two")
    (standing / "a" / "own").write_bytes(b"of the user")
    assert unpack(archive, place / "new", everything, standing) == {"a": 2, "b": 1}
    assert [path.relative_to(place / "new").as_posix() for path in (place / "new").rglob("*")] == ["b", "b/1"]
    for content in (b"", b"on", b"onE", b"one more", None):
        (standing / "a" / "1").unlink()
        if content is not None:
            (standing / "a" / "1").write_bytes(content)
        with pytest.raises(UserError, match=r"standing/a is there already, but of the 2 .* 1 .*'a/1' is one"):
            unpack(archive, place / f"new{content}", everything, standing)


def test_a_name_is_never_taken_for_text(pack, place):
    assert archives._shown("a" * 500).endswith("…'")
    assert len(archives._shown("a" * 500)) < 90
