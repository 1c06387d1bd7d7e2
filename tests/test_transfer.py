"""Fetching a file: whatever the network and the server do to it."""

import errno
import re
import shutil
import types

import pytest
from voc_archives import md5, serving

from ecsnet import transfer
from ecsnet.errors import UserError
from ecsnet.transfer import Source, fetch

FILE = bytes(range(256)) * 12_000  # three MiB: more than one attempt has to bring


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    """The seconds that were waited for between attempts, without waiting for them."""
    waited = []
    monkeypatch.setattr(transfer, "time", types.SimpleNamespace(sleep=waited.append))
    return waited


def source(server, **values):
    about = {"key": "download.voc", "md5": md5(FILE), "attempts": 3, "timeout": 5, **values}
    return Source(**{"url": f"{server.address}/file.tar", **about})


@pytest.fixture
def server():
    with serving({"file.tar": FILE}) as server:
        yield server


@pytest.fixture
def path(tmp_path):
    """Where the file is to be; checks that nothing is left beside it but what a transfer goes on with."""
    yield tmp_path / "file.tar"
    assert {path.name for path in tmp_path.iterdir()} <= {"file.tar", "file.tar.part"}


def part_of(path):
    return path.with_name("file.tar.part")


def test_a_file_is_fetched_once(server, path, capsys):
    fetch(source(server), path)
    assert path.read_bytes() == FILE
    assert re.search(r"fetch file\.tar  3/3  100 %  .* MiB/s", capsys.readouterr().out)
    fetch(source(server), path)
    assert server.asked == [("file.tar", "")]
    assert "its MD5 is right" in capsys.readouterr().out
    assert not part_of(path).exists()


def test_a_slow_server_is_waited_for(server, path):
    server.faults = ["slow"]
    fetch(source(server), path)
    assert path.read_bytes() == FILE


@pytest.mark.parametrize("fault", ["cut:2000000", "stall"])
def test_a_transfer_that_breaks_off_goes_on_where_it_was(fault, server, path, pauses):
    server.faults = [fault, fault]
    fetch(source(server, timeout=0.3), path)
    assert path.read_bytes() == FILE
    starts = [int(asked[6:-1] or 0) if asked else 0 for _, asked in server.asked]
    assert starts == sorted(set(starts))  # each goes on behind the one before
    assert starts[1] == (2_000_000 if fault != "stall" else len(FILE) // 2)
    assert pauses.count(1.0) >= 1


def test_attempts_that_bring_something_are_not_counted(server, path):
    server.faults = ["cut:1100000", 503, 503, "cut:1100000", 503, 503]
    fetch(source(server), path)
    assert path.read_bytes() == FILE


def test_a_server_that_sends_a_byte_each_time_is_given_up(server, path, pauses):
    server.faults = ["cut:1"] * 50
    with pytest.raises(
        UserError, match=r"the connection ended after 3 of 3,072,000 bytes \(3 times in a row\)"
    ):
        fetch(source(server), path)
    assert pauses == [1.0, 2.0]
    assert part_of(path).stat().st_size == 3


def test_pauses_grow_to_a_bound(server, path, pauses):
    server.faults = [503] * 9
    fetch(source(server, attempts=10), path)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_without_ranges_it_starts_again(path):
    with serving({"file.tar": FILE}, ranges=False) as server:
        server.faults = ["cut:2000000", "cut:1000000"]
        fetch(source(server), path)
        assert path.read_bytes() == FILE
        assert [asked for _, asked in server.asked] == ["", "bytes=2000000-", "bytes=1000000-"]


def test_without_ranges_breaking_off_for_ever_is_given_up(path):
    with serving({"file.tar": FILE}, ranges=False) as server:
        server.faults = ["cut:2000000", "cut:1000000"] * 10
        with pytest.raises(UserError, match="3 times in a row"):
            fetch(source(server), path)


def test_without_lengths_the_checksum_finds_what_is_missing(path, capsys):
    with serving({"file.tar": FILE}, lengths=False) as server:
        server.faults = ["cut:2000000"]
        fetch(source(server), path)
    assert path.read_bytes() == FILE
    assert "once more" in capsys.readouterr().out


def test_another_part_than_asked_for_is_not_used(server, path, capsys):
    server.faults = ["cut:2000000", "shift"]
    fetch(source(server), path)
    assert path.read_bytes() == FILE
    said = capsys.readouterr().out
    assert "the server sends another part than asked for" in said
    assert "MD5" not in said  # known at once, not by the checksum


@pytest.mark.parametrize("faults", [[500], [503, 502], [429], [408, 500]])
def test_a_server_that_is_busy_is_asked_again(faults, server, path):
    server.faults = list(faults)
    fetch(source(server), path)
    assert path.read_bytes() == FILE
    assert len(server.asked) == len(faults) + 1


@pytest.mark.parametrize("status", [404, 403, 410, 401])
def test_an_address_without_the_file_is_named_at_once(status, server, path, pauses):
    server.faults = [status]
    remedy = r"set download\.voc_url to a mirror, or put file\.tar into .* yourself"
    with pytest.raises(
        UserError, match=rf"{server.address}/file\.tar: the server answers {status} .*; {remedy}"
    ):
        fetch(source(server), path)
    assert pauses == []


def test_a_server_that_stays_down_is_named(server, path):
    server.faults = [500] * 9
    with pytest.raises(UserError, match=r"file\.tar: the server answers 500 .* \(3 times in a row\); check"):
        fetch(source(server), path)


def test_no_connection_is_named(path):
    with serving({}) as server:
        gone = source(server)
    with pytest.raises(
        UserError, match=r"file\.tar: Connection refused \(3 times in a row\); check the network"
    ):
        fetch(gone, path)
    unknown = source(server, url="http://host.invalid/file.tar")
    with pytest.raises(
        UserError, match=r"host\.invalid/file\.tar: .+ \(3 times in a row\); check the network"
    ):
        fetch(unknown, path)


def test_a_wrong_checksum_is_fetched_once_more(server, path, capsys):
    server.faults = ["other"]
    fetch(source(server), path)
    assert path.read_bytes() == FILE
    assert len(server.asked) == 2
    assert f"came with the MD5 {md5(bytes(len(FILE)))}, not {md5(FILE)}; once more" in capsys.readouterr().out


def test_a_wrong_checksum_twice_is_named_and_not_kept(server, path):
    wrong = source(server, md5="0" * 32)
    with pytest.raises(
        UserError, match=rf"came twice with a wrong MD5, {md5(FILE)}, not 0+; set download\.voc_url"
    ):
        fetch(wrong, path)
    assert len(server.asked) == 2
    assert not part_of(path).exists()


def test_a_part_of_another_file_is_noticed(server, path):
    part_of(path).write_bytes(b"of another file")
    fetch(source(server), path)
    assert path.read_bytes() == FILE
    assert [asked for _, asked in server.asked] == ["bytes=15-", ""]


def test_a_part_that_is_larger_than_the_file_is_noticed(server, path):
    part_of(path).write_bytes(FILE + b"more")
    fetch(source(server), path)
    assert path.read_bytes() == FILE


def test_a_part_that_is_whole_is_not_fetched(server, path):
    part_of(path).write_bytes(FILE)
    fetch(source(server, md5=md5(FILE).upper()), path)
    assert path.read_bytes() == FILE
    assert server.asked == []


def test_a_users_own_file_with_a_wrong_checksum_is_kept(server, path):
    path.write_bytes(b"mine")
    with pytest.raises(
        UserError, match=rf"file\.tar: its MD5 is {md5(b'mine')}, not .*; delete it, .*voc_md5"
    ):
        fetch(source(server), path)
    assert path.read_bytes() == b"mine"
    assert server.asked == []


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/file.tar", "file:///etc/passwd", "data:,secret"])
def test_a_redirection_never_leaves_http(target, server, path):
    server.faults = [f"elsewhere:{target}"] * 9
    with pytest.raises(UserError, match=r"file\.tar: "):
        fetch(source(server), path)
    assert not part_of(path).exists()


def test_a_redirection_within_http_is_followed(server, path):
    server.faults = [f"elsewhere:{server.address}/file.tar"]
    fetch(source(server), path)
    assert path.read_bytes() == FILE


@pytest.mark.parametrize("url", ["http://[1::2/x", "http://127.0.0.1:port/x", "http:///x"])
def test_what_is_no_address_is_named(url, server, path):
    with pytest.raises(UserError, match=re.escape(url)):
        fetch(source(server, url=url), path)


def test_more_than_any_archive_has_is_not_taken(server, path, monkeypatch):
    monkeypatch.setattr(transfer, "MAX_BYTES", 1 << 20)
    with pytest.raises(UserError, match="is larger than"):
        fetch(source(server), path)
    assert not part_of(path).exists()
    server.lengths = False
    with pytest.raises(UserError, match="is larger than"):
        fetch(source(server), path)
    assert part_of(path).stat().st_size < 2 << 20


def test_too_little_space_is_known_before(server, path, monkeypatch):
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 5))
    with pytest.raises(
        UserError, match=r"no space is left for .*3,072,000 bytes are to come, 5 are free; free some"
    ):
        fetch(source(server), path)


def test_what_came_before_the_disk_was_full_is_kept(server, path, monkeypatch):
    real = transfer._blocks

    def full_after_a_million(answer):
        for number, block in enumerate(real(answer)):
            yield block
            if number == 20:
                raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(transfer, "_blocks", full_after_a_million)
        with pytest.raises(OSError, match="No space left") as caught:
            fetch(source(server), path)
    assert caught.value.filename == str(part_of(path))
    kept = part_of(path).stat().st_size
    assert kept > 0
    fetch(source(server), path)
    assert path.read_bytes() == FILE
    assert server.asked[-1] == ("file.tar", f"bytes={kept}-")
