"""The words and commands that formulas are written with: one spelling for each, and its other names."""

from collections.abc import Mapping


def set_of(words: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(words.split())


def by_name(names: Mapping[str, str]) -> dict[str, str]:
    """From every name to what it stands for, of texts that list the names of each."""
    return {name: meaning for meaning, words in names.items() for name in words.split()}


FUNCTIONS = set_of("sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp sqrt gcd lcm min max abs")
SPOKEN = {name: "\\" + name for name in FUNCTIONS} | by_name(
    {
        r"\pi": "pi",
        r"\infty": "inf infinity Infinity oo",
        r"\cup": "union cup",
        r"\theta": "theta",
        r"\arcsin": "asin",
        r"\arccos": "acos",
        r"\arctan": "atan",
        "°": "deg",
        "*": "times",
    }
)
"""Commands that may be written as plain words."""

CONNECTIVES = by_name({"and": "and & 和 与", "or": "or 或"})

SHORT_WORDS = set_of(
    "is the no yes odd per day of if for all to not are was it its we an as at by be on so do he she they has am pm "
    "a.m p.m one two six ten men boy dog cat car box red sun mon tue wed thu fri sat east west win tie"
)
"""Runs of up to three letters that are words, not products of unknowns."""

GREEK = frozenset(
    "\\" + name
    for name in set_of(
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau phi chi psi omega "
        "Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega ell hbar angle triangle"
    )
)
"""Commands that are names of unknowns."""

SAME_COMMAND = by_name(
    {
        r"\le": r"\leq \leqslant",
        r"\ge": r"\geq \geqslant",
        r"\ne": r"\neq",
        "<": r"\lt",
        ">": r"\gt",
        "*": r"\cdot \times \ast",
        "/": r"\div",
        r"\{": r"\lbrace",
        r"\}": r"\rbrace",
        "[": r"\lbrack",
        "]": r"\rbrack",
        "|": r"\vert \lvert \rvert \mid",
        ":": r"\colon",
        "and": r"\land \wedge",
        "or": r"\lor \vee",
        "=": r"\colonequals",
        "=>": r"\implies \Rightarrow \rightarrow \to \iff \Leftrightarrow",
        r"\emptyset": r"\varnothing",
        r"\phi": r"\varphi",
        r"\epsilon": r"\varepsilon",
        r"\theta": r"\vartheta",
        r"\setminus": r"\backslash",
        r"\approx": r"\approxeq \simeq",
        "£": r"\pounds",
        "€": r"\euro",
    }
)
"""Commands with the same meaning as another, or as a sign."""

COMMA_LANGUAGES = set_of("de fr es it pt ru nl pl sv da nb fi cs tr id uk ro hu el bg")
"""Languages that write 3,5 for three and a half, by their ISO 639-1 codes."""
