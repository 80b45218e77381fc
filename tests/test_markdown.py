"""Tables of text."""

from __future__ import annotations

from aft.markdown import aligned, markdown, per_cent


def test_numbers_stand_right_and_text_left():
    rows = [["a | b", "1"], ["two\nlines", "20"]]
    assert markdown(["name", "count"], rows) == (
        "| name | count |\n| --- | ---: |\n| a \\| b | 1 |\n| two lines | 20 |"
    )
    assert markdown(["key", "meaning", "more"], [], numbers=False) == "| key | meaning | more |\n| --- | --- | --- |"


def test_a_table_for_a_terminal_is_padded():
    assert aligned(["name", "n"], [["a", "100"], ["long name", "2"]]).splitlines() == [
        "| name      |    n |",
        "| ---       | ---: |",
        "| a         |  100 |",
        "| long name |    2 |",
    ]


def test_shares():
    assert per_cent(1, 3) == "33.3" and per_cent(1, 3, 2) == "33.33" and per_cent(0, 0) == ""
