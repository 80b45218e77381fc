"""The chosen option of a multiple-choice question: by letter, by the option's text, or by its value.

Each way of reading gives a set of options. The first reading that gives exactly one option decides. If two options
remain, or the letter and the text name different options, there is no answer: a guess would make wrong labels.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ..errors import ConfigError
from .boxes import without_box
from .extraction import Extraction
from .markers import extract_after_marker, normalise_text, trim
from .numbers import Quantity, begins_with_value, read_quantity

NOT_AN_OPTION = "no option after the marker"
AMBIGUOUS = "several options after the marker"
SAME_TEXT = "text of several options after the marker"
CONTRADICTION = "letter and text of different options after the marker"

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_LEAD = re.compile(
    r"(?:so|thus|hence|therefore|the|my|final|correct|right|best|closest|most likely|answer|option|choice|letter"
    r"|is|it is|it's|would be|must be|should be)\b[ ,:=]*",
    re.IGNORECASE,
)
_MAX_LEAD = 12  # words
_OPEN, _CLOSE = r"[(\[{]", r"[)\]}]"
# Matches (B), B), [b], B. and B: in any case. `_BARE` reads a letter without marks in upper case only: "a" is a word.
_MARKED = re.compile(
    rf"{_OPEN} ?([A-Za-z]) ?{_CLOSE}|([A-Za-z])(?:{_CLOSE}|[.:](?!\w))|(?i:option|choice|letter):? ([A-Z])\b(?!['’])"
)
_BARE = re.compile(r"([A-Z])(?=$|[ ,;!–—-])(?!-\w)")
_ALONE = re.compile(r"([^\W\d_])")
_BECAUSE = re.compile(r"[,;–—-]|(?:is|because|since|as|for|would|seems|being|must)\b", re.IGNORECASE)
_MENTION = re.compile(
    rf"{_OPEN} ?([A-Za-z]) ?{_CLOSE}"
    r"|\b(?:option|choice|letter|answer(?: is)?|pick|choose|select|think|say|guess|with|it's)[ :]*([A-Z])\b(?!['’])"
)
_SEVERAL = re.compile(rf"\b([A-Z]){_CLOSE}?,? ?(?:[,&/]|or\b|and\b|nor\b) ?{_OPEN}?([A-Z])\b(?!['’])")
_DELIMITERS = re.compile(r"(?<!\\)\\[()\[\]]")
_TEXT_COMMAND = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mathit|rm|bf) ?\{([^{}]*)\}")
_JOINED = re.compile(
    rf"(?:\b(?:or|nor|either|neither)|[/&]) ?(?:{_MENTION.pattern})|(?:{_MENTION.pattern}),? ?(?:(?:or|nor)\b|[/&])"
)
# A capital that stands alone names an option, unless it is the article A or the pronoun I.
_CAPITAL = re.compile(
    r"(?<![\w'’])(?!A (?!(?:is|or|and|also|fits|seems|looks|could|may|might|can|would|too|works)\b)[a-z])"
    r"(?!I (?!and |or |is )[a-z])([A-Z])(?![\w'’]|\.\w| ?[=+*×])"
    r"|(?<!\w)[(\[{]? ?([a-z]) ?[)\]}]"
)
# What takes an option back, where it follows at once, stands in a clause of its own, or says so of the answer.
_NEGATION = r"(?:not|never|cannot|no|neither|nor|[a-z]+n't)\b"
_FALSE = (
    r"(?:incorrect(?:ly)?|wrong(?:ly)?|false|untrue|invalid|impossible|unlikely|excluded|eliminated|ruled out|rejected"
    r"|discarded|out of the question)\b"
)
_RIGHT = (
    r"(?:right|correct|true|possible|valid|sure|certain|confident|likely|suitable|appropriate|it(?=\W*$)"
    r"|(?:(?:the|my|an?) )?(?:(?:best|right|correct|final) )?(?:answer|option|choice|solution))\b"
)
_BE = (
    r"(?:is|are|was|were|be|been|being|seems?|looks?|can|could|would|should|must|may|might|will|does|do|did|has|have"
    r"|definitely|clearly|probably|certainly|obviously|surely|simply|just|really|also|therefore|thus|to|the|an?)\b"
)
_REJECTED_AT_ONCE = re.compile(
    rf"[^\w.,;:(\[-]*(?:\. ?(?=(?-i:[a-z])))?(?:{_BE} )*(?:{_NEGATION}|{_FALSE})", re.IGNORECASE
)
_TAKEN_BACK = re.compile(
    r"(?:^|[.,;:!?(\[—–-])[\W_]{0,9}(?:(?:but|oh|well|hmm+|or|and|i mean)\b,? )?"
    r"(?:no(?=\s*(?:[,;:!?-]|$|\.\s*(?:$|(?-i:[A-Z]))))"
    r"|(?:wait|actually|sorry|oops|correction)(?=\s*(?:[,.;:!?–—-]|$)|,? (?:no|it|not|that)\b)|scratch that\b)"
    rf"|\b(?:it|this|that|which|answer|option|choice)(?:'s| (?:{_BE} )*)(?:{_FALSE}|(?:not|\w+n't) {_RIGHT})"
    rf"(?! (?:to|for|that)\b)",
    re.IGNORECASE,
)
_DENIED_ALONE = re.compile(r"(?:^|[,;:!?(\[—–-])[\W_]*(?:but )?(?:not|never|cannot|neither|except)\b", re.IGNORECASE)
_NEAR_WORDS = r"^\W{0,9}(?:[^\s.;!?(]{1,40} ){0,6}?"
_NOT_RIGHT = re.compile(rf"{_NEAR_WORDS}{_NEGATION} (?:\w+ ){{0,2}}{_RIGHT}", re.IGNORECASE)
_HEDGED = re.compile(
    r"^\W*(?:or|nor|and|vs|versus|either|alternatively)\b(?! way)|^ ?[/&]"
    rf"|{_NEAR_WORDS}(?:or|but|though|although|however)\b,? (?:maybe|perhaps|possibly|probably|even\b|also\b"
    rf"|so\b|another\b"
    r"|other\b|something|someone|somewhere|else\b|(?:it|this|that|there) (?:could|might|may)\b)"
    r"|\b(?:unsure|uncertain|no idea|hard to say|just a guess)\b"
    r"|\bI (?:don't|do not|cannot|can't) (?:really )?(?:know|tell|say|decide|choose)\b",
    re.IGNORECASE,
)
# What says that other options fit too, if it stands in one clause with them.
_ALSO = re.compile(
    r"\b(?:also|equally|as) (?:be )?(?:possible|correct|right|likely|good|fits?|works?|well)\b"
    r"|\b(?:possible|fits?|works?|correct|right) (?:also|too|as well|equally)\b|\b(?:is|are) possible\b",
    re.IGNORECASE,
)
# The verdict on all other options is none on the chosen one.
_OTHERS = re.compile(
    r"\b(?:all|everything|anything|none|each|every one)? ?(?:of )?(?:the )?(?:others?|rest|else|remaining)\b"
    rf"(?: (?:options?|choices?|answers?|ones?))?(?: [^\s.;!?]{{1,40}}){{0,5}}? (?:{_FALSE}|{_NEGATION})[^.;!?]*",
    re.IGNORECASE,
)
# `library, not a bank`: what the chosen option is compared with.
_CONTRASTED = re.compile(
    r"(?:^|[,;(—–-]) ?(?:and |but )?(?:not(?! (?:sure|certain|right|correct|true|possible|the answer)\b)"
    r"|rather than|instead of|unlike|as opposed to|whereas|while) (?=[\w(])[^.;!?]*",
    re.IGNORECASE,
)
_REJECTED = re.compile(
    r"\b(?:not|neither|nor|never|cannot|except|instead|(?:anything|everything|all) but|rule out|can be ruled out"
    r"|exclude|eliminate|reject|discard)\b|n't\b"
    r"|\b(?:is|are|was|be|seems?|looks?|the|an?)(?: \w+){0,2} "
    rf"{_FALSE}|\bno(?=\s*(?:[,;:!?]|$|\.\s*(?:$|(?-i:[A-Z]))))|\b(?:wait|actually|sorry|oops)(?=[,.;:!?]|$)",
    re.IGNORECASE,
)
_CLAUSE_END = re.compile(r"[,:(\[–—]|- ")
_SENTENCE_END = re.compile(r"[.;!?](?=\s|$)")
_REASON = re.compile(r"\b(?:because|since|as(?! well| is)|for|due to|given)\b", re.IGNORECASE)
_NONE = re.compile(r"none(?: of (?:these|those|them|the above|above|the options?|the given options?|the choices))?")
_DASHES = str.maketrans(dict.fromkeys("−‐‑‒–﹣－", "-") | {"’": "'", "‘": "'", "“": '"', "”": '"'})
_ROOT = re.compile(r"\\sqrt ?\{ ?(\w+) ?\}|\bsqrt ?\(? ?(\w+) ?\)?|√ ?\( ?(\w+) ?\)")
_LOOSE_SPACE = re.compile(r"(?<!\d)(?<!\d,) | (?!\d)")  # 1 1/2 is not 11/2, and 40, 200 is not 40,200
_ARTICLE = re.compile(r"(?:a|an|the) (?=[a-z]{2})(?!and\b|or\b)")
# A minus behind an operand is an operator. Commas count only between thousands: 1,2 is not 12.
_TOKEN = re.compile(
    r"(?:(?<![\w)\]}])-)?(?:\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?"
    r"|(?<!\w)\.\d+)(?:[/:]\d+(?:\.\d+)?)*[^\W\d_]*"
    r"|\w+|[-+^√%/=<>!*×·]"
)
# An option's text beside an operator is part of a longer expression, as 2x in 2x + 5.
_OPERATORS = frozenset("-+^√/*×·<>")
_SIGN_WORDS = frozenset(["minus", "negative", "plus", "times", "root"])
_JOINTS = frozenset(["or", "nor"])
_ARTICLES = frozenset(["a", "an", "the", "in", "at", "to", "on"])
# Units that may be missing in one of two equal numbers. Other single letters may be variables: 2x is not 2.
_OPTIONAL_UNIT = re.compile(r"[^\W\d_]{2,}|[$€£¥₹%°¢mgshlp]|[a-z]+/[a-z]+")
_MAX_TEXT = 2000  # characters after the marker that are read as the text of an option


class _Options(NamedTuple):
    """A question's options in every form in which they are compared, from the strictest to the loosest."""

    exact: tuple[str, ...]
    casefolded: tuple[str, ...]
    loose: tuple[str, ...]
    values: tuple[Quantity | None, ...]
    tokens: tuple[str, ...]


def extract_choice(completion: str, marker: str, options: Sequence[str]) -> Extraction:
    """The letter of the option that is named after the last marker, or the reason why there is none.

    Args:
        options: texts of the options without letters; A is the first.
    Raises: `ConfigError` for no option or more than 26.
    """
    if not 0 < len(options) <= len(LETTERS):
        raise ConfigError(f"options: between 1 and {len(LETTERS)} of them have letters, got {len(options)}")
    extraction = extract_after_marker(completion, marker)
    return extraction if extraction.answer is None else read_choice(extraction.answer, options)


def read_choice(text: str, options: Sequence[str]) -> Extraction:
    """The chosen letter in `text`, which is the part of a completion after the marker; see `extract_choice`."""
    known = _prepare(tuple(options))
    letters = LETTERS[: len(options)]
    text = _plain(text)
    for candidate in _without_lead(text):
        whole = _by_content(candidate, known)
        found = _by_letter(candidate, known, letters, whole)
        if found is not None:
            return found
        if whole:
            return _one(whole, SAME_TEXT)
    return _by_mention(text, known, letters)


def _without_lead(text: str) -> Iterator[str]:
    """Yields the text, then the text without one more lead-in word ("so", "the answer is") each time.

    The full text comes first because an option may begin with a lead-in word.
    """
    yield text
    for _ in range(_MAX_LEAD):
        match = _LEAD.match(text)
        if match is None or match.end() == len(text):
            return
        text = text[match.end() :]
        yield text


def _by_letter(text: str, known: _Options, letters: str, whole: frozenset[str]) -> Extraction | None:
    """Reads a letter at the beginning of the text and checks it against the rest; None if no letter decides.

    Args:
        whole: the options whose text equals `text`.
    """
    marked = _MARKED.match(text)
    match = marked or _BARE.match(text) or _ALONE.fullmatch(text)
    if match is None:
        return None
    letter, behind = _group(match), text[match.end() :]
    readings = [found for rest in _readings(behind) if (found := _by_content(rest, known))]
    content = frozenset().union(*readings)
    if letter in letters and readings and all(letter in found for found in readings):
        return Extraction(letter, None) if marked or not whole or letter in whole else Extraction(None, CONTRADICTION)
    if whole and letter not in whole:
        # The text of another option may be "A park", or just "B". For a bare "B" both readings are possible.
        alone = letter in letters and not trim(behind) and not marked
        return Extraction(None, CONTRADICTION) if alone else None
    if letter not in letters:
        return None if trim(behind) else Extraction(None, NOT_AN_OPTION)
    if content or _other_value(behind, known, letters.index(letter)):
        return Extraction(None, CONTRADICTION)
    if trim(behind) and not marked and not _BECAUSE.match(behind.lstrip()):
        return None
    return _doubted(letter, behind, known, letters)


def _readings(behind: str) -> list[str]:
    """The text behind a letter, and the text without a dash that separates it: `- 9` is -9, or 9 behind a dash."""
    rest = trim(behind)
    return [text for text in (rest, trim(rest[2:]) if rest.startswith("- ") else "") if text]


def _other_value(behind: str, known: _Options, index: int) -> bool:
    """True if the option of a letter is a number and the text behind the letter is another, or changes it."""
    value, tokens = known.values[index], known.tokens[index]
    if value is None:
        return False
    behind = behind[:_MAX_TEXT]
    read = [quantity for text in _readings(behind) if (quantity := read_quantity(text))]
    if read:
        return all(quantity.value != value.value for quantity in read)
    written = _tokens(behind)
    return tokens in written and not any(_standing(tokens, written))


def _doubted(letter: str, behind: str, known: _Options, letters: str) -> Extraction:
    """The letter, or why the text behind it leaves it in doubt.

    Only what stands near the answer is doubt. An explanation may say of anything that it is not, or is wrong.
    """
    own = known.exact[letters.index(letter)]
    end = _end_of_own(behind, own)
    rest = _outside(behind, own) if end is None else _CONTRASTED.sub(" ", behind[end:])
    head = _REASON.split(_OTHERS.sub(" ", rest), maxsplit=1)[0]
    near = _near(head)
    named = (_mentions(rest, letters) | _named(" ".join(near.split()[:4]), letters)) - {letter}
    rejected = _REJECTED_AT_ONCE.match(head) or _TAKEN_BACK.search(head) or _NOT_RIGHT.match(head)
    if end is None:
        rejected = rejected or _DENIED_ALONE.match(head)
    hedged = _HEDGED.search(head)
    if named or ((rejected or hedged) and _named(head, letters) - {letter}):
        return Extraction(None, AMBIGUOUS)
    if rejected:
        return Extraction(None, NOT_AN_OPTION)
    others = {other for other in _contained(near, known) if _is_words(other, known)} - {letter, "?"}
    if hedged or (others and head[:1] != "." and _ALSO.search(near)):
        return Extraction(None, AMBIGUOUS)
    # behind the option's own text, another one counts only where nothing but punctuation parts them
    other = (
        _begins_with(near, others, known)
        if end is None
        else _by_content(trim(_CLAUSE_END.split(near, maxsplit=1)[0]), known) - {letter}
    )
    return Extraction(None, CONTRADICTION) if other else Extraction(letter, None)


def _end_of_own(behind: str, own: str) -> int | None:
    """Where the option's own text ends if the text behind the letter begins with it, else None."""
    match = re.match(rf"[ .,:;*)=\"'-]*(?:an? |the )?{re.escape(own)}(?!\w)", behind, re.IGNORECASE) if own else None
    return None if match is None else match.end()


def _near(text: str) -> str:
    """The first sentence or the part of it before a semicolon, without punctuation before it."""
    return _SENTENCE_END.split(text[:_MAX_TEXT].lstrip(" .,;:!?*()[]>=\"'-"), maxsplit=1)[0]


def _begins_with(text: str, others: Iterable[str], known: _Options) -> bool:
    """True if the text begins with the text of one of these options, apart from joints, articles and prepositions."""
    words = _tokens(text).split()
    while words and (words[0] in _ARTICLES or words[0] == "and"):
        words.pop(0)
    begun = "\n" + "".join(f"{word}\n" for word in words)
    return any(begun.startswith(known.tokens[LETTERS.index(other)]) for other in others)


def _is_words(letter: str, known: _Options) -> bool:
    """True for `?` and for an option that is words: numbers also occur in a calculation behind the letter."""
    return letter == "?" or known.values[LETTERS.index(letter)] is None


def _outside(text: str, own: str) -> str:
    """The text without an option's own text, which may hold `or`, `not` or a letter."""
    if not own:
        return text
    return re.sub(rf"(?<!\w){re.escape(own)}(?!\w)", " ", text[:_MAX_TEXT], flags=re.IGNORECASE) + text[_MAX_TEXT:]


def _group(match: re.Match[str]) -> str:
    """The letter in upper case from the one group of the pattern that matched."""
    return next(group for group in match.groups() if group).upper()


def _by_content(text: str, known: _Options) -> frozenset[str]:
    """The options whose text equals the whole of `text`, by the strictest comparison that finds any."""
    text = text[:_MAX_TEXT]
    exact = trim(text)
    for form, written in (
        (known.exact, exact),
        (known.casefolded, normalise_text(exact)),
        (known.loose, _loosen(exact)),
    ):
        found = frozenset(
            letter for letter, option in zip(LETTERS, form, strict=False) if written and option == written
        )
        if found:
            return found
    quantity = read_quantity(exact)
    if quantity is None:
        return frozenset()
    return frozenset(
        letter
        for letter, value in zip(LETTERS, known.values, strict=False)
        if value and _same_quantity(quantity, value)
    )


def _same_quantity(left: Quantity, right: Quantity) -> bool:
    """True if the values are equal and the units agree or one is missing: 8.75 is $8.75, 5 hours are not 5 minutes."""
    if left.value != right.value:
        return False
    if left.unit == right.unit:
        return True
    return not (left.unit and right.unit) and _OPTIONAL_UNIT.fullmatch(left.unit or right.unit) is not None


def _by_mention(text: str, known: _Options, letters: str) -> Extraction:
    """The one option whose letter or text occurs in the text. If one option contains another, the longer one counts."""
    mentioned, contained = _mentions(text, letters), _contained(text, known)
    found = mentioned if len(mentioned) == 1 and (not contained or mentioned & contained) else mentioned | contained
    if len(found) == 1 and "?" not in found:
        rest = _OTHERS.sub(" ", _outside(text, known.exact[letters.index(min(found))]))
        if _REJECTED.search(rest):
            return Extraction(None, NOT_AN_OPTION)
        if mentioned and _named(_behind_mention(text), letters) - found:
            return Extraction(None, AMBIGUOUS)
    return _one(found, AMBIGUOUS)


def _behind_mention(text: str) -> str:
    """The six words behind the last letter that is named as a choice."""
    end = max((match.end() for match in _MENTION.finditer(text)), default=0)
    return " ".join(text[end : end + 200].split()[:6])


def _one(found: Iterable[str], several: str) -> Extraction:
    found = sorted(found)
    if len(found) == 1:
        return Extraction(found[0], None)
    return Extraction(None, several if found else NOT_AN_OPTION)


def _mentions(text: str, letters: str) -> set[str]:
    """Letters that occur as choices anywhere: `(B)`, `option B`, `B or C`; `?` if `or` joins one to something else."""
    found = {_group(match) for match in _MENTION.finditer(text)}
    found.update(letter for match in _SEVERAL.finditer(text) for letter in match.groups())
    known = {letter for letter in found if letter in letters}
    return known | {"?"} if known and _JOINED.search(text) else known


def _named(text: str, letters: str) -> set[str]:
    """Letters of options that stand alone anywhere in the text, as choices or not: `E.`, `e)`, `E fits`."""
    return {letter for match in _CAPITAL.finditer(text) if (letter := _group(match)) in letters}


def _contained(text: str, known: _Options) -> set[str]:
    """Letters of options whose words occur in the text in order, except where they only occur inside a longer option.

    The set also holds `?` if `or` or `and` joins an option to something else.
    """
    rest = _tokens(text[:_MAX_TEXT])
    found: set[str] = set()
    by_length = sorted(zip(known.tokens, LETTERS, strict=False), key=lambda pair: -len(pair[0]))
    for tokens, letter in by_length:
        if len(tokens) > 2 and any(known.tokens[LETTERS.index(other)] == tokens for other in found - {"?"}):
            found.add(letter)  # the same words as an option that is already cut out of `rest`
        elif len(tokens) > 2 and tokens in rest:
            alone, joined = _standing(tokens, rest)
            found.update([letter] * (alone or joined), ["?"] * (joined and not alone))
            rest = rest.replace(tokens, "\n\v\n")
    return found


def _standing(tokens: str, rest: str) -> tuple[bool, bool]:
    """(alone, joined): the tokens occur by themselves; the tokens occur beside `or` or `nor`, or after `and`."""
    alone = joined = False
    words = tokens.split()
    expression = not all(map(_is_word, words))  # a dash or `minus` beside words does not change them
    start = rest.find(tokens)
    while start >= 0:
        before = rest[max(0, start - 200) : start].split("\n")
        while len(before) > 1 and before[-1] in _ARTICLES:
            before.pop()
        behind = rest[start + len(tokens) : start + len(tokens) + 200]
        left, right = before[-1], behind.partition("\n")[0]
        if left in _JOINTS or left == "and" or right in _JOINTS:
            joined = True
        elif not expression or not (_beside_left(left, words[0]) or _beside_right(behind, words[-1])):
            alone = True
        start = rest.find(tokens, start + 1)
    return alone, joined


def _beside_left(left: str, first: str) -> bool:
    """True if the token before a value belongs to it: an operator, `minus`, the whole of a mixed number."""
    return left in _OPERATORS or left in _SIGN_WORDS or (left.isdigit() and "/" in first)


def _beside_right(behind: str, last: str) -> bool:
    """True if the tokens behind a value belong to it: an operator, `%`, `!`, `thirds`, `and a half`."""
    right, _, further = behind.partition("\n")
    if right == "-" and _is_word(further.partition("\n")[0]):
        return False
    return right in _OPERATORS or right in ("%", "!") or begins_with_value(behind, second=_is_word(last))


def _is_word(token: str) -> bool:
    """True for a word of several letters. Numbers, signs and single letters may be parts of an expression."""
    return len(token) > 1 and token.isalpha()


@functools.lru_cache(maxsize=4096)
def _prepare(options: tuple[str, ...]) -> _Options:
    exact = tuple(trim(_plain(option)) for option in options)
    return _Options(
        exact=exact,
        casefolded=tuple(map(normalise_text, exact)),
        loose=tuple(map(_loosen, exact)),
        values=tuple(map(read_quantity, exact)),
        tokens=tuple(map(_tokens, exact)),
    )


def _plain(text: str) -> str:
    """The text without boxes and mark-up, with ASCII dashes and quotation marks, and with single spaces."""
    text = _TEXT_COMMAND.sub(r"\1", without_box(text))
    text = " ".join(_DELIMITERS.sub("", text.translate(_DASHES)).split())
    text = text.replace("**", "").strip("*_` ")
    if len(text) > 1 and text[0] == text[-1] and text[0] in "$'\"":
        text = text[1:-1].strip()
    return text


def _loosen(text: str) -> str:
    """The text without case, spaces and a leading article; roots and `none of the above` get one spelling."""
    text = _ROOT.sub(lambda match: "√" + next(group for group in match.groups() if group), normalise_text(text))
    if _NONE.fullmatch(text):
        return "noneofthese"
    return _LOOSE_SPACE.sub("", _ARTICLE.sub("", text, count=1) if _ARTICLE.match(text) else text)


def _tokens(text: str) -> str:
    """The words and numbers of a text, separated by line feeds, so that a substring search matches whole words only."""
    words = (word.replace(",", "") for word in _TOKEN.findall(text.casefold()))
    return "\n" + "".join(f"0{word}\n" if word[0] == "." else f"{word}\n" for word in words)
