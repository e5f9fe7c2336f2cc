"""Cleaned text to tokens: numbers, letters, commands, words. Linear, bounded, and nothing is ever evaluated."""

import re
from typing import NamedTuple

from r1kit.rewards.verifiers.mathematics.units import MULTIPLES, UNITS
from r1kit.rewards.verifiers.mathematics.vocabulary import CONNECTIVES, GREEK, SAME_COMMAND, SHORT_WORDS, SPOKEN


class Unreadable(Exception):
    """A text that is no mathematics that we know, or more of it than the budget allows."""


class Undefined(Unreadable):
    """A division by zero, a logarithm of zero: no value at all."""


class Token(NamedTuple):
    """One sign of a formula."""

    kind: str
    """number, name (one letter or a Greek one), command, word, sign."""
    text: str
    is_spaced: bool = False
    """True where white space stands before it."""


_TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|\\text ?\{(?P<words>[^{}]*)\}"
    r"|\\begin ?\{(?P<begin>[a-zA-Z]*)\*?\}(?: ?\{[lcr| ]*\})?|(?P<end>\\end ?\{[a-zA-Z]*\*?\})"
    r"|(?P<row>\\\\(?: ?\[[^\]]{0,12}\])?)"
    r"|(?P<command>\\[a-zA-Z]+|\\[{}|])"
    r"|(?P<number>(?:\d+(?:\.\d+)?|\.\d+))"
    r"|(?P<letters>[A-Za-z]+(?:\.[A-Za-z]\.?)*|[^\W\d_]+)"
    r"|(?P<sign><=|>=|!=|=>|->|\*\*|.)",
    re.DOTALL,
)
_SIGN = {"<=": r"\le", ">=": r"\ge", "!=": r"\ne", "**": "^", "->": "=>", "¢": "cent"}
_GROUP = re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:,\d{3})+(?![\d]|,\d)")
_SPACED_GROUP = re.compile(r"(?<![\d.,] )(?<![\d.,])[1-9]\d{0,2}(?: \d{3})+(?!\d| \d|/| ?\\frac)")
_PROSE = re.compile(r"\\text ?\{([^{}]*[\d(=+$][^{}]*)\}")
_SUBSCRIPT_WORD = re.compile(r"_ ?\\text ?\{ ?([A-Za-z0-9]+) ?\}")


def tokenize(text: str, *, max_tokens: int, max_digits: int, grouped: bool = True) -> list[Token]:
    """The tokens of a cleaned text. With `grouped`, `1,000` is one number where commas can't be separators."""
    text = _PROSE.sub(r" \1 ", _SUBSCRIPT_WORD.sub(r"_{\1}", text)) if "\\text" in text else text
    if "," in text and grouped:
        text = _join_groups(text)
    if " " in text:
        text = _SPACED_GROUP.sub(lambda match: match.group().replace(" ", ""), text)
    tokens: list[Token] = []
    is_spaced = False
    for match in _TOKEN.finditer(text):
        kind, content = match.lastgroup or "", match.group(match.lastgroup or 0)
        if kind == "space":
            is_spaced = True
            continue
        tokens.extend(_tokens_of(kind, content, is_spaced, max_digits))
        is_spaced = False
        if len(tokens) > max_tokens:
            raise Unreadable("over the budget of nodes")
    return tokens


def _join_groups(text: str) -> str:
    """Take the commas out of `1,000`; inside brackets only where other commas are followed by a space."""
    if ", " in text or not any(bracket in text for bracket in "([{"):
        return _GROUP.sub(lambda match: match.group().replace(",", ""), text)
    depth, pieces, start = 0, [], 0
    for match in re.finditer(r"[()\[\]]|\\[{}]", text):
        opens = match.group() in ("(", "[", "\\{")
        if (opens and depth == 0) or (not opens and depth == 1):
            piece = text[start : match.start()]
            pieces.append(piece if not opens else _GROUP.sub(lambda found: found.group().replace(",", ""), piece))
            start = match.start()
        depth = depth + 1 if opens else max(0, depth - 1)
    rest = text[start:]
    pieces.append(_GROUP.sub(lambda found: found.group().replace(",", ""), rest) if depth == 0 else rest)
    return "".join(pieces)


def _tokens_of(kind: str, content: str, is_spaced: bool, max_digits: int) -> list[Token]:
    if kind == "number":
        if len(content) > max_digits:
            raise Unreadable("over the budget of digits")
        return [Token("number", content, is_spaced)]
    if kind == "letters":
        return _letters(content, is_spaced)
    if kind == "words":
        return [token for word in content.replace("~", " ").split() for token in _word(word.strip(".,;:!?"))]
    if kind == "command":
        return _command(content, is_spaced)
    if kind == "begin":
        return [Token("begin", content, is_spaced)]
    if kind in ("end", "row"):
        return [Token(kind, content, is_spaced)]
    sign = _SIGN.get(content, content)
    if sign in ("cent",):
        return [Token("word", sign, is_spaced)]
    return [Token("connective", "and", is_spaced)] if sign == "&&" else [Token("sign", sign, is_spaced)]


def _command(content: str, is_spaced: bool) -> list[Token]:
    content = SAME_COMMAND.get(content, content)
    if content in ("and", "or"):
        return [Token("connective", content, is_spaced)]
    if content in GREEK:
        return [Token("name", content, is_spaced)]
    return [Token("command" if content.startswith("\\") and len(content) > 2 else "sign", content, is_spaced)]


def _word(word: str) -> list[Token]:
    """A word of prose, as in `\\text{and}` or `\\text{cm}`."""
    if not word:
        return []
    if word.lower() in CONNECTIVES:
        return [Token("connective", CONNECTIVES[word.lower()], True)]
    if len(word) == 1 and not word.isalpha():
        return [Token("sign", word, True)]
    return [Token("word", word, True)]


def _letters(run: str, is_spaced: bool) -> list[Token]:
    """A run of letters: a function, a word, or single letters one after the other."""
    lower = run.lower()
    if run in SPOKEN:
        spoken = SPOKEN[run]
        return [Token("sign" if spoken in ("°", "*") else "command", spoken, is_spaced)]
    if lower in CONNECTIVES:
        return [Token("connective", CONNECTIVES[lower], is_spaced)]
    is_word = len(run) >= 4 or not run.isascii() or lower in SHORT_WORDS
    if is_word or (len(run) > 1 and (lower.rstrip(".") in UNITS or lower in MULTIPLES)):
        return [Token("word", run, is_spaced)]
    return [Token("name", letter, is_spaced and place == 0) for place, letter in enumerate(run)]
