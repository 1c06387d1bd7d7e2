"""The images of a submission: are they there? Asked before a network predicts one.

Imports nothing heavy: the Snakefile asks.
"""

import os
from pathlib import Path

from .errors import UserError
from .settings import Dataset
from .voc import find_pictures, list_path, read_list

SERVER = "http://host.robots.ox.ac.uk:8080"
REMEDY = (
    f"VOC's test images and their list come in VOC2012test.tar from its evaluation server ({SERVER}, with an "
    "account): unpack it where VOCdevkit is. Or name another list as submission.test_list"
)


def require_images(dataset: Dataset, test_list: str) -> None:
    """Check that a list and its pictures are there, as far as can be known before a rule makes them.

    Raises:
        UserError: there is no such list, it has mistakes, or pictures of it are missing; or the data set is
            one of photographs of one's own, which get their masks without.
    """
    if dataset.kind == "folder":
        raise UserError(
            "submission: an archive for VOC's test server is of VOC's images; the masks of your photographs "
            "(dataset.kind: folder) are in results/<run>/masks after every run"
        )
    if dataset.kind == "demo":
        if test_list not in (dataset.train_list, dataset.val_list):
            lists = f"{dataset.train_list} and {dataset.val_list}"
            raise UserError(f"submission.test_list: {test_list}, but the demo has the lists {lists} alone")
        return
    root = Path(dataset.root)
    path = list_path(root, test_list)
    if not os.path.isfile(path):
        raise UserError(f"submission.test_list: there is no {path}. {REMEDY}")
    ids, found = read_list(root, test_list), find_pictures(root)
    missing = [image_id for image_id in ids if image_id not in found]
    if missing:
        count = f"{len(missing):,} of the {len(ids):,} images of {path}"
        raise UserError(f"{count} are not in {root / 'JPEGImages'} ({missing[0]} is one). {REMEDY}")
