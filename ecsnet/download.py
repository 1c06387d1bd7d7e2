"""Stage `download`: VOC 2012 with SBD's lists, fetched, checked and unpacked, and the list trainaug."""

import contextlib
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from .archives import is_filled, unpack
from .errors import UserError
from .settings import Download
from .store import remove_leftovers, write_text
from .transfer import Source, fetch
from .voc import find_pictures, mask_name, read_list

ARCHIVES = {"voc": "VOCtrainval_11-May-2012.tar", "sbd": "benchmark.tgz"}
FOLDERS = ("JPEGImages", "Annotations", "ImageSets", "SegmentationClass")
MASKS = "SegmentationClassAug"
_VOC_FILE = re.compile(rf"(?:VOCdevkit/)?VOC2012/((?:{'|'.join(FOLDERS)})/(?:.*/)?[^./][^/]*)")
_SBD_FILE = re.compile(r"(?:[^/]+/)?dataset/((?:train|val)\.txt|cls/[^./][^/]*\.mat)")


def run(settings: Download, *, root: Path, out: Path) -> None:
    """Have VOC 2012 at `root`, with the list trainaug, and true masks of all its images if asked for.

    Each folder comes to its place whole, by being renamed; one that is there already is compared with the
    archive and never changed. Last comes `out`, the stamp: what was fetched, and how many files and ids
    came of it.

    Raises:
        UserError: an archive cannot be had or is refused, what is there differs from it, or trainaug is not
            what it should be.
    """
    archives = Path(settings.archives)
    for folder in (archives, root):
        folder.mkdir(parents=True, exist_ok=True)
    for name in (*FOLDERS, MASKS, "ImageSets/Main", "ImageSets/Segmentation"):
        remove_leftovers(root / name)
    with _alone(archives, root), _unpacking(root) as temporary:
        paths = {name: archives / file for name, file in ARCHIVES.items()}
        for name, path in paths.items():
            fetch(_source(settings, name), path)
        files = _unpack_voc(paths["voc"], temporary, root)
        _unpack_sbd(paths["sbd"], temporary / "sbd", settings.masks)
        ids = _trainaug(settings, root, temporary / "sbd")
        _write_list(root, ids)
        if settings.masks:
            _make_masks(root, temporary, ids)
            files[MASKS] = len(ids)
    fetched = {
        path.name: {"md5": getattr(settings, f"{name}_md5").lower(), "bytes": path.stat().st_size}
        for name, path in paths.items()
    }
    write_text(out, json.dumps({"archives": fetched, "files": files, "trainaug": len(ids)}, indent=2) + "\n")
    counts = ", ".join(f"{count:,} in {folder}" for folder, count in files.items())
    print(f"download: {len(ids):,} images on trainaug; files: {counts}")


def _source(settings: Download, name: str) -> Source:
    return Source(
        key=f"download.{name}",
        url=getattr(settings, f"{name}_url"),
        md5=getattr(settings, f"{name}_md5"),
        attempts=settings.attempts,
        timeout=settings.timeout,
    )


@contextlib.contextmanager
def _alone(*folders: Path) -> Iterator[None]:
    """Refuse to work beside another download in one of the folders: the lock goes with its process."""
    with contextlib.ExitStack() as stack:
        for folder in sorted({folder.resolve() for folder in folders}):
            file = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, file)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"{folder}: another download is at work there; wait until it has ended"
                ) from None
            except OSError:
                pass  # a file system without locks
        yield


@contextlib.contextmanager
def _unpacking(root: Path) -> Iterator[Path]:
    """A folder in the file system of the target; what a process that was killed left in it goes first."""
    folder = root / ".unpacking"
    if folder.is_symlink() or folder.is_file():
        raise UserError(f"{folder}: is in the way of a folder of this name; move it away")
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unpack_voc(archive: Path, temporary: Path, root: Path) -> dict[str, int]:
    """Bring VOC's folders to their places; the number of files in each."""
    print(f"unpack {archive} to {root}", flush=True)
    counts = unpack(archive, temporary, _voc_place, standing=root)
    for folder in FOLDERS:
        if not counts[folder]:
            raise UserError(f"{archive}: has no VOC2012/{folder}; {_other_archive('voc')}")
    _move(temporary, root, FOLDERS)
    return {folder: counts[folder] for folder in FOLDERS}


def _other_archive(name: str) -> str:
    return f"correct download.{name}_url and download.{name}_md5, and delete the file"


def _move(temporary: Path, root: Path, folders: tuple[str, ...]) -> None:
    os.sync()  # one for all the files: after a power cut too, a folder of this name is whole
    for folder in folders:
        if (temporary / folder).exists():
            os.rename(temporary / folder, root / folder)


def _voc_place(name: str) -> str | None:
    found = _VOC_FILE.fullmatch(name)
    return found[1] if found else None


def _unpack_sbd(archive: Path, folder: Path, masks: bool) -> None:
    def place(name: str) -> str | None:
        found = _SBD_FILE.fullmatch(name)
        return found[1] if found and (masks or name.endswith(".txt")) else None

    print(f"read {archive}", flush=True)
    unpack(archive, folder, place)
    for name in ("train.txt", "val.txt"):
        if not (folder / name).exists():
            raise UserError(f"{archive}: has no dataset/{name}; {_other_archive('sbd')}")


def _trainaug(settings: Download, root: Path, sbd: Path) -> list[str]:
    """(VOC train ∪ SBD train ∪ SBD val) − VOC val, sorted; SBD's own parts say nothing of VOC's."""
    train, val = set(read_list(root, "train")), set(read_list(root, "val"))
    more = [set(read_list(root, str(sbd / f"{name}.txt"))) for name in ("train", "val")]
    ids = sorted((train | more[0] | more[1]) - val)
    if len(ids) != settings.trainaug_count:
        raise UserError(
            f"trainaug comes out with {len(ids):,} ids, not {settings.trainaug_count:,} (VOC train "
            f"{len(train):,}, SBD train {len(more[0]):,} and val {len(more[1]):,}, without VOC val "
            f"{len(val):,}); these are not the published archives: correct download.*_url and *_md5, or, if "
            "they are meant, download.trainaug_count"
        )
    pictures = find_pictures(root)
    if missing := [image_id for image_id in ids if image_id not in pictures]:
        raise UserError(
            f"{root}/JPEGImages: {len(missing):,} of the {len(ids):,} ids of trainaug have no picture there "
            f"({missing[0]} is one); the archives do not belong together: correct download.*_url and *_md5"
        )
    return ids


def _write_list(root: Path, ids: list[str]) -> None:
    path = root / "ImageSets" / "Segmentation" / "trainaug.txt"
    if not path.exists():
        write_text(path, "\n".join(ids) + "\n")
    elif set(read_list(root, "trainaug")) != set(ids):
        raise UserError(f"{path}: is there already with other ids; move it away, and it is written anew")


def _make_masks(root: Path, temporary: Path, ids: list[str]) -> None:
    """Masks of all images on trainaug: VOC's own where there is one, as everywhere in the field, else SBD's.

    VOC's are finer, and mark the objects' borders to be ignored, which SBD's do not.
    """
    if is_filled(root / MASKS):
        _require_masks(root, ids)
        return
    from .sbd import convert  # scipy: for masks alone

    own = [image_id for image_id in ids if (root / mask_name("SegmentationClass", image_id)).is_file()]
    rest = sorted(set(ids).difference(own))
    folder = temporary / "sbd" / "cls"
    if missing := [image_id for image_id in rest if not (folder / f"{image_id}.mat").is_file()]:
        raise UserError(
            f"{len(missing):,} of the {len(ids):,} images of trainaug have no mask in VOC's archive nor in "
            f"SBD's ({missing[0]} is one); {_other_archive('sbd')}, or set download.masks to false"
        )
    (temporary / MASKS).mkdir()
    for image_id in own:
        source = root / mask_name("SegmentationClass", image_id)
        shutil.copyfile(source, temporary / mask_name(MASKS, image_id))
    convert([(folder / f"{image_id}.mat", temporary / mask_name(MASKS, image_id)) for image_id in rest])
    _move(temporary, root, (MASKS,))


def _require_masks(root: Path, ids: list[str]) -> None:
    missing = [image_id for image_id in ids if not (root / mask_name(MASKS, image_id)).is_file()]
    if missing:
        raise UserError(
            f"{root / MASKS} is there already, but {len(missing):,} of the {len(ids):,} images of trainaug "
            f"have no mask in it ({missing[0]} is one); move it away, and it is written anew"
        )
