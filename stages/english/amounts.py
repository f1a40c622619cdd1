"""Amounts and negations: what turns an action into another one, however few of its words it is.

An amount is a number with its unit, in digits or in words: "2 tbsp" is "two tablespoons", and 200 grams
are not 200 degrees. Units are a closed table; nothing is converted.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

TOKEN = re.compile(
    r"\d{1,3}(?:,\d{3})+(?!\d)|\d{1,9}(?:\.\d{1,9}|/[1-9]\d{0,8})?|[¼-¾⅐-⅞]|"
    r"[^\W\d_]+(?:'[^\W\d_]+)*|[^\w\s-]"
)
NUMBER_WORDS = {
    word: Fraction(number)
    for number, words in enumerate(
        "zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve dozen|thirteen|fourteen|"
        "fifteen|sixteen|seventeen|eighteen|nineteen|twenty".split("|")
    )
    for word in words.split()
}
NUMBER_WORDS |= dict(zip("thirty forty fifty sixty seventy eighty ninety hundred thousand".split(),
                         map(Fraction, (30, 40, 50, 60, 70, 80, 90, 100, 1000)), strict=True))  # fmt: skip
# A verb of the same family says the same: cut in half, halve.
NUMBER_WORDS |= dict.fromkeys("half halve halved halves halving".split(), Fraction(1, 2))
NUMBER_WORDS |= dict.fromkeys("quarter quartered quartering quarters".split(), Fraction(1, 4))
_POWERS = frozenset({"hundred", "thousand"})
_HUNDRED_AND = re.compile(r"\b(hundred|thousand) and\b")
_NEGATIONS = frozenset("cannot neither never no none nor not nothing without".split())
# Beside these, "one" stands for a thing and counts nothing.
_BEFORE_PRONOUN = frozenset("a another any each every last next no other that the this which".split())
_AFTER_PRONOUN = frozenset("another at by of".split())

_SPELLINGS = """
    tsp: tsp tsps teaspoon teaspoons | tbsp: tbsp tbsps tbs tablespoon tablespoons | cup: cup cups
    ml: ml mls milliliter milliliters millilitre millilitres
    cl: cl centiliter centiliters centilitre centilitres
    dl: dl deciliter deciliters decilitre decilitres | l: l liter liters litre litres
    pint: pint pints pt | quart: quart quarts qt qts | gallon: gallon gallons gal
    mg: mg milligram milligrams | g: g gr gram grams gramme grammes
    kg: kg kgs kilo kilos kilogram kilograms
    oz: oz ounce ounces | lb: lb lbs pound pounds
    mm: mm millimeter millimeters millimetre millimetres
    cm: cm cms centimeter centimeters centimetre centimetres
    m: m meter meters metre metres | inch: inch inches | foot: ft foot feet | yard: yd yard yards
    s: s sec secs second seconds | min: min mins minute minutes | h: h hr hrs hour hours
    day: day days | week: week weeks | %: % percent | °: ° degree degrees
    °C: °c celsius centigrade c | °F: °f fahrenheit f
    v: v volt volts | w: w watt watts | psi: psi | rpm: rpm
"""
UNITS = {
    spelling: unit.strip()
    for entry in _SPELLINGS.replace("\n", "|").split("|")
    if entry.strip()
    for unit, spellings in [entry.split(":")]
    for spelling in spellings.split()
}
"""The unit by the ways in which it is written or said."""
# After "a" these count one: a cup, an hour. A second, a day and a foot are often something else.
_SINGULAR = frozenset(
    "teaspoon tsp tablespoon tbsp cup pint quart gallon liter litre gram kilo kilogram ounce pound inch "
    "minute hour".split()
)
_RANGE = frozenset({"to", "or", "and", "-", "–", "a", "an"})


@dataclass(frozen=True, slots=True)
class Reading:
    """Text taken apart.

    Attributes:
        decisive: how often each (number, unit) is named and ``("not", "")`` said. Wholes and fractions
            count apart, so that 1.5 is one and a half. The unit is empty where none is named.
        words: the others, in lower case, without punctuation.
    """

    decisive: Counter[tuple[Fraction | str, str]]
    words: list[str]


@dataclass(slots=True)
class _Amount:
    value: Fraction
    unit: str = ""
    ends: int = 0


def read(text: str) -> Reading:
    """Separate a text's amounts and negations from its other words."""
    tokens = TOKEN.findall(_HUNDRED_AND.sub(r"\1", text.lower().replace("’", "'")))
    amounts: list[_Amount] = []
    words: list[str] = []
    negations = 0
    at = 0
    joined = False
    while at < len(tokens):
        before, token = tokens[at - 1] if at else "", tokens[at]
        after = tokens[at + 1] if at + 1 < len(tokens) else ""
        value = _value(before, token, after)
        at += 1
        if value is None:
            joined = False
            if token in _NEGATIONS or token.endswith("n't"):
                negations += 1
            elif token[:1].isalnum():
                words.append(token)
            continue
        if joined and token in _POWERS and amounts[-1].value < value:
            amounts[-1].value *= value
        elif joined and {before, token} <= NUMBER_WORDS.keys() and _completes(amounts[-1].value, value):
            amounts[-1].value += value
        else:
            amounts.append(_Amount(value))
        joined = True
        unit, taken = _unit(tokens[at : at + 4])
        amounts[-1].unit = unit
        at += taken
        amounts[-1].ends = at
        joined = not unit
        if unit:
            _share(amounts, tokens)
    decisive: Counter[tuple[Fraction | str, str]] = Counter()
    for amount in amounts:
        parts = (Fraction(amount.value // 1), amount.value % 1)
        decisive.update((part, amount.unit) for part in parts if part or not amount.value)
    if negations:
        decisive[("not", "")] = negations
    return Reading(decisive, words)


def is_amount(token: str) -> bool:
    """Return whether a lower-case word is a number in digits or in words."""
    return token in NUMBER_WORDS or _value("", token, "") is not None


def _value(before: str, token: str, after: str) -> Fraction | None:
    """Return the number that a token is between its neighbours; None for other tokens."""
    if token == "one" and before not in NUMBER_WORDS:
        counts = after[:1].isalnum() and after not in _AFTER_PRONOUN and before not in _BEFORE_PRONOUN
        return Fraction(1) if counts else None
    if token in ("a", "an"):
        return Fraction(1) if after in _SINGULAR and before not in NUMBER_WORDS else None
    if token in NUMBER_WORDS:
        return NUMBER_WORDS[token]
    if token[0].isdecimal():
        try:
            return Fraction(token.replace(",", ""))
        except (ValueError, ZeroDivisionError):
            # A date, a version, a score: 1/2/2020, 1.5.3, 1/0.
            return None
    if len(token) == 1 and token.isnumeric():
        return Fraction(unicodedata.numeric(token)).limit_denominator(10)
    return None


def _unit(following: list[str]) -> tuple[str, int]:
    """Return the unit right after a number, and how many tokens name it."""
    taken = 1 if following[:1] in (["a"], ["an"]) and following[1:2] and following[1] in _SINGULAR else 0
    unit = UNITS.get(following[taken]) if len(following) > taken else None
    if unit is None:
        return "", 0
    taken += 1
    if unit == "°" and len(following) > taken and UNITS.get(following[taken], "").startswith("°"):
        # 350 degrees Fahrenheit, 350 °F.
        unit = UNITS[following[taken]]
        taken += 1
    return unit, taken


def _share(amounts: list[_Amount], tokens: list[str]) -> None:
    """Give the last unit to the numbers that it was said for: one and a half cups, 10 to 20 minutes."""
    for earlier, later in zip(amounts[-2::-1], amounts[:0:-1], strict=True):
        between = tokens[earlier.ends : later.ends]
        if earlier.unit or not all(
            token in _RANGE or is_amount(token) or token in UNITS for token in between
        ):
            return
        earlier.unit = later.unit


def _completes(amount: Fraction, value: Fraction) -> bool:
    """Tell whether the spoken parts of a number go together: twenty and five, two hundred and fifty."""
    if amount == 0 or value.denominator > 1:
        return False
    return (amount % 100 == 0 and 0 < value < 100) or (amount < 100 and amount % 10 == 0 and 0 < value < 10)
