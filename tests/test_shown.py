"""Text from outside is shown without characters that act and without secrets, at every exit."""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import logging
import os
import re
import subprocess
import sys
import threading
import urllib.parse
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aft.cli.main import Parser, guarded
from aft.errors import AftError, ConfigError
from aft.launch.log_file import shown_output
from aft.markdown import aligned, code, csv_text, inline, markdown
from aft.progress import Progress, describe, say
from aft.run.environment import environment
from aft.shown import (
    SHORTEST,
    _base64_forms,
    _sought,
    hide,
    libraries_shown,
    secrets,
    shown,
    shown_line,
    without_secrets,
)
from aft.yaml_files import parse_yaml, yaml_text
from limits import HUNG_AFTER
from planted_text import ACTS, HTML, PLANTED, SECRET, is_clean, texts, unseen


@pytest.fixture(autouse=True)
def secret(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.delenv("AFT_PROGRESS", raising=False)
    monkeypatch.delenv("RANK", raising=False)


def test_what_is_planted_is_not_clean():
    assert not is_clean(ACTS) and not is_clean(SECRET) and len(set(unseen(ACTS))) > 15


# ---- characters ----


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\r\nb\tc", r"a\x0d\nb\tc"),
        ("\u202eright\u2069 \ud800 \U000e0041 \x9b", r"\u202eright\u2069 \ud800 \U000e0041 \x9b"),
        ("é – 6 × 7 = 42 日本 👍 \xa0", "é – 6 × 7 = 42 日本 👍 \xa0"),
    ],
)
def test_what_acts_is_escaped_and_what_is_seen_stays(text, line):
    assert shown_line(text) == line and shown(text).replace("\n", r"\n").replace("\t", r"\t") == line


@settings(deadline=None)
@given(texts)
def test_nothing_that_acts_passes_any_text_form(text):
    assert not unseen(shown(text)) and shown(shown(text)) == shown(text)
    for form in (inline(text), code(text), shown_line(text), markdown([text], [[text]]), aligned(["a"], [[text]])):
        assert not unseen(form)
    assert not set("\n\t") & set(inline(text) + code(text) + shown_line(text))
    assert not unseen(csv_text(["a"], [[text]]))


@settings(deadline=None)
@given(texts)
def test_a_cell_has_one_place_in_its_row_and_does_nothing(text):
    row = markdown(["a", "b"], [[text, "end"]]).splitlines()[2]
    # as GitHub divides a row: a backslash takes the next character with it
    cells = re.findall(r"(?:\\.|[^|\\])*", row.strip("|"))
    assert [cell.strip() for cell in cells if cell.strip()][-1] == "end" and row.endswith(" end |")
    assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) == 3
    outside = re.sub(r"(?<!`)(`+)(?!`)(?:.*?[^`])\1(?!`)", "", re.sub(r"\\[\\`]", "", inline(text)))
    assert "<" not in outside and "](" not in outside


@settings(deadline=None, max_examples=50)
@given(st.recursive(texts, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)))
def test_a_configuration_is_written_without_what_acts_and_reads_back(value):
    text = yaml_text({"key": value})
    assert not unseen(text)
    if not any("\ud800" <= character <= "\udfff" for character in json.dumps(value, ensure_ascii=False)):
        assert parse_yaml(text) == {"key": value}


def test_a_spreadsheet_reads_no_formula():
    rows = [["=cmd|' /C calc'!A0", -1.5], ["+1", None], ["-1", 2], ["@x", 3], ["\t=1", 4], ["a=b", 5]]
    assert csv_text(["name", "n"], rows).splitlines() == [
        *("name,n", "'=cmd|' /C calc'!A0,-1.5", "'+1,", "'-1,2", "'@x,3", "'\\t=1,4", "a=b,5")
    ]


def test_html_links_and_images_do_nothing_in_markdown():
    assert inline(HTML) == ("&lt;script>alert(1)&lt;/script> ![p]\\(http://x/p.png) [l]\\(http://x) `c` | a\\| b")
    assert inline(r"\`<b> and `<i>`") == r"\`&lt;b> and `<i>`"
    assert inline("[95 % interval]: http://x") == r"[95 % interval]\: http://x"
    assert markdown(["a"], [["x | y"], ["x \\| y"]]).splitlines()[2:] == ["| x \\| y |", "| x \\\\\\| y |"]
    assert code("a`b") == "``a`b``" and code("`") == "`` ` ``" and code("x\ny") == "`x\\ny`"


# ---- secrets ----


def in_json(text):
    return "".join(f"\\u{ord(character):04X}" for character in text)


@pytest.mark.parametrize(
    "written",
    [
        SECRET,
        f"Bearer {SECRET}.",
        in_json(SECRET),
        json.dumps(json.dumps({"error": in_json(SECRET)})),
        SECRET.replace("-", "\\u002d"),
        "".join(f"%{ord(character):02x}" for character in SECRET),
        urllib.parse.quote(urllib.parse.quote(SECRET.replace("-", "%2D"))),
        "".join(f"&#{ord(character)};" for character in SECRET),
        "".join(f"&#x{ord(character):x};" for character in SECRET),
        *(base64.b64encode(before + SECRET.encode()).decode() for before in (b"", b"a", b"ab", b"user:")),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
        f"http://elsewhere/{SECRET[:14]}?rest={SECRET[14:]}",
        f"{SECRET[:13]} …",
    ],
)
def test_a_secret_is_hidden_in_every_form(written):
    for form in (written, f"before {written} after", f"\\{written}\\n", f"{written}{written}"):
        found = hide(form)
        assert "***" in found
        plain = urllib.parse.unquote(urllib.parse.unquote(found))
        assert not any(SECRET[i : i + 8] in plain for i in range(len(SECRET) - 7)), found
        assert "elsewhere" in written or not any(written[i : i + 16] in found for i in range(len(written) - 15))
    assert hide(f"keeps {written} \\frac{{1}}{{2}} 50% \\").endswith(" \\frac{1}{2} 50% \\")


@given(st.text(max_size=30), st.text(max_size=30))
def test_the_text_around_a_secret_stays(before, after):
    assert hide(f"{before} {SECRET} {after}") == f"{before} *** {after}"
    assert hide(before) == before or SECRET[:12] in before


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_every_piece_of_a_secret_is_hidden_and_nothing_else(data):
    secret = data.draw(st.text("ab0", min_size=SHORTEST, max_size=40))
    pieces = st.builds(
        lambda form, first, length: form[first : first + length],
        st.sampled_from([secret, base64.b64encode(b"x" + secret.encode()).decode()[2:-4]]),
        *(st.integers(0, 30), st.integers(1, 40)),
    )
    text = "".join(data.draw(st.lists(st.one_of(pieces, st.text("ab0 ", max_size=5)), max_size=6)))
    forms = [secret, *_base64_forms(secret)]
    hidden = set()
    for first in range(len(text) - 11):
        if any(text[first : first + 12] in form for form in forms):
            hidden |= set(range(first, first + 12))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OPENAI_API_KEY", secret)
        found = hide(text)
    assert found.replace("***", "") == "".join(character for i, character in enumerate(text) if i not in hidden)
    assert ("***" in found) == bool(hidden)


def test_a_long_secret_is_looked_for_once(monkeypatch):
    monkeypatch.setenv("AWS_SESSION_TOKEN", "".join(f"{number:x}/" for number in range(400)))
    for _ in range(20):
        shown("a line")
    made = _sought.cache_info().misses
    shown("another line")
    assert _sought.cache_info().misses == made


def test_which_variables_are_secrets(monkeypatch):
    for name, value in {
        **dict.fromkeys(("HF_TOKEN", "MY_SECRET", "DB_PASSWORD", "AWS_SECRET_ACCESS_KEY", "X_APIKEY"), "v" * 16),
        **dict.fromkeys(("TOKEN_FILE", "KEYS", "TOKENIZERS_PARALLELISM", "MONKEY"), "no" * 10),
        "SHORT_TOKEN": "none",
        "WORDS_TOKEN": "two words are no token",
    }.items():
        monkeypatch.setenv(name, value)
    names = set(secrets())
    assert names >= {"OPENAI_API_KEY", "HF_TOKEN", "MY_SECRET", "DB_PASSWORD", "AWS_SECRET_ACCESS_KEY", "X_APIKEY"}
    assert not names & {"TOKEN_FILE", "KEYS", "TOKENIZERS_PARALLELISM", "MONKEY", "SHORT_TOKEN", "WORDS_TOKEN"}


def test_addresses_and_tokens_of_the_hub_are_known_by_their_form():
    text = f"http://me:pw@host/x git+https://tok@host hf_{'a' * 34} me@host http://host/a@b"
    assert without_secrets(text) == "http://***@host/x git+https://***@host *** me@host http://host/a@b"


def test_the_environment_file_keeps_no_secret(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["aft-train", f"model.name_or_path=http://me:pw@host/{SECRET}"])
    assert environment()["command"] == ["aft-train", "model.name_or_path=http://***@host/***"]


# ---- exits ----


def test_what_is_said_and_progress(capsys, monkeypatch):
    for lines in ("", "lines"):
        monkeypatch.setenv("AFT_PROGRESS", lines)
        say(f"{PLANTED}\nsecond line")
        with Progress(PLANTED, 2, PLANTED) as progress:
            progress.update(2, PLANTED)
        err = capsys.readouterr().err.replace("\x1esay ", "").replace("\x1eaft ", "")
        assert is_clean(err) and "second line\n" in err
    assert is_clean(describe({"what": PLANTED, "done": 1, "total": 2, "note": PLANTED, "left": 0}))


def test_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with Progress(PLANTED, 2, PLANTED) as progress:
        progress.update(1, PLANTED)
        progress.update(1, PLANTED)
    # the bar itself returns to the begin of its line, and up
    assert is_clean(capsys.readouterr().err.replace("\r", "").replace("\x1b[A", ""))


def fails(error):
    def run():
        raise error

    return run


@pytest.mark.parametrize(
    "error", [AftError(PLANTED), ConfigError([PLANTED, "b\naft: error: all is well"]), OSError(PLANTED)]
)
def test_errors(capsys, error):
    assert guarded(fails(error)) == getattr(error, "exit_code", 1)
    err = capsys.readouterr().err
    assert is_clean(err) and r"\x1b[31m" in err and "\naft:" not in err
    assert ("Traceback" in err) == isinstance(error, OSError)


@settings(deadline=None, max_examples=50)
@given(texts)
def test_nothing_that_acts_passes_an_exit(text):
    stream = io.StringIO()
    with contextlib.redirect_stderr(stream):
        say(text)
        guarded(fails(AftError(text)))
        guarded(fails(ValueError(text)))
        with Progress(text, 1, text) as progress:
            progress.update(1, text)
    print(shown_output(text), describe({"what": text, "done": 1, "total": 0, "note": text, "left": 0}), file=stream)
    assert not unseen(stream.getvalue())


def test_whatever_is_printed_is_shown():
    """Every call in the source that writes to a terminal passes its text through `shown`, or shows fixed text."""
    fixed = ("progress.py", "symbolic_worker.py", "shown.py", "worker.py")  # the first and the last have tests above
    found = 0
    for path in sorted((Path(__file__).resolve().parents[1] / "src" / "aft").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)) if re.search(r"\bprint\(|\.write\(", source) else ():
            writes = isinstance(node, ast.Call) and ast.unparse(node.func) in (
                *("print", "tqdm.write", "sys.stdout.write", "sys.stderr.write", "os.write"),
            )
            if writes and path.name not in fixed:
                found += 1
                text = node.args[0]
                passes = isinstance(text, ast.Call) and ast.unparse(text.func) in ("shown", "shown_line")
                assert passes or isinstance(text, ast.Constant), f"{path}:{node.lineno}"
    assert found > 15


def test_an_argument(capsys):
    with pytest.raises(SystemExit):
        Parser(prog="aft").parse_args([PLANTED])
    assert is_clean(capsys.readouterr().err)


def test_libraries(capsys):
    handler = logging.StreamHandler(sys.stderr)
    logger = logging.getLogger("a.package")
    logger.addHandler(handler)
    with libraries_shown():
        print(warnings.formatwarning(PLANTED, UserWarning, PLANTED, 1), file=sys.stderr)
        logger.warning("%s", PLANTED)
        try:
            raise ValueError(PLANTED)
        except ValueError:
            logger.exception("failed")
        thread = threading.Thread(target=fails(ValueError(PLANTED)))
        thread.start()
        thread.join()
    logger.removeHandler(handler)
    err = capsys.readouterr().err
    assert is_clean(err) and err.count(r"\x1b[31m") == 5


def test_a_command_that_meets_a_bug_shows_a_clean_traceback():
    program = (
        "import sys\nfrom aft.cli.main import guarded\n"
        f"def main():\n    raise KeyError({PLANTED!r})\n"
        "sys.exit(guarded(main))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        env={**os.environ, "OPENAI_API_KEY": SECRET},
        timeout=HUNG_AFTER,
    )
    text = ran.stderr.decode()
    assert ran.returncode == 1 and text.startswith("Traceback") and is_clean(text)
