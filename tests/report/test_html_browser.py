"""report.html in a headless Chromium, from the disk: filters, search, keys, a narrow screen, and hostile texts."""

from __future__ import annotations

import re

import pytest

from aft.report.build import write_html
from browsers import ARGUMENTS, find_chromium
from page_of_run import HOSTILE_SHOWN, data_of, finish_hostile_run

playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright (extra `browser`)")
CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="needs a Chromium: chromium on the search path or $AFT_CHROMIUM"
)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return write_html(finish_hostile_run(tmp_path_factory.mktemp("browser") / "run"), picture=False)


@pytest.fixture(scope="module")
def data(report):
    return data_of(report.read_text(encoding="utf-8"))


@pytest.fixture
def visit(browser, report):
    """Opens the report in a page of its own. At the end, no request has left and the console has no error."""
    contexts, asked, errors = [], [], []

    def open_page(address="", *, width=1280, **options):
        context = browser.new_context(viewport={"width": width, "height": 800}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("request", lambda request: asked.append(request.url.partition("#")[0]))
        page.on("console", lambda message: errors.append(message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: errors.append(f"dialog {dialog.message}"))
        page.goto(f"{report.as_uri()}{address}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert set(asked) == {report.as_uri()}
    assert errors == []


def status(page):
    return page.locator("#status").inner_text()


def found(page):
    return int(re.match(r"[\d,]+", status(page))[0].replace(",", ""))


def test_it_opens_from_the_disk_with_every_question(visit, data):
    page = visit()
    assert page.title() == "Report: run"
    assert found(page) == len(data["questions"]) == page.locator("#list a").count()
    assert page.get_by_role("row", name="bcl").count() >= 1


def test_filters_choose_questions_by_every_property(visit, data):
    page = visit()
    tests = [q for q in data["questions"] if q["kind"] == "test"]
    page.get_by_label("Kind", exact=True).select_option("test")
    assert found(page) == len(tests)
    for label in ("right", "wrong", "unparsed"):
        page.get_by_label("Right or wrong").select_option(label)
        assert found(page) == sum(q["answers"]["bcl"]["label"] == label for q in tests)
    page.get_by_label("Right or wrong").select_option("truncated")
    assert found(page) == 1
    page.get_by_label("Right or wrong").select_option("")
    page.get_by_label("The two methods").select_option("second")
    only = [q for q in tests if q["answers"]["vft"]["label"] == "right" != q["answers"]["bcl"]["label"]]
    assert found(page) == len(only)
    page.get_by_role("button", name="Clear").click()
    page.get_by_label("Category").select_option("<i>law</i>")
    assert found(page) == 1
    page.get_by_role("button", name="Clear").click()
    page.get_by_label("Seed").select_option("1")
    assert found(page) == sum(q["seed"] == 1 for q in data["questions"])


def moves(question, labels):
    at, origin = 1, 0
    found = [c["scores"][at] - c["scores"][origin] for c in question["chains"] if c["label"] in labels]
    return sum(found) / len(found) if found else None


def test_questions_are_chosen_by_how_their_scores_moved(visit, data):
    page = visit("#?kind=pool")
    pool = [q for q in data["questions"] if q["kind"] == "pool"]
    right = [moves(q, ("right",)) for q in pool]
    wrong = [moves(q, ("wrong", "unparsed")) for q in pool]
    counts = {
        "right-up": sum(r is not None and r > 0.001 for r in right),
        "right-down": sum(r is not None and r < -0.001 for r in right),
        "wrong-up": sum(w is not None and w > 0.001 for w in wrong),
        "wrong-down": sum(w is not None and w < -0.001 for w in wrong),
        "both-fell": sum(None not in (r, w) and max(r, w) < -0.001 for r, w in zip(right, wrong, strict=True)),
    }
    for name, count in counts.items():
        page.get_by_label("Scores moved").select_option(name)
        assert found(page) == count, name


def test_the_search_looks_into_chains(visit):
    page = visit()
    page.get_by_role("searchbox").fill("DOCUMENT.TITLE='owned'")
    playwright.expect(page.locator("#status")).to_contain_text("2 questions found")
    page.get_by_role("searchbox").fill("nothing has this text")
    playwright.expect(page.locator("#status")).to_contain_text("0 questions found")


def test_keys_move_search_and_help(visit, data):
    page = visit("#?kind=test")
    keys = [f"{q['kind']}/{q['seed']}/{q['id']}" for q in data["questions"] if q["kind"] == "test"]

    def opened():
        return re.search(r"[?&]at=([^&]*)", page.evaluate("decodeURIComponent(location.hash)"))[1]

    page.keyboard.press("j")
    assert opened() == keys[0] and "question 1 is open" in status(page)
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    assert opened() == keys[1]
    assert page.locator("#list a[aria-current=true]").count() == 1
    page.keyboard.press("/")
    page.keyboard.type("jk?")
    assert page.get_by_role("searchbox").input_value() == "jk?" and not page.get_by_role("dialog").is_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert page.get_by_role("dialog", name="Help").is_visible()
    page.get_by_label("Keys of one character work").uncheck()
    page.keyboard.press("Escape")
    assert not page.get_by_role("dialog", name="Help").is_visible()
    page.keyboard.press("j")
    assert opened() == keys[1]


def test_a_hostile_text_is_shown_as_text(visit):
    page = visit("#?kind=test")
    page.keyboard.press("j")
    shown = page.locator("#question .chain").first
    assert HOSTILE_SHOWN in shown.locator("pre").text_content()
    assert shown.locator("mark").text_content() == "77"
    assert page.locator("#question .asked").text_content().startswith("<b>bold</b>?")
    assert page.locator("img, #question b, #question script").count() == 0
    assert page.title() == "Report: run"


def test_chains_stand_in_the_order_of_their_scores_under_vft(visit, data):
    question = next(q for q in data["questions"] if q["kind"] == "training")
    page = visit(f"#?at=training/0/{question['id']}")
    ordered = sorted(question["chains"], key=lambda chain: -chain["scores"][0])
    assert page.locator("#question .chain pre").all_text_contents()[: len(ordered)] == [c["text"] for c in ordered]
    rows = page.get_by_role("region", name="Scores of the chains under every method").get_by_role("row")
    for row, chain in zip(rows.all_inner_texts()[1:], ordered, strict=True):
        before, after = chain["scores"]
        for score in (before, after):
            assert f"{score:.3f}".replace("-", "−") in row
        assert f"{after - before:+.3f}".replace("-", "−") in row or abs(after - before) <= 0.001
    assert page.get_by_role("heading", name="Chains that the methods wrote themselves").is_visible()


def test_a_link_restores_filters_and_question(visit):
    page = visit()
    page.get_by_label("Kind", exact=True).select_option("test")
    page.get_by_label("Compared with").select_option("bcl")
    page.get_by_role("searchbox").fill("a")
    page.locator("#list a").nth(1).click()
    playwright.expect(page).to_have_url(re.compile("search=a&at="))
    address, before = page.evaluate("location.hash"), page.locator("main").inner_text()
    again = visit(address)
    assert again.locator("main").inner_text() == before
    assert again.get_by_label("Compared with").input_value() == "bcl"
    assert "does not hold" in visit("#?at=test/0/nowhere").locator("#question").inner_text()
    visit("#?method=__proto__&kind=%00&label=toString")  # what is no choice is not used


@pytest.mark.parametrize("kind", ["test", "pool", "training"])
def test_a_narrow_screen_does_not_scroll_sideways(visit, kind):
    page = visit(f"#?kind={kind}", width=360, has_touch=True)
    page.keyboard.press("j")
    assert page.locator("#question h3").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.keyboard.press("?")
    assert page.locator("#help").bounding_box()["width"] <= 360


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["test", "training"])
def test_everything_has_a_name_a_role_and_enough_contrast(visit, scheme, kind):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra `browser`").Axe()
    # axe is put into the page by the browser, past the policy, which stays tested by the others
    page = visit(f"#?kind={kind}", color_scheme=scheme, bypass_csp=True)
    page.keyboard.press("j")
    results = axe.run(page).response
    assert [(v["id"], v["nodes"][0]["html"]) for v in results["violations"]] == []
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")


def test_landmarks_and_the_live_region_are_named(visit):
    page = visit()
    for role, name in (
        ("main", None),
        ("banner", None),
        ("search", "Filter the questions"),
        ("navigation", "Questions found"),
        ("article", "The question that is open"),
    ):
        assert page.get_by_role(role, **({"name": name} if name else {})).count() == 1, role
    assert page.locator("#status").get_attribute("aria-live") == "polite"
    page.locator("#list a").first.focus()
    page.keyboard.press("Enter")
    playwright.expect(page.locator("#question h3")).to_be_focused()
