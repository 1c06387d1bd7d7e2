"""How often the demo's class activation maps peak on the small telling part, by class.

Run after `make demo`: python benchmarks/attention.py
"""

from collections import Counter
from pathlib import Path

import numpy as np
import yaml
from scipy import ndimage

from ecsnet.grids import resize_maps
from ecsnet.scenes import DEMO_CLASSES, draw_scene
from ecsnet.settings import Demo
from ecsnet.store import ShardReader

NEAR = 10  # pixels: less than the spacing of two cells of the network's map


def main() -> None:
    settings = Demo(**(yaml.safe_load(Path("config/demo.yaml").read_text()).get("demo") or {}))
    shards = ShardReader(sorted(Path("results/demo/erase").glob("*.npz")))
    peaks, hits = Counter(), Counter()
    for index in range(settings.train_images):
        scene = draw_scene(settings, "train", index)
        image_id = f"demo_train_{index + 1:04d}"
        maps = resize_maps(shards.get(image_id, "cam"), *scene.heads.shape)
        for number, cam in zip(shards.get(image_id, "classes"), maps, strict=True):
            objects = [order for order, drawn in enumerate(scene.classes, 1) if drawn == number]
            heads = scene.heads & np.isin(scene.instances, objects)
            distance = ndimage.distance_transform_edt(~heads)
            name = DEMO_CLASSES[number - 1]
            peaks[name] += 1
            hits[name] += heads.any() and distance.flat[cam.argmax()] <= NEAR
    for name in DEMO_CLASSES:
        print(f"{name:8} {hits[name]} of {peaks[name]}")
    print(f"{'all':8} {hits.total()} of {peaks.total()} ({100 * hits.total() / peaks.total():.0f} %)")


if __name__ == "__main__":
    main()
