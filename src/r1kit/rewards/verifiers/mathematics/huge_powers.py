"""Are two polynomials equal whose coefficients hold powers such as 2^4950 that were not written out?"""

from fractions import Fraction

from r1kit.rewards.verifiers.mathematics.polynomials import Monomial, Number, Polynomial

_MODULUS = 2**127 - 1
"""A prime: what differs modulo it differs."""
_MAX_BITS = 200_000

_Term = tuple[Number, list[tuple[int, int]]]
"""A coefficient, and primes with their powers."""


def equal_with_huge_powers(left: Polynomial, right: Polynomial) -> bool | None:
    """Compares coefficient by coefficient, modulo a prime and then in full; None where that takes too many bits."""
    sums: dict[Monomial, list[_Term]] = {}
    for poly, sign in ((left, 1), (right, -1)):
        for monomial, coefficient in poly.items():
            rest, powers = _parts(monomial)
            sums.setdefault(rest, []).append((sign * coefficient, powers))
    if any(sum(_residue(term) for term in terms) % _MODULUS for terms in sums.values()):
        return False
    if sum(_bits(term) for terms in sums.values() for term in terms) > _MAX_BITS:
        return None
    return not any(sum((_full(term) for term in terms), Fraction(0)) for terms in sums.values())


def _parts(monomial: Monomial) -> tuple[Monomial, list[tuple[int, int]]]:
    """A monomial without the whole powers of primes, and these."""
    rest, powers = [], []
    for generator, exponent in monomial:
        whole = int(exponent // 1) if generator.startswith("p:") else 0
        if whole:
            powers.append((int(generator[2:]), whole))
        if exponent != whole:
            rest.append((generator, exponent - whole))
    return tuple(rest), powers


def _residue(term: _Term) -> int:
    coefficient, powers = term
    residue = coefficient.numerator * pow(coefficient.denominator, -1, _MODULUS)
    for prime, power in powers:
        residue = residue * pow(prime, power, _MODULUS) % _MODULUS
    return residue


def _bits(term: _Term) -> int:
    return 1000 + sum(prime.bit_length() * abs(power) for prime, power in term[1])


def _full(term: _Term) -> Fraction:
    total = Fraction(term[0])
    for prime, power in term[1]:
        total *= Fraction(prime) ** power
    return total
