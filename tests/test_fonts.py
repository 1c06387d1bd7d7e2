import io

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from ecsnet import fonts
from ecsnet.overlay import draw_overlay

STIX = fonts.OWN.with_name("STIXGeneral.ttf")
ONLY_STIX = "ᶁ"
"""A sign that STIX has and DejaVu has not; it stands for those of scripts whose fonts are not everywhere."""


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """A machine with these fonts: no font, and STIX."""
    (tmp_path / "cjk.ttf").write_bytes(b"no font")
    monkeypatch.setattr(fonts.font_manager, "findSystemFonts", lambda: [str(STIX), str(tmp_path / "cjk.ttf")])
    for function in (fonts.font_file, fonts._installed):
        function.cache_clear()
    yield
    for function in (fonts.font_file, fonts._installed):
        function.cache_clear()


def test_a_font_that_has_all_signs_is_chosen(installed):
    assert fonts.font_file("cat, кошка, γάτα") == fonts.OWN
    assert fonts.font_file(f"{ONLY_STIX} cat") == STIX
    assert fonts.font_file("\U000f0000") == fonts.OWN  # nobody has it
    assert fonts.families("cat") == ["DejaVu Sans"]
    assert fonts.families(ONLY_STIX) == ["DejaVu Sans", "STIXGeneral"]
    assert fonts.families(f"{ONLY_STIX} \u0642") == ["DejaVu Sans", "STIXGeneral"]  # the letter is DejaVu's


def test_figures_have_the_sign(installed, recwarn):
    with matplotlib.rc_context({"font.family": fonts.families(ONLY_STIX)}):
        figure = Figure()
        figure.text(0.5, 0.5, f"cat {ONLY_STIX}")
        figure.savefig(io.BytesIO())
    assert not recwarn.list


def test_legends_have_it_too(installed, tmp_path):
    labels, photo = np.ones((20, 60), np.uint8), np.zeros((20, 60, 3), np.uint8)
    legends = []
    for name in (ONLY_STIX, "\U000f0000"):
        draw_overlay(tmp_path / "a.jpg", photo, labels, ["background", name])
        with Image.open(tmp_path / "a.jpg") as picture:
            legends.append(np.array(picture)[20:].astype(int))
    assert abs(legends[0] - legends[1]).max() > 100  # the second one is a box
