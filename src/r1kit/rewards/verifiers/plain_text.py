"""Text as a reader sees it: one spelling for what Unicode, LaTeX and Markdown write in many ways."""

import re
import unicodedata

_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Characters that take no ink, besides white space: joiners, marks of direction, fillers, tags. For a `[…]`."""
_INVISIBLE = re.compile(f"[{INVISIBLE}]+")
_VISIBLE = re.compile(rf"[^\s\x00-\x1f\x7f-\x9f{INVISIBLE}]")
_POWERS = str.maketrans({sign: f"^{plain}" for sign, plain in zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻ⁿ", "0123456789-n", strict=True)})
_WRAPPING = re.compile(
    r"\\\\"
    r"|\\(?:text(?:bf|it|rm|sf|tt|normal|up)?|math(?:rm|bf|it|sf|tt)|operatorname|mbox|hbox|boxed|fbox|left|right"
    r"|displaystyle|bf|rm|it|emph|underline)(?![a-zA-Z])\*?"
    r"|\\[()\[\]]|\\[,;:! ]|\\quad|\\qquad|(?<!\\)\$|\*\*|__|`"
)
_SPACES = re.compile(r"\s+")


def is_blank(text: str) -> bool:
    """True where nothing in the text can be seen: spaces, control and zero-width characters alone. Linear."""
    return _VISIBLE.search(text) is None


def narrow(text: str) -> str:
    """Full-width letters, digits and signs in their usual width; linear, so fit for texts of any length."""
    return text if text.isascii() else text.translate(_FULL_WIDTH)


def unicode_plain(text: str) -> str:
    """NFKC without invisible characters, white space run together. For short texts: NFKC can take quadratic time."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text.translate(_POWERS)))
    return _SPACES.sub(" ", text).strip()


def without_markup(text: str) -> str:
    """`unicode_plain` without the LaTeX and Markdown that only dress a text: `\\text{C}`, `**C**`, `$C$` are C."""
    return _SPACES.sub(" ", _WRAPPING.sub(" ", unicode_plain(text)).replace("{", " ").replace("}", " ")).strip()
