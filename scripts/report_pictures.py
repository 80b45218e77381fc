"""The pictures of report.html in the documents: the browser of questions on a wide and on a narrow screen.

`python scripts/report_pictures.py runs/quickstart` after `make quickstart` writes docs/images/report-wide.png and
docs/images/report-narrow.png. It needs the extra `browser` and a Chromium, found as the tests find it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from browsers import ARGUMENTS, find_chromium  # noqa: E402

# name -> width, height, colours, and the address: filters and question
SHOTS = {
    "wide": (1280, 900, "light", "#?kind=pool&method=aft-unconstrained-5e-4&moved=both-fell&sort=fall"),
    "narrow": (360, 900, "dark", "#?kind=test&method=aft-boundary&pair=first"),
}


def main() -> None:
    """The command."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run with report.html")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images")
    known = parser.parse_args()
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)
        for name, (width, height, scheme, address) in SHOTS.items():
            size = {"width": width, "height": height}
            page = browser.new_page(viewport=size, color_scheme=scheme, device_scale_factor=1)
            page.goto(f"{(known.run / 'report.html').resolve().as_uri()}{address}")
            page.keyboard.press("j")
            page.locator("#filters" if name == "wide" else "#status").evaluate("element => element.scrollIntoView()")
            path = known.output / f"report-{name}.png"
            page.screenshot(path=path)
            print(f"wrote {path}")
        browser.close()


if __name__ == "__main__":
    main()
