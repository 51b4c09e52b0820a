"""What a language writes shorter than it says: tables, no code.

English and German have tables of their own. Any other language that num2words knows gets its
figures read out and nothing else; where figures are left to the model (Chinese, Japanese), none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

Names = tuple[str, str]  # one, several


@dataclass(frozen=True, slots=True)
class Locale:
    language: str
    """Of num2words."""
    decimal: str = "."
    thousands: str = ","
    point: str = "point"
    minus: str = "minus"
    percent: str = "percent"
    to: str = "to"
    slash: str = "slash"
    at: str = "at"
    dot: str = "dot"
    ampersand: str = "and"
    plus: str = "plus"
    money: Mapping[str, tuple[Names, Names]] = field(default_factory=dict)
    """By sign or code: its whole and its hundredth."""
    units: Mapping[str, Names] = field(default_factory=dict)
    abbreviations: Mapping[str, str] = field(default_factory=dict)
    """Lower case, with their full stops."""
    months: frozenset[str] = frozenset()
    magnitudes: frozenset[str] = frozenset()
    before_year: frozenset[str] = frozenset()
    day_before_month: str = "{ordinal}"
    day_after_month: str = "{ordinal}"
    clock: str = "{hour} {minute}"
    full_hour: str = "{hour}"
    fractions: Mapping[str, str] = field(default_factory=dict)


def _frozen(**entries: str) -> Mapping[str, str]:
    return MappingProxyType(entries)


_EN_MONTHS = """january february march april may june july august september october november
    december jan feb mar apr jun jul aug sep sept oct nov dec"""
_DE_MONTHS = "januar februar märz april mai juni juli august september oktober november dezember"

_EN_DOLLAR = ("dollar", "dollars"), ("cent", "cents")
_EN_EURO = ("euro", "euros"), ("cent", "cents")
_EN_POUND = ("pound", "pounds"), ("penny", "pence")
_EN_YEN = ("yen", "yen"), ("sen", "sen")

ENGLISH = Locale(
    language="en",
    money={
        **dict.fromkeys(("$", "USD", "US$"), _EN_DOLLAR),
        **dict.fromkeys(("€", "EUR"), _EN_EURO),
        **dict.fromkeys(("£", "GBP"), _EN_POUND),
        **dict.fromkeys(("¥", "JPY"), _EN_YEN),
    },
    units={
        "km": ("kilometer", "kilometers"),
        "cm": ("centimeter", "centimeters"),
        "mm": ("millimeter", "millimeters"),
        "kg": ("kilogram", "kilograms"),
        "mg": ("milligram", "milligrams"),
        "lb": ("pound", "pounds"),
        "lbs": ("pound", "pounds"),
        "oz": ("ounce", "ounces"),
        "ft": ("foot", "feet"),
        "mph": ("mile per hour", "miles per hour"),
        "km/h": ("kilometer per hour", "kilometers per hour"),
        "°": ("degree", "degrees"),
        "°c": ("degree Celsius", "degrees Celsius"),
        "°f": ("degree Fahrenheit", "degrees Fahrenheit"),
        "kb": ("kilobyte", "kilobytes"),
        "mb": ("megabyte", "megabytes"),
        "gb": ("gigabyte", "gigabytes"),
        "tb": ("terabyte", "terabytes"),
        "hz": ("hertz", "hertz"),
        "khz": ("kilohertz", "kilohertz"),
        "mhz": ("megahertz", "megahertz"),
        "ghz": ("gigahertz", "gigahertz"),
        "ms": ("millisecond", "milliseconds"),
        "min": ("minute", "minutes"),
        "am": ("AM", "AM"),
        "a.m": ("AM", "AM"),
        "pm": ("PM", "PM"),
        "p.m": ("PM", "PM"),
        "k": ("thousand", "thousand"),
        "bn": ("billion", "billion"),
        "x": ("times", "times"),
    },
    abbreviations={
        "mr.": "Mister",
        "mrs.": "Missus",
        "ms.": "Miss",
        "dr.": "Doctor",
        "prof.": "Professor",
        "jr.": "Junior",
        "sr.": "Senior",
        "st.": "Saint",
        "vs.": "versus",
        "vs": "versus",
        "etc.": "et cetera",
        "e.g.": "for example",
        "i.e.": "that is",
        "approx.": "approximately",
        "dept.": "department",
        "est.": "established",
        "inc.": "Incorporated",
        "ltd.": "Limited",
        "corp.": "Corporation",
        "ave.": "Avenue",
        "blvd.": "Boulevard",
        "tel.": "telephone",
        "ext.": "extension",
        "jan.": "January",
        "feb.": "February",
        "aug.": "August",
        "sept.": "September",
        "oct.": "October",
        "nov.": "November",
        "dec.": "December",
        "w/": "with",
        "w/o": "without",
    },
    months=frozenset(_EN_MONTHS.split()),
    magnitudes=frozenset(["thousand", "million", "billion", "trillion"]),
    before_year=frozenset(
        [
            "in",
            "since",
            "until",
            "by",
            "year",
            "during",
            "before",
            "after",
            "early",
            "late",
            "spring",
        ]
    ),
    day_before_month="the {ordinal} of",
    clock="{hour} {minute}",
    full_hour="{hour} o'clock",
    fractions={
        "1/2": "one half",
        "1/3": "one third",
        "1/4": "one quarter",
        "3/4": "three quarters",
    },
)

_DE_EURO = ("Euro", "Euro"), ("Cent", "Cent")
_DE_DOLLAR = ("Dollar", "Dollar"), ("Cent", "Cent")

GERMAN = Locale(
    language="de",
    decimal=",",
    thousands=".",
    point="Komma",
    minus="minus",
    percent="Prozent",
    to="bis",
    slash="Schrägstrich",
    at="ät",
    dot="Punkt",
    ampersand="und",
    plus="plus",
    money={
        **dict.fromkeys(("€", "EUR"), _DE_EURO),
        **dict.fromkeys(("$", "USD"), _DE_DOLLAR),
        **dict.fromkeys(("£", "GBP"), (("Pfund", "Pfund"), ("Pence", "Pence"))),
    },
    units={
        "km": ("Kilometer", "Kilometer"),
        "cm": ("Zentimeter", "Zentimeter"),
        "mm": ("Millimeter", "Millimeter"),
        "kg": ("Kilogramm", "Kilogramm"),
        "km/h": ("Kilometer pro Stunde", "Kilometer pro Stunde"),
        "°": ("Grad", "Grad"),
        "°c": ("Grad Celsius", "Grad Celsius"),
        "gb": ("Gigabyte", "Gigabyte"),
        "mb": ("Megabyte", "Megabyte"),
        "ms": ("Millisekunde", "Millisekunden"),
        "min": ("Minute", "Minuten"),
        "std": ("Stunde", "Stunden"),
    },
    abbreviations={
        "z.b.": "zum Beispiel",
        "d.h.": "das heißt",
        "u.a.": "unter anderem",
        "usw.": "und so weiter",
        "bzw.": "beziehungsweise",
        "ca.": "circa",
        "dr.": "Doktor",
        "prof.": "Professor",
        "hr.": "Herr",
        "fr.": "Frau",
        "nr.": "Nummer",
        "str.": "Straße",
        "tel.": "Telefon",
        "inkl.": "inklusive",
        "ggf.": "gegebenenfalls",
        "evtl.": "eventuell",
        "max.": "maximal",
        "min.": "mindestens",
    },
    months=frozenset(_DE_MONTHS.split()),
    magnitudes=frozenset(["tausend", "million", "millionen", "milliarde", "milliarden"]),
    before_year=frozenset(["jahr", "seit", "anno"]),
    day_before_month="{ordinal}n",
    clock="{hour} Uhr {minute}",
    full_hour="{hour} Uhr",
    fractions={"1/2": "ein halb", "1/4": "ein Viertel", "3/4": "drei Viertel"},
)

TABLES: Mapping[str, Locale] = MappingProxyType({"en": ENGLISH, "de": GERMAN})

_COMMA_DECIMAL = frozenset(
    [
        "es",
        "fr",
        "it",
        "pt",
        "nl",
        "pl",
        "ru",
        "cs",
        "da",
        "fi",
        "no",
        "sv",
        "tr",
        "uk",
        "ro",
        "sk",
        "sl",
        "hu",
    ]
)
_POINT_WORDS = _frozen(
    es="coma", fr="virgule", it="virgola", pt="vírgula", nl="komma", pl="przecinek"
)


def locale_of(language: str) -> Locale:
    """The tables of a language tag ("en-US"), bare ones where it has none of its own."""
    main = language.split("-")[0].lower()
    if main in TABLES:
        return TABLES[main]
    comma = main in _COMMA_DECIMAL
    return Locale(
        language=main,
        decimal="," if comma else ".",
        thousands="." if comma else ",",
        point=_POINT_WORDS.get(main, "," if comma else "."),
        minus="-",
        percent="%",
        to="-",
        slash="/",
        at="@",
        dot=".",
        ampersand="&",
        plus="+",
    )
