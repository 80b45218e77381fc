"""Text as a stranger may write it: what acts on a terminal or in Markdown, and what cannot be seen."""

from __future__ import annotations

import unicodedata

from hypothesis import strategies as st

SECRET = "sk-of-a-test-0123456789abcdef"
# a colour, a title of the window, a link of a terminal, C1, direction, no width, separators, half a pair, NUL, DEL
ACTS = (
    "\x1b[31m\x1b]0;title\x07\x1b]8;;http://x\x1b\\ \x9b2J \u202edrow\u202c \u2066i\u2069 a\u200bb\ufeff \u2028\u2029"
    " \ud800 \x00 \x7f \x85 \xad \U000e0041 \r over"
)
HTML = "<script>alert(1)</script> ![p](http://x/p.png) [l](http://x) `c` | a\\| b"
PLANTED = f"{ACTS} {HTML} {SECRET}"
IN_A_FILE = PLANTED.replace("\ud800", "")  # readers refuse half a pair

texts = st.text(st.one_of(st.sampled_from(ACTS + HTML + "\n\t=+-@'\"$\\&;:#"), st.characters()), max_size=40)


def unseen(text: str) -> list[str]:
    """The characters of a text that no exit may show, by their properties in Unicode."""
    acting = ("BN", "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    return [
        character
        for character in set(text)
        if character not in "\n\t"
        and (
            unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
            or (unicodedata.bidirectional(character) in acting and unicodedata.category(character) != "Cn")
        )
    ]


def is_clean(text: str) -> bool:
    """True if a text shows nothing that acts, and not the secret."""
    return not unseen(text) and SECRET not in text
