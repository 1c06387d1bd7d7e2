"""Stage `export_folder`: a mask of each of one's own photographs, under its own name and of its own size."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import pandas as pd

from .errors import UserError
from .folder import found_names
from .grids import enlarged_labels
from .palette import write_mask
from .store import remove_leftovers, write_text
from .tables import LabelTable
from .threads import mapped


def run(
    settings: None, *, photos: list[Path], predictions: Path, folder: Path, out: Path, threads: int = 1
) -> None:
    """Write <folder>/<name of the photograph>.png, a palette PNG, for each, and the table `out` of them.

    Args:
        settings: this stage has none.
        photos: tables of the photographs by import_folder, <part>.csv.
        predictions: label table of all of them, its paths relative to its own folder.
        out: CSV file with the columns image, mask (relative to `out`) and part, where the image was: train,
            val, or rest if it had no label.

    Raises:
        UserError: a photograph has no prediction, or one that is damaged.
    """
    table = pd.concat([_read(path) for path in photos]).sort_values("image")
    labels = LabelTable(predictions, predictions.parent)
    missing = [image_id for image_id in table.id if image_id not in labels]
    if missing:
        raise UserError(
            f"{predictions}: no prediction of {missing[0]}; delete the file and run snakemake again"
        )
    masks = [str(PurePosixPath(name).with_suffix(".png")) for name in table.image]
    rows = list(zip(table.id, masks, table.width.astype(int), table.height.astype(int), strict=True))

    def write(row: tuple[str, str, int, int]) -> None:
        image_id, name, width, height = row
        write_mask(folder / name, enlarged_labels(labels.get(image_id), height, width))

    with ThreadPoolExecutor(threads) as pool:
        for _ in mapped(pool, write, rows):
            pass
    for name in set(found_names(folder, (".png",))).difference(masks):
        (folder / name).unlink()  # of a photograph that is no more
    for place in {(folder / name).parent for name in masks}:
        remove_leftovers(place)
    found = pd.DataFrame(
        {"image": table.image, "mask": [f"{folder.name}/{name}" for name in masks], "part": table.part}
    )
    write_text(out, found.to_csv(index=False, lineterminator="\n"))
    print(f"export_folder: {len(masks)} masks in {folder}")


def _read(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype=str, na_filter=False)
        return table[["image", "id", "width", "height"]].assign(part=path.stem)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: not a readable table of photographs ({error}); delete it") from None
