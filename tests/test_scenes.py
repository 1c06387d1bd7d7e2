"""Scenes must be sound, and must test what they are made to test."""

import numpy as np
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy import ndimage

from ecsnet import scenes
from ecsnet.palette import IGNORE
from ecsnet.scenes import DEMO_CLASSES, THINGS, draw_scene
from ecsnet.settings import Demo

SMALL = Demo(train_images=24, val_images=6, width=96, height=72)
TINY = Demo(train_images=3, val_images=2, width=64, height=64)


def test_two_pixels_of_255_separate_objects_and_background():
    scene = scenes.Scene(np.zeros((1, 1, 3), np.uint8), np.zeros((6, 9), np.uint8), None, [4], [False])
    scene.instances[:, 4:] = 1
    assert scene.labels().tolist() == [[0, 0, 0, 255, 255, 4, 4, 4, 4]] * 6


def test_another_seed_and_split_draw_other_pictures():
    pictures = [
        draw_scene(Demo(seed=seed), split, 0).picture
        for seed, split in ((0, "train"), (0, "val"), (1, "train"))
    ]
    assert len({picture.tobytes() for picture in pictures}) == 3


def test_heads_are_small_and_more_striking_than_bodies():
    shares, vivid = [], []
    for index in range(40):
        scene = draw_scene(Demo(), "train", index)
        pixels = scene.picture.astype(float)
        for number in range(1, len(scene.classes) + 1):
            body = (scene.instances == number) & ~scene.heads
            head = (scene.instances == number) & scene.heads
            shares.append(head.sum() / (head | body).sum())
            if head.sum() > 20:
                vivid.append(pixels[head].std(axis=0).max() / pixels[body].std(axis=0).max())
    assert max(shares) < 0.3
    assert 0.1 < np.mean(shares) < 0.2
    assert np.median(vivid) > 4


def test_bodies_differ_in_colour_from_what_surrounds_them():
    for index in range(40):
        scene = draw_scene(Demo(), "val", index)
        pixels = scene.picture / 255
        for number in range(1, len(scene.classes) + 1):
            thing = scene.instances == number
            ring = ndimage.binary_dilation(thing, iterations=5) & (scene.instances == 0)
            body = np.median(pixels[thing & ~scene.heads], axis=0)
            assert np.linalg.norm(body - pixels[ring].mean(axis=0)) > 0.08


@hypothesis_settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(64, 200), st.integers(64, 200), st.integers(0, 2**32), st.integers(0, 99998))
def test_any_size_and_seed_gives_sound_scenes(width, height, seed, index):
    scene = draw_scene(Demo(width=width, height=height, seed=seed), "train", index)
    assert scene.picture.shape == (height, width, 3)
    assert scene.picture.dtype == np.uint8
    assert 1 <= len(scene.classes) <= 3
    assert set(np.unique(scene.labels())) == {0, IGNORE, *scene.classes}
    assert set(np.unique(scene.instances)) == set(range(len(scene.classes) + 1))


def test_things_stand_mostly_inside_and_hardly_cover_each_other():
    for index in range(40):
        placed = scenes._arrange(np.random.default_rng(index), index, (112, 160))
        areas = [thing.mask.sum() for thing in placed]
        shared = [(placed[i].mask & placed[j].mask).sum() for j in range(len(placed)) for i in range(j)]
        assert min(thing.inside for thing in placed) >= 0.85
        assert max(shared, default=0) <= 0.1 * max(areas)


def test_truncated_things_are_those_that_the_frame_cuts():
    flags = set()
    for index in range(20):
        scene = draw_scene(Demo(), "train", index)
        for number, truncated in enumerate(scene.truncated, 1):
            inner = (scene.instances == number)[1:-1, 1:-1].sum()
            touches = inner < (scene.instances == number).sum()
            assert touches or not truncated
            flags.add(truncated)
    assert flags == {True, False}


def test_class_table_is_whole():
    assert len(DEMO_CLASSES) == len(set(DEMO_CLASSES)) == 6
    assert {thing.habitat for thing in THINGS} == set(scenes.BACKGROUNDS)
