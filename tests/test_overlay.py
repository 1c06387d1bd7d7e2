import numpy as np
from PIL import Image

from ecsnet.overlay import COLORS, LINE, borders, draw_overlay


def test_borders_by_hand():
    labels = np.array([[0, 0, 1], [0, 0, 1], [2, 2, 2]])
    assert borders(labels).astype(int).tolist() == [[0, 1, 0], [1, 1, 1], [0, 0, 0]]


def test_background_keeps_its_colours_and_classes_get_theirs(tmp_path):
    photo = np.full((60, 200, 3), 80, np.uint8)
    labels = np.zeros((60, 200), np.uint8)
    labels[:, 100:] = 3
    draw_overlay(tmp_path / "a" / "b.jpg", photo, labels, ["background", "cat", "dog", "кошка"])
    with Image.open(tmp_path / "a" / "b.jpg") as picture:
        pixels = np.array(picture).astype(int)
    assert pixels.shape == (60 + LINE, 200, 3)
    assert abs(pixels[30, 40] - 80).max() < 4
    assert abs(pixels[30, 160] - (80 + COLORS[3]) // 2).max() < 4
    assert pixels[30, 99].min() > 200
    assert abs(pixels[60 + LINE // 2, 14] - COLORS[3]).max() < 12  # the legend's square


def test_names_that_find_no_room_go_on_in_the_next_line(tmp_path):
    labels = np.repeat(np.arange(8, dtype=np.uint8), 10)[None].repeat(20, 0)
    names = ["background", *(f"class {number}" for number in range(7))]
    draw_overlay(tmp_path / "a.jpg", np.zeros((20, 80, 3), np.uint8), labels, names)
    with Image.open(tmp_path / "a.jpg") as picture:
        assert picture.size == (80, 20 + 7 * LINE)
    draw_overlay(tmp_path / "b.jpg", np.zeros((20, 80, 3), np.uint8), labels * 0, names)
    with Image.open(tmp_path / "b.jpg") as picture:
        assert picture.size == (80, 20)
