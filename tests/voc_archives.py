"""Small archives in the layout of VOC 2012's and SBD's, and a server of them with faults of all kinds."""

import hashlib
import http.server
import io
import os
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from bad_files import encoded
from PIL import Image
from scipy.io import savemat

from ecsnet.palette import voc_palette

VOC, SBD = "VOCtrainval_11-May-2012.tar", "benchmark.tgz"
TRAIN, VAL, MORE = ["a1", "a2"], ["v1", "v2"], ["b1", "b2", "b3"]
TRAINAUG = sorted(TRAIN + MORE)
CLASSES = ("cat", "dog")
WIDTH, HEIGHT = 40, 30  # of `bad_files.encoded`


def lines(ids: list[str]) -> bytes:
    return "".join(f"{image_id}\n" for image_id in ids).encode()


def mask_of(number: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:5] = 1 + number % 2
    return mask


def mask_png(mask: np.ndarray) -> bytes:
    picture = Image.fromarray(mask)
    picture.putpalette(voc_palette())
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def sbd_mat(mask: np.ndarray) -> bytes:
    """A mask as SBD has it; compressed, and beside other things."""
    stream = io.BytesIO()
    savemat(stream, {"GTcls": {"Boundaries": [1.0], "Segmentation": mask}}, do_compression=True)
    return stream.getvalue()


def annotation(name: str) -> bytes:
    return f"<annotation><object><name>{name}</name></object></annotation>".encode()


def voc_files() -> dict[str, bytes]:
    """VOC's archive by name: two official training masks, and one whose borders are ignored."""
    top = "VOCdevkit/VOC2012"
    files = {
        f"{top}/ImageSets/Segmentation/train.txt": lines(TRAIN),
        f"{top}/ImageSets/Segmentation/val.txt": lines(VAL),
        f"{top}/ImageSets/Main/trainval.txt": lines([*TRAINAUG, *VAL]),
        f"{top}/SegmentationObject/a1.png": b"of no use here",
    }
    for number, image_id in enumerate([*TRAINAUG, *VAL]):
        files[f"{top}/JPEGImages/{image_id}.jpg"] = encoded("JPEG", quality=50 + number)
        files[f"{top}/Annotations/{image_id}.xml"] = annotation(CLASSES[number % 2])
    for image_id in [*TRAIN, *VAL]:
        mask = mask_of(0)
        mask[5] = 255
        files[f"{top}/SegmentationClass/{image_id}.png"] = mask_png(mask)
    return files


def sbd_files() -> dict[str, bytes]:
    """SBD's archive by name: its train holds an image of VOC's val, as the real one's does."""
    top = "benchmark_RELEASE/dataset"
    files = {
        f"{top}/train.txt": lines(["a1", "b1", "v1"]),
        f"{top}/val.txt": lines(["b2", "b3"]),
        f"{top}/img/b1.jpg": b"VOC has it",
        "benchmark_RELEASE/benchmark_code_RELEASE/demo.m": b"of no use here",
    }
    for number, image_id in enumerate(["a1", "b1", "b2", "b3", "v1"]):
        files[f"{top}/cls/{image_id}.mat"] = sbd_mat(mask_of(number))
    return files


def packed(files: dict[str, bytes | tarfile.TarInfo], mode: str = "w") -> bytes:
    """A tar archive; a TarInfo in the place of bytes is a member as it stands."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as tar:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


@dataclass
class Archives:
    """Both archives' bytes, by their file names."""

    content: dict[str, bytes] = field(
        default_factory=lambda: {VOC: packed(voc_files()), SBD: packed(sbd_files(), "w:gz")}
    )

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.content.items():
            (folder / name).write_bytes(content)

    def settings(self, address: str = "http://127.0.0.1:9", **values: Any) -> dict[str, Any]:
        """The section `download` for a server of them."""
        return {
            "voc_url": f"{address}/{VOC}",
            "voc_md5": md5(self.content[VOC]),
            "sbd_url": f"{address}/{SBD}",
            "sbd_md5": md5(self.content[SBD]),
            "trainaug_count": len(TRAINAUG),
            **values,
        }


class Server(http.server.ThreadingHTTPServer):
    """Serves files by name; what goes wrong, for each request in turn, is in `faults`.

    A fault is a status to answer with, "cut:N" (N bytes, then the connection is closed), "other" (bytes that
    are not the file's), "stall" (no second half), "slow" (small parts with pauses), "shift" (another part
    than was asked for), "elsewhere:ADDRESS" (a redirection), "" (none).
    """

    daemon_threads = True

    def __init__(self, files: dict[str, bytes], ranges: bool = True, lengths: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.ranges, self.lengths = files, ranges, lengths
        self.faults: list[str | int] = []
        self.asked: list[tuple[str, str]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: Any) -> None:
        pass  # clients that go away are part of the tests


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name, wanted = self.path.lstrip("/"), self.headers.get("Range", "")
        self.server.asked.append((name, wanted))
        fault = self.server.faults.pop(0) if self.server.faults else ""
        content = self.server.files.get(name)
        if isinstance(fault, int) or content is None:
            self.answer(404 if content is None else fault, b"")
        elif fault.startswith("elsewhere:"):
            self.answer(302, b"", {"Location": fault.removeprefix("elsewhere:")})
        elif wanted and self.server.ranges:
            self.answer_part(content, int(wanted[len("bytes=") : -1]), fault)
        else:
            self.answer(200, content, fault=fault)

    def answer_part(self, content: bytes, start: int, fault: str) -> None:
        if start >= len(content):
            self.answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            return
        start += fault == "shift"
        about = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        self.answer(206, content[start:], about, fault)

    def answer(
        self, status: int, content: bytes, about: dict[str, str] | None = None, fault: str = ""
    ) -> None:
        self.send_response(status)
        for key, value in (about or {}).items():
            self.send_header(key, value)
        if self.server.lengths:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if fault == "other":
            content = bytes(len(content))
        if fault == "stall":
            content = content[: len(content) // 2]
        if fault.startswith("cut:"):
            content = content[: int(fault[4:])]
        for part in parts(content, 4 if fault == "slow" else 1):
            self.wfile.write(part)
            time.sleep(0.05 if fault == "slow" else 0)
        if fault == "stall":
            time.sleep(3)

    def log_message(self, *_: Any) -> None:
        pass


def parts(content: bytes, number: int) -> Iterator[bytes]:
    size = -(-len(content) // number) or 1
    for start in range(0, len(content), size):
        yield content[start : start + size]


@contextmanager
def serving(files: dict[str, bytes], **options: bool) -> Iterator[Server]:
    server = Server(files, **options)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        with mock.patch.dict(os.environ, no_proxy="127.0.0.1"):
            yield server
    finally:
        server.shutdown()
        server.server_close()
