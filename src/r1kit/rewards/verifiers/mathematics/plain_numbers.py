"""Plain numbers in microseconds: integers, decimals, thousands, fractions, percent, money, mixed, scientific."""

import re
from fractions import Fraction

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
_DECIMAL = rf"(?:{_DIGITS}(?:\.\d*)?|\.\d+)"
_MONEY = r"(?:\\\$|[$€£¥₹])"
_PLAIN = re.compile(
    rf"(?P<sign>[+-]?) ?{_MONEY}? ?(?P<sign2>[+-]?) ?(?:"
    rf"(?P<number>{_DECIMAL})(?: ?(?:e|E|(?:\\times|\*) ?10 ?\^) ?\{{?(?P<exponent>[+-]?\d{{1,4}})\}}?)?"
    r"|(?:(?P<whole>\d+) ?)?\\frac ?(?:\{ ?(?P<top>-?\d+) ?\} ?\{ ?(?P<bottom>\d+) ?\}|(?P<tops>\d) ?(?P<bottoms>\d))"
    rf"|(?:(?P<whole2>\d+) )?(?P<top2>{_DECIMAL}) ?/ ?(?P<bottom2>{_DECIMAL})"
    r") ?(?P<percent>%?)"
)


def plain_number(text: str, *, max_digits: int) -> tuple[Fraction, bool] | None:
    """The value of a cleaned text that is one plain number, and whether it is a percentage; None for all else."""
    if len(text) > max_digits:
        return None
    match = _PLAIN.fullmatch(text)
    if match is None or (match["sign"] and match["sign2"]):
        return None
    value = _magnitude(match, max_digits)
    if value is None:
        return None
    return (-value if "-" in (match["sign"], match["sign2"]) else value), bool(match["percent"])


def _magnitude(match: re.Match[str], max_digits: int) -> Fraction | None:
    if match["number"]:
        exponent = int(match["exponent"] or 0)
        number = Fraction(match["number"].replace(",", "").removesuffix("."))
        return number * Fraction(10) ** exponent if abs(exponent) <= max_digits else None
    top, bottom, whole = (
        match["top"] or match["tops"] or match["top2"],
        match["bottom"] or match["bottoms"] or match["bottom2"],
        match["whole"] or match["whole2"] or "0",
    )
    divisor = Fraction(bottom.replace(",", "").removesuffix("."))
    return int(whole) + Fraction(top.replace(",", "").removesuffix(".")) / divisor if divisor else None
