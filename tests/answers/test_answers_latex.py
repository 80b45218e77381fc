"""Boxed answers, when two LaTeX answers are the same, and the engine that may hang but not here."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import aft.answers.symbolic
from aft.answers import (
    EMPTY_BOX,
    NO_BOX,
    OPEN_BOX,
    Extraction,
    SymbolicChecker,
    extract_boxed,
    extract_latex,
    format_number,
    latex_equal,
    math_verify_installed,
    normalise_latex,
)
from aft.errors import ConfigError
from processes import is_alive

needs_math_verify = pytest.mark.skipif(
    not math_verify_installed(), reason="math-verify (extra 'math') is not installed"
)


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("So $\\boxed{5}$.", "5"),
        ("\\boxed{4} and then \\boxed{5}", "5"),
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{\\frac{\\sqrt{3}}{2}} cm", "\\frac{\\sqrt{3}}{2}"),
        ("\\boxed{\\{1, 2\\}}", "\\{1, 2\\}"),
        ("\\boxed{ x }", "x"),
        ("\\boxed {5}", "5"),
        ("\\boxed\n{5}", "5"),
        ("\\boxed 5", "5"),
        ("$\\boxed 5$.", "5"),
        ("\\fbox{5}", "5"),
        ("\\boxed{\\text{(B)}}", "\\text{(B)}"),
        ("\\boxed{a\nb}", "a\nb"),
        ("\\boxed{1}}}", "1"),
        ("\\boxed{\\boxed{5}}", "5"),
        ("the answer is 5", NO_BOX),
        ("boxed{5}", NO_BOX),
        ("\\boxedup{5}", NO_BOX),
        ("", NO_BOX),
        ("\\boxed{5", OPEN_BOX),
        ("\\boxed{4} \\boxed{\\frac{1}{2}", OPEN_BOX),  # the last box decides, whatever came before
        ("\\boxed{5\\}", OPEN_BOX),
        ("\\boxed{}", EMPTY_BOX),
        ("\\boxed{ }", EMPTY_BOX),
        ("\\boxed", EMPTY_BOX),
        ("\\boxed.", EMPTY_BOX),
        # without braces, a box holds a command with its arguments, or what brackets keep together
        ("\\boxed\\frac{1}{2}", "\\frac{1}{2}"),
        ("\\boxed\\frac12.", "\\frac12"),
        ("\\boxed \\frac {1} {2} is it", "\\frac {1} {2}"),
        ("$\\boxed\\dfrac{\\sqrt{3}}{2}$.", "\\dfrac{\\sqrt{3}}{2}"),
        ("\\boxed\\sqrt{3}", "\\sqrt{3}"),
        ("\\boxed\\sqrt[3]{2}", "\\sqrt[3]{2}"),
        ("\\boxed\\text{north east}", "\\text{north east}"),
        ("\\boxed\\pi", "\\pi"),
        ("\\boxed x^{2}", "x^{2}"),
        ("\\boxed 2\\sqrt{3} cm", "2\\sqrt{3}"),
        ("\\boxed\\left( 1, 2 \\right) here", "\\left( 1, 2 \\right)"),
        ("\\boxed(1, 2) here", "(1, 2)"),
        ("\\boxed[1, 2), half open", "[1, 2)"),
        ("(so \\boxed 5)", "5"),
        ("\\boxed\\frac{1}{2", OPEN_BOX),
        ("\\boxed(1, 2", OPEN_BOX),
    ],
    ids=ascii,
)
def test_the_last_box(completion, expected):
    missing = expected in (NO_BOX, OPEN_BOX, EMPTY_BOX)
    assert extract_boxed(completion) == (Extraction(None, expected) if missing else Extraction(expected, None))


@pytest.mark.parametrize(
    ("completion", "spelling"),
    [
        ("\\boxed{\\dfrac12}", "0.5"),
        ("\\boxed{ 1{,}234 }", "1234"),
        ("\\boxed{x = \\frac{\\sqrt3}{2}}", "\\frac{\\sqrt{3}}{2}"),
        ("\\boxed{\\left( 1, \\pi \\right)}", "(1,\\pi)"),
        ("\\boxed{\\text{(B)}}", "(B)"),
        ("\\boxed{$}", None),
        ("\\boxed{\\begin{pmatrix} 6 \\\\3 \\end{pmatrix}}", "\\begin{pmatrix}6\\\\3\\end{pmatrix}"),
        ("\\boxed{40, 200}", "40, 200"),
    ],
)
def test_a_box_in_one_spelling(completion, spelling):
    assert extract_latex(completion).answer == spelling
    if spelling is not None:
        assert normalise_latex(spelling) == spelling


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        ("5", "5", True),
        ("1 2", "12", False),
        ("$5$", "5.", True),
        ("5.0", "5", True),
        (".5", "0.5", True),
        ("\\frac{1}{2}", "\\dfrac12", True),
        ("\\tfrac{1}{2}", "0.5", True),
        ("\\frac12", "\\frac{1}2", True),
        ("-\\frac{1}{2}", "\\frac{-1}{2}", True),
        ("\\frac{1}{-2}", "-0.5", True),
        ("1\\frac12", "1.5", True),
        ("\\frac{2}{4}", "\\frac{1}{2}", True),
        ("\\frac{1}{3}", "0.333", False),
        ("1{,}234", "1234", True),
        ("1,\\!234", "1,234", True),
        ("\\$18", "18", True),
        ("50\\%", "50", True),
        ("90^\\circ", "90", True),
        ("90^{\\circ}", "90°", True),
        ("5\\text{ cm}", "5", True),
        ("5 \\mathrm{ cm}^2", "5", True),
        ("x = 5", "5", True),
        ("x=5", "y=5", True),  # of one unknown, its value is the answer
        ("x=1, y=2", "1, y=2", False),
        ("\\left( 1, 2 \\right)", "(1,2)", True),
        ("(1,2)", "(2,1)", False),
        ("[1,2)", "(1,2]", False),
        ("2\\pi", "2 π", True),
        ("2\\pi", "2", False),
        ("2x", "2", False),
        ("5!", "5", False),
        ("\\sqrt3", "\\sqrt{3}", True),
        ("3\\sqrt 2", "3 \\sqrt{2}", True),
        ("x^{2}", "x^2", True),
        ("x^{12}", "x^12", False),
        ("x \\le 3", "x \\leq 3", True),
        ("x \\le 3", "x \\ge 3", False),
        ("2 \\cdot 3", "2 \\times 3", True),
        ("\\infty", "∞", True),
        ("\\text{east}", "east", True),
        ("\\text{(B)}", "(B)", True),
        # the second backslash of a row's end belongs to it
        (r"\begin{pmatrix} 6 \\ 3 \\ 0 \end{pmatrix}", r"\begin{pmatrix} 6 \\3 \\0 \end{pmatrix}", True),
        (r"\begin{pmatrix} 6 \\ 3 \\ 0 \end{pmatrix}", r"\begin{pmatrix}6\\3\\0\end{pmatrix}", True),
        (r"\begin{pmatrix} 6 \\ -3 \end{pmatrix}", r"\begin{pmatrix} 6\\-3 \end{pmatrix}", True),
        (r"\begin{pmatrix} 1 \\ \frac12 \end{pmatrix}", r"\begin{pmatrix} 1\\\frac{1}{2} \end{pmatrix}", True),
        (r"\begin{pmatrix} 1 \\ (2) \end{pmatrix}", r"\begin{pmatrix} 1\\(2) \end{pmatrix}", True),
        (r"\begin{pmatrix} 1 \\ [2] \end{pmatrix}", r"\begin{pmatrix} 1\\[2] \end{pmatrix}", True),
        (r"\begin{pmatrix} 6 \\[2pt] 3 \end{pmatrix}", r"\begin{pmatrix} 6 \\ 3 \end{pmatrix}", True),
        (r"\begin{pmatrix} 6 \\* 3 \end{pmatrix}", r"\begin{pmatrix} 6 \\ 3 \end{pmatrix}", True),
        (r"\begin{pmatrix} 6 \\ 3 \\ \end{pmatrix}", r"\begin{pmatrix} 6 \\ 3 \end{pmatrix}", True),
        (r"\begin{pmatrix} 6 \cr 3 \end{pmatrix}", r"\begin{pmatrix} 6 \\ 3 \end{pmatrix}", True),
        (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", True),
        (r"\begin{pmatrix} 6 \\ 3 \end{pmatrix}", r"\begin{pmatrix} 6 & 3 \end{pmatrix}", False),
        (r"\begin{pmatrix} 6 \\ 3 \end{pmatrix}", r"\begin{pmatrix} 6 3 \end{pmatrix}", False),
        (r"5 \\", "5", True),
        # a list is no number
        ("40, 200", "40200", False),
        ("40, 200", "40,200", False),
        ("40,\\ 200", "40200", False),
        ("40,\\,200", "40200", False),
        ("40,~200", "40200", False),
        ("x = 40, 200", "40200", False),
        ("1, 234, 567", "1234567", False),
        ("-1, 500", "-1500", False),
        ("40{,} 200", "40200", False),
        ("40,  200", "40, 200", True),
        ("(40, 200)", "(40,200)", True),
        ("1, 2", "1,2", True),
        ("40,\\!200", "40200", True),
        ("40\\,200", "40200", True),
        # spaces inside a number change nothing
        (r"- \frac{1}{2}", r"-\frac{1}{2}", True),
        (r"\frac {1}{2}", r"\frac{1}{2}", True),
        (r"\frac{ 1 }{ 2 }", r"\frac{1}{2}", True),
        (r"2 \frac{1}{3}", r"2\frac{1}{3}", True),
        (r"2\,\frac13", r"2\frac13", True),
        (r"\frac{3} {4}", r"0.75", True),
        (r"x = - \frac{1}{2}", r"-\frac12", True),
        (r"\frac{1}{2} \%", r"\frac{1}{2}\%", True),
        (r"(1,200)", r"(1, 200)", True),
        (r"- \dfrac {3}{4}", r"-0.75", True),
        (r"\frac{-1 }{ 2}", r"-0.5", True),
        (r"-2 \frac{1}{2}", r"-2.5", True),
        (r"1 \, \frac{1}{2}", r"1.5", True),
        (r"$ \frac{ 3 }{ 4 } $", r"0.75", True),
        (r"\frac{1}{2}\ \%", r"0.5", True),
        (r"- 5", r"-5", True),
        (r"x=\frac {1} {2}", r"0.5", True),
        (r"\frac{10 }{5}", r"2", True),
        (r"\left( 0, 100 \right)", r"(0,100)", True),
        (r"[0, 500)", r"[0,500)", True),
        (r"\{1, 200\}", r"\{1,200\}", True),
        (r"(1,200, 300)", r"(1200, 300)", True),
        # brackets make a pair or an interval, never one number; beside a loose comma, a tight one parts thousands
        (r"(1,200)", r"1200", False),
        (r"(1, 200)", r"1200", False),
        (r"(1, 200)", r"1,200", False),
        (r"(1,200, 300)", r"(1, 200, 300)", False),
        (r"\{1,200\}", r"1200", False),
        (r"[1, 200]", r"1200", False),
        (r"[1,200)", r"1200", False),
        (r"1,200, 300", r"1, 200, 300", False),
        (r"- 1, 200", r"-1200", False),
        (r"1 , 200", r"1200", False),
        # text that changes a number is no unit
        ("5\\text{ million}", "5", False),
        ("5\\text{ million}", "5000000", True),
        ("2\\text{ thirds}", "2", False),
        ("5 \\text{ or six}", "5", False),
        ("5 \\text{ and a half}", "5", False),
        ("5 \\mathrm{ k}", "5", False),
        ("5 \\text{ dollars per hour}", "5", True),
        ("x+1", "1+x", False),  # these two need the engine
        ("\\sqrt{18}", "3\\sqrt{2}", False),
    ],
)
def test_latex_equal_without_an_engine(left, right, equal):
    assert latex_equal(left, right) is equal
    assert latex_equal(right, left) is equal


@settings(deadline=None)
@given(st.fractions(min_value=-(10**6), max_value=10**6, max_denominator=999))
def test_a_fraction_in_latex_is_its_value(value):
    sign, top, bottom = "-" if value < 0 else "", abs(value.numerator), value.denominator
    for command in ("frac", "dfrac", "tfrac"):
        assert normalise_latex(f"${sign}\\{command}{{{top}}}{{{bottom}}}$") == format_number(value)


@settings(deadline=None)
@given(st.text("{}\\boxedfrac1 2,.$^_\n", max_size=60))
def test_anything_is_a_box_or_a_reason_and_has_one_spelling(text):
    for completion in (text, f"\\boxed{{{text}", f"\\boxed{{{text}}}"):
        extraction = extract_boxed(completion)
        assert (extraction.answer is None) != (extraction.reason is None)
        assert (extract_latex(completion).answer is None) >= (extraction.answer is None)
    assert latex_equal(text, text)


# ---- the engine ----


@pytest.fixture
def checker():
    checker = SymbolicChecker()
    yield checker
    checker.close()


def works(checker):
    """Whether it tells a right answer, written another way."""
    return checker.grade("so $1+x$", "x+1", time_limit=60)[0]


def test_without_math_verify_the_message_names_the_extra(monkeypatch):
    monkeypatch.setattr(aft.answers.symbolic, "math_verify_installed", lambda: False)
    with pytest.raises(ConfigError, match=r"needs math-verify; install it with: pip install 'aft\[math\]'"):
        SymbolicChecker()


@needs_math_verify
def test_what_hangs_is_killed_in_time_and_the_next_call_works(checker):
    assert works(checker)
    assert checker.grade("$2$", "10^{10^{10}}!", time_limit=0.5) is None
    assert works(checker)
    assert (checker.timeouts, checker.crashes) == (1, 0)


COMPUTING = """
from aft.answers import SymbolicChecker
checker = SymbolicChecker()
checker.grade("$2$", "2", time_limit=600)
print(checker._process.pid, flush=True)
checker.grade("$2$", "10^{10^{10}}!", time_limit=600)
"""


@needs_math_verify
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_computes_ends_with_the_process_that_asked():
    process = subprocess.Popen([sys.executable, "-c", COMPUTING], stdout=subprocess.PIPE, text=True)
    number = int(process.stdout.readline())
    time.sleep(1)
    process.kill()
    process.communicate()
    begun = time.monotonic()
    while is_alive(number):
        assert time.monotonic() - begun < 20, "two seconds are promised on a machine that is not busy"
        time.sleep(0.02)


@needs_math_verify
def test_a_worker_that_dies_is_started_again(checker):
    assert works(checker)
    checker._process.kill()
    checker._process.wait()
    assert works(checker)


@needs_math_verify
@pytest.mark.parametrize(
    "text", ["", "\x00", "\ud800", "{" * 50, "\\frac" * 50, '"\n"', "import os"], ids=lambda t: ascii(t[:9])
)
def test_nonsense_breaks_no_worker(checker, text):
    checker.grade(text, "5", time_limit=2)
    checker.grade("$5$", text, time_limit=2)
    assert works(checker)


@needs_math_verify
@pytest.mark.parametrize(
    ("completion", "gold", "letters", "graded"),
    [
        ("so \\boxed{\\frac{3}{6}}", "0.5", "", True),
        ("#### $1,007", "1007", "", True),
        ("the answer is 5", "6", "", False),
        ("The answer is (B).", "B", "ABCDE", True),
        ("The answer is C", "B", "ABCDE", False),
        ("[ANS] A) bank", "A", "ABCDE", True),
        ("[ANS] A. bank", "A", "ABCDE", True),
        ("[ANS] a) bank", "A", "ABCDE", True),
        ("[ANS] [A]", "A", "ABCDE", True),
        ("[ANS] \\boxed{A}", "A", "ABCDE", True),
        ("[ANS] **A)** bank", "A", "ABCDE", True),
        ("[ANS] A) the U.S. bank", "A", "ABCDE", True),
        ("B) shop is wrong.\n[ANS] A) bank", "A", "ABCDE", True),
        ("the answer is option A) bank.", "A", "ABCDE", True),
        ("[ANS] E) cupboard", "A", "ABCDE", False),
        # math-verify alone takes numbers for equal that differ from the seventh decimal on
        ("$1/2^{99}$", "1/2^{98}", "", False),
        ("$1/2^{99}$", "2^{-99}", "", True),
        ("$0.00000001$", "0.00000002", "", False),
        ("$10^{-9}$", "0", "", False),
        ("$0$", "10^{-9}", "", False),
        ("$3^{-40}$", "3^{-41}", "", False),
        ("$\\frac{1}{3}$", "0.3333333", "", True),
        ("$\\pi$", "3.14159265", "", True),
        ("$50\\%$", "0.5", "", True),
    ],
)
def test_the_engine_s_own_reading(checker, completion, gold, letters, graded):
    right, answer = checker.grade(completion, gold, letters=letters, time_limit=60)
    assert right is graded
    assert answer is not None


@needs_math_verify
def test_no_engine_in_the_main_process():
    """Not even after a call: sympy and math-verify are imported by the worker alone."""
    program = (
        "import sys; from aft.answers import symbolic_checker\n"
        "assert symbolic_checker().grade('$x+1$', '1+x', time_limit=60)[0]\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('sympy', 'math_verify', 'torch')])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "[]"
