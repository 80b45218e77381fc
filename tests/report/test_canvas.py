"""The frame of a picture: its size, what becomes of a picture that fails, and names of rows."""

from __future__ import annotations

import struct

import pytest

from aft.report.canvas import DPI, WIDTH, canvas, name_rows, panel_title, part_title, say_nothing
from planted_text import is_clean

pytest.importorskip("matplotlib")

NAME = "\x1b[31m\u202ered\u200b \ud800"


def test_a_picture_has_the_size_that_was_asked_for(tmp_path):
    for name, width in (("whole", WIDTH), ("narrow", 0.7 * WIDTH)):
        with canvas(tmp_path / name, 1.5, width=width) as figure:
            figure.subplots()
        # width and height stand in the header of a PNG file
        assert struct.unpack(">II", (tmp_path / name).read_bytes()[16:24]) == (round(width * DPI), 1.5 * DPI)


def test_style_is_of_one_picture_alone(tmp_path):
    import matplotlib

    before = matplotlib.rcParams["font.size"]
    with canvas(tmp_path / "picture.png", 1.0, style={"font.size": 20.0}):
        assert matplotlib.rcParams["font.size"] == 20.0
    assert matplotlib.rcParams["font.size"] == before


def test_a_picture_that_fails_leaves_no_file(tmp_path):
    with pytest.raises(ZeroDivisionError), canvas(tmp_path / "picture.png", 1.0):
        raise ZeroDivisionError
    assert not (tmp_path / "picture.png").exists()


def test_the_first_name_is_on_top_and_long_ones_are_wrapped(tmp_path):
    with canvas(tmp_path / "picture.png", 2.0) as figure:
        axes = figure.subplots()
        name_rows(axes, ["vft", "a name that is far too long", "two\nlines that are given"])
        labels = [label.get_text() for label in axes.get_yticklabels()]
        assert labels == ["vft", "a name that is far\ntoo long", "two\nlines that are given"]
        assert axes.get_ylim() == (2.5, -0.5)


def test_a_name_acts_on_nothing_and_is_no_formula(tmp_path):
    from matplotlib.text import Text

    with canvas(tmp_path / "picture.png", 2.0) as figure:
        axes = figure.subplots()
        name_rows(axes, [NAME, "$\\frac$", "$x"])
        panel_title(axes, NAME)
        part_title(figure, NAME)
        say_nothing(axes, NAME)
        shown = [text.get_text() for text in figure.findobj(Text)]
    assert is_clean("".join(shown)) and sum(r"\x1b" in text for text in shown) >= 4 and "$\\frac$" in shown
    assert (tmp_path / "picture.png").exists()
