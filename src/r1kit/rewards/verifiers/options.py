"""Which option does a text name? A letter, `(C)`, `C. text`, or an option's own words; one option, or none at all."""

import re
from collections.abc import Sequence

from r1kit.rewards.verifiers.plain_text import unicode_plain, without_markup
from r1kit.tasks.choices import LETTERS

MAX_OPTION_CHARS = 4000
"""A longer answer names no option."""

_OPEN, _CLOSE = r"[(\[【〔<「『]", r"[)\]】〕>」』]"
_FILLER = re.compile(
    r"(?:(?:so|thus|therefore|hence|my|the|correct|right|best|final|most likely|probably|definitely|clearly|answer"
    r"|option|choice|letter|is|was|be|would be|should be|must be|to be|indeed"
    r"|故|应该|应|最终|正确|答案|选项|选择|选|是|为|為)"
    r"(?![a-z])|[\s:：=,*\"'“”‘’_-])*",
    re.IGNORECASE,
)
_LETTER = re.compile(
    rf"(?P<open>{_OPEN}\s*)?(?P<letter>[A-Za-z])(?P<close>\s*{_CLOSE})?(?P<mark>\s?[.:)](?!\d))?(?![A-Za-z0-9_^'’+*/=<])"
)
_BARE = re.compile(rf"(?:{_OPEN}\s*)?([A-Za-z])(?:\s*{_CLOSE})?")
_NEXT_WORD = re.compile(
    r"(?:because|since|as|due|which|given|with|for|from|based|in|according|is|was|by|the|option|choice|answer|instead"
    r"|rather|but|not|here|after|when|if|while|so|and|or|thanks)\b",
    re.IGNORECASE,
)
_AFTER_CHINESE = re.compile(r"[项項，。；、！因正是最或和与及]")
_OTHER = (
    r"(?:(?:either|also|option|choice|letter|answer|possibly|maybe|perhaps|选项|选)\s*)*"
    rf"{_OPEN}?(?P<other>[A-Z]){_CLOSE}?"
)
_LIST = re.compile(
    rf"\s*[.)]?\s*[,，]?\s*(?:/|&|\+|;|、|-|–|—|~|(?:and/or|and|or|nor|plus|to|oder|und|ou|et|o|y|и|или)\b"
    rf"|and/or\b|和|与|與|或者|或|及|以及|跟)\s*{_OTHER}(?![A-Za-z0-9_^'’])"
)
_COMMA_LIST = re.compile(rf"\s*[,，]?\s*{_OTHER}\s*(?=[.,，。;!?)\]]|$|and\b|or\b|&|或|和)")
_DENIED = re.compile(
    r"\s*[,，]?\s*(?:(?:is|was|are|seems|option|答案|选项|这个|项)\s*)*(?:not\b(?!\s+(?:option\s+|choice\s+)?\W?(?-i:[A-Z])\b)|wrong\b|incorrect\b|false\b|isn|wasn|错|不对|不正确|不是|有误)",
    re.IGNORECASE,
)
_ALTERNATIVE = re.compile(
    r"(?i:\bor|\botherwise|\balternatively|\bmaybe|\bperhaps|\bpossibly|\bmight be|\bcould be|\belse"
    r"|或者?|也可能|也许|可能是)"
    r"[\s,:]*(?:(?:it|the|answer|option|choice|is|be|could|might|also|even|选项|选|是)\s*)*"
    rf"{_OPEN}?([A-Z]){_CLOSE}?(?![A-Za-z0-9_^'’])"
)
_ALSO_RIGHT = re.compile(
    rf"(?<![A-Za-z0-9]){_OPEN}?([A-Z]){_CLOSE}?\s+(?:(?:if|when|otherwise|also|too|works)\b"
    r"|(?:is|are|would be|could be|may be|might be)\s+"
    r"(?:also|equally|possibly|still|right|correct|possible|valid|true|acceptable)\b)"
    rf"|(?<![A-Za-z0-9]){_OPEN}?([A-Z]){_CLOSE}?\s*(?:也|同样)"
)
_LABEL = re.compile(rf"(?:^|(?<=[\s,;|，、]))(?:{_OPEN}([A-Z]){_CLOSE}|([A-Z])[.):：])(?=\s|$)")
_EDGES = " \t.,;:!?。，；：！？\"'“”‘’"
_WORD = re.compile(r"[^\W\d_]+")
_SHORT_WORDS = frozenset(
    ["a", "an", "as", "at", "be", "by", "he", "if", "in", "is", "it", "no", "of", "on", "or", "so", "to", "up", "we"]
)


def named_option(text: str, choices: Sequence[str], *, needs_mark: bool = False) -> int | None:
    """The index of the one option that a text names; None for none, several, a denied one, or one that isn't there.

    An empty `choices` stands for options that only the question lists: any letter then counts. With `needs_mark`
    a letter counts only alone or as a label before its option's own words: what a last line may be taken for.
    """
    if len(text) > MAX_OPTION_CHARS:
        return None
    plain = without_markup(text).strip(_EDGES)
    bare = _BARE.fullmatch(plain)
    if bare and _index(bare[1], choices) is not None:
        return _letter_alone(plain, bare[1], choices)
    by_text = option_of_text(text, choices)
    return by_text if by_text is not None else _letter_first(plain, choices, needs_mark=needs_mark)


def option_of_text(text: str, choices: Sequence[str]) -> int | None:
    """The option with just these words, letter case and punctuation at the ends aside; None unless there is just one.

    An option of the very same spelling goes before one that differs in case or spaces.
    """
    for spelling in (_same_spaces, _undressed, _folded):
        wanted = spelling(text)
        found = [index for index, choice in enumerate(choices) if wanted and spelling(choice) == wanted]
        if found:
            return found[0] if len({_same_spaces(choices[index]) for index in found}) == 1 else None
    return None


def _same_spaces(text: str) -> str:
    return unicode_plain(text).strip(_EDGES)


def _undressed(text: str) -> str:
    return without_markup(text).strip(_EDGES)


def _folded(text: str) -> str:
    """Without dress, spaces, and the case of ordinary words; `mW` and `MW`, `Aa` and `aa` stay apart."""
    plain = without_markup(text.replace("\\times", "x").replace("\\cdot", "*").replace("×", "x").replace("−", "-"))
    return "".join(_WORD.sub(_fold_word, plain.strip(_EDGES)).split())


def _fold_word(match: re.Match[str]) -> str:
    word = match.group()
    is_word = len(word) > 2 if word.isupper() else len(word) > 2 or word.lower() in _SHORT_WORDS
    return word.lower() if is_word and (word.isupper() or word[1:].islower() or len(word) == 1) else word


def _letter_alone(plain: str, letter: str, choices: Sequence[str]) -> int | None:
    """By its place; a lower-case letter without brackets that is also another option's text is ambiguous."""
    index = _index(letter, choices)
    spelled = [place for place, choice in enumerate(choices) if choice.strip() == letter]
    return None if plain.islower() and plain == letter and spelled and spelled != [index] else index


def _index(letter: str, choices: Sequence[str]) -> int | None:
    index = LETTERS.index(letter.upper())
    return index if index < (len(choices) or len(LETTERS)) else None


def same_option(index: int, other: int, choices: Sequence[str]) -> bool:
    """True also for two options of the very same words: some data sets list one twice."""
    return index == other or (bool(choices) and choices[index].strip() == choices[other].strip())


def _letter_first(plain: str, choices: Sequence[str], *, needs_mark: bool) -> int | None:
    """The letter that a text begins with, words such as 'the answer is' aside."""
    start = _FILLER.match(plain)
    match = _LETTER.match(plain, start.end() if start else 0)
    if match is None:
        return None
    index, rest = _index(match["letter"], choices), plain[match.end() :]
    is_marked = bool(match["mark"] or (match["open"] and match["close"]))
    if index is None or (match["letter"].islower() and not is_marked and rest.strip(_EDGES)):
        return None
    if not rest.strip(_EDGES + "-–—="):
        return index
    named = _options_of_label(rest, choices)
    if named or needs_mark:
        return index if any(same_option(index, other, choices) for other in named) else None
    is_label = is_marked or not rest[0].isspace() or rest.lstrip()[0] in "-–—(["
    follows = _AFTER_CHINESE.match(rest) if rest[0] > "\u2fff" else is_label or _NEXT_WORD.match(rest.lstrip())
    return index if follows and not _hedges(rest, LETTERS[index], len(choices) or len(LETTERS)) else None


def _options_of_label(rest: str, choices: Sequence[str]) -> set[int]:
    """The options whose text may stand after a letter: `C. text`, `C: text`, `C - text`, `C (text)`."""
    words = rest.strip(_EDGES)
    spellings = [words, words.lstrip("-–—= "), words[1:-1] if words[:1] + words[-1:] in ("()", "[]") else words]
    return {index for spelling in spellings if (index := option_of_text(spelling, choices)) is not None}


def _hedges(rest: str, letter: str, num_choices: int) -> bool:
    """True where what follows a letter denies it, or names another one as well."""
    if _DENIED.match(rest):
        return True
    in_a_list = [match["other"] for pattern in (_LIST, _COMMA_LIST) if (match := pattern.match(rest))]
    found = [match for pattern in (_ALTERNATIVE, _ALSO_RIGHT, _LABEL) for match in pattern.finditer(rest)]
    named = {next(letter for letter in match.groups() if letter) for match in found}
    return bool({*in_a_list, *named} & set(LETTERS[:num_choices]) - {letter})
