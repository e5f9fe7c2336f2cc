"""What a completion does besides being right: how long it is, how often it reflects, whether it mixes languages."""

import re
import unicodedata
from dataclasses import dataclass

# arXiv:2501.12948v2, supplement C.2: the ten words that its authors counted.
REFLECTIVE_WORDS_EN = (
    "wait", "mistake", "however", "but", "retry", "error", "verify", "wrong", "evaluate", "check",
)  # fmt: skip
# Their Chinese kin; the paper names none. "等等" and "等一下" are "wait", "检查" and "验证" "check" and "verify".
REFLECTIVE_WORDS_ZH = ("等等", "等一下", "错误", "然而", "但是", "重试", "验证", "不对", "评估", "检查")

_REFLECTIVE_EN = re.compile(rf"(?<![A-Za-z])(?:{'|'.join(REFLECTIVE_WORDS_EN)})(?![A-Za-z])", re.IGNORECASE)
_REFLECTIVE_ZH = re.compile("|".join(REFLECTIVE_WORDS_ZH))
_TAG = re.compile(r"</?(?:think|answer)>")
_LATIN_WORD = re.compile(r"[A-Za-z]{2,}")


@dataclass(frozen=True, slots=True)
class Behaviours:
    """Counts over one completion."""

    reflections: int
    """Occurrences of a reflective word, English or Chinese."""
    mixes_languages: bool
    """True where words of another script than the question's make up a tenth or more of all words."""


def reflective_words(text: str) -> list[str]:
    """The reflective words of a completion, each as often as it stands there, in lower case; tags are no words."""
    plain = _TAG.sub(" ", text)
    return [word.lower() for word in _REFLECTIVE_EN.findall(plain)] + _REFLECTIVE_ZH.findall(plain)


def count_behaviours(text: str, *, language: str) -> Behaviours:
    """Behaviours of a completion to a question asked in `language` (ISO 639-1)."""
    plain = _TAG.sub(" ", text)
    latin = len(_LATIN_WORD.findall(plain))
    # Two Chinese characters make a word, roughly: the same unit as a Latin word.
    chinese = (sum(unicodedata.name(sign, "").startswith("CJK UNIFIED") for sign in plain) + 1) // 2
    foreign = latin if language == "zh" else chinese
    return Behaviours(reflections=len(reflective_words(text)), mixes_languages=foreign * 10 >= max(1, latin + chinese))
