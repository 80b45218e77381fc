"""What `make docs` changes in a page: a link to a file outside docs/ becomes its text. The site lacks that file."""

import re
from typing import Any

_OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+[^)]*\)|\[([^\]]+)\]\(tour\.ipynb\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The page without links out of docs/. Pages below docs/results link up into docs/, which stays."""
    if page.file.src_uri.startswith("results/"):
        return markdown
    return _OUTSIDE.sub(lambda match: match[1] or match[2], markdown)
