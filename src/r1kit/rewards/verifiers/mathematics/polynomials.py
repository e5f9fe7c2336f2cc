"""Polynomials over the rationals as dictionaries, and what can be read off them."""

from fractions import Fraction
from functools import reduce
from math import gcd, lcm
from typing import NamedTuple

Number = int | Fraction
Monomial = tuple[tuple[str, Number], ...]
"""Generators in order, each with its exponent."""
Polynomial = dict[Monomial, Number]

UNIT: Monomial = ()
ONE: Polynomial = {UNIT: 1}


class Value(NamedTuple):
    """A quotient of polynomials."""

    top: Polynomial
    bottom: Polynomial


def constant(value: Value) -> Number | None:
    """The rational number that a value is; None where it is something else."""
    if not value.top:
        return 0
    if value.top.keys() == {UNIT} == value.bottom.keys():
        return tidy(Fraction(value.top[UNIT]) / value.bottom[UNIT])
    return None


def multiple_of_pi(value: Value) -> Fraction | None:
    """r where the value is r pi."""
    if not value.top:
        return Fraction(0)
    if value.top.keys() == {(("pi", 1),)} and value.bottom.keys() == {UNIT}:
        return Fraction(value.top[(("pi", 1),)]) / value.bottom[UNIT]
    return None


def constant_polynomial(number: Number) -> Polynomial:
    """The polynomial without unknowns."""
    return {UNIT: number} if number else {}


def integer(number: Number) -> Value:
    """A whole number as a value."""
    return Value(constant_polynomial(int(number)), ONE)


def tidy(number: Number) -> Number:
    """An int where the number is whole: ints are ten times as fast."""
    return number.numerator if isinstance(number, Fraction) and number.denominator == 1 else number


def negated(value: Value) -> Value:
    """-value."""
    return Value({monomial: -coefficient for monomial, coefficient in value.top.items()}, value.bottom)


def signed(value: Value) -> tuple[int, Value]:
    """A sign, and the value whose first term is positive."""
    first = min(value.top, default=None)
    is_negative = first is not None and value.top[first] < 0
    return (-1, negated(value)) if is_negative else (1, value)


def primitive(poly: Polynomial) -> tuple[Number, Monomial, Polynomial]:
    """Positive content, the powers of unknowns that all terms share, and what is left."""
    numerators = reduce(gcd, (abs(coefficient.numerator) for coefficient in poly.values()))
    denominators = reduce(lcm, (coefficient.denominator for coefficient in poly.values()))
    content = Fraction(numerators, denominators)
    first, *others = (dict(monomial) for monomial in poly)
    shared = {
        generator: min([exponent, *(other.get(generator, 0) for other in others)])
        for generator, exponent in first.items()
        if generator.startswith("v:")
    }
    shared = {generator: exponent for generator, exponent in shared.items() if exponent > 0}
    rest = {
        tuple((generator, tidy(exponent - shared.get(generator, 0))) for generator, exponent in monomial
              if exponent != shared.get(generator, 0)): tidy(coefficient / content)
        for monomial, coefficient in poly.items()
    }  # fmt: skip
    return tidy(content), tuple(sorted(shared.items())), rest


def name_of(poly: Polynomial) -> str:
    """One text for a polynomial, whatever the order of its terms."""
    return "+".join(
        f"{coefficient}*{'*'.join(f'{generator}^{exponent}' for generator, exponent in monomial)}"
        for monomial, coefficient in sorted(poly.items())
    )
