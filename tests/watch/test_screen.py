"""Curves of characters: which dots are set, and that values and their order can be read."""

from __future__ import annotations

from aft.run.folder import RunFolder
from aft.watch.screen import braille, score_curve, sparkline
from aft.watch.snapshot import Training


def training(right, wrong):
    curves = {"scores/positive": list(enumerate(right)), "scores/negative": list(enumerate(wrong))}
    return Training(RunFolder("run").unit("align", 0, "bcl"), 1, 9, curves, None)


def characters(cells):
    return ["".join(chr(0x2800 + cell) for cell in row) for row in cells]


def test_a_braille_curve_joins_its_points():
    assert characters(braille([(0, 0), (3, 7)], 2, 2, (0, 3, 0, 7))) == ["⠀⡜", "⡜⠀"]
    assert characters(braille([(0, 1), (1, 1)], 3, 1, (0, 1, 0, 1))) == ["⠉⠉⠉"]
    assert characters(braille([(0, 1), (1, 1)], 3, 1, (0, 1, 0, 1), dotted=True)) == ["⠉⠀⠉"]


def test_one_point_and_a_flat_curve_have_a_place():
    for points in ([(5, 2.0)], [(5, 2.0), (9, 2.0)]):
        assert any(map(any, braille(points, 4, 2, (5, points[-1][0], 2.0, 2.0))))


def test_no_points_have_no_dots():
    assert not any(map(any, braille([], 4, 2, (0, 1, 0, 1))))


def test_a_line_of_blocks_rises_with_its_values():
    assert sparkline([(step, step) for step in range(8)], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([(0, 1.0), (1, 1.0)], 8) == "▁▁"
    assert sparkline([(step, step // 100) for step in range(200)], 2) == "▁█"
    assert sparkline([], 8) == sparkline([(0, 1.0)], 0) == ""


def test_the_curve_of_scores_names_its_range_and_its_ends():
    lines = [line.plain for line in score_curve(training([-1.0, -0.5], [-1.0, -2.0]), 40, 5)]
    assert lines[0].startswith("  -0.500 ") and lines[4].startswith("  -2.000 ")
    assert lines[5].startswith("─ right -0.500 (+0.500)  ┄ wrong -2.000 (-1.000)")
    assert lines[0][-1] != " " and lines[0][-1] != "⠀", "right chains end at the top"
    assert score_curve(training([], []), 40, 5) == []
    assert "wrong none" in score_curve(training([-1.0], []), 40, 5)[-1].plain
