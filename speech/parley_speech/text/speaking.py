"""How one written word is read out.

A word's reading depends on the word, on the one before it and, for a few (`Undecided` is raised for
them), on the one after it: so a reading never waits for more than one word.

| written | read | decided by |
|---|---|---|
| 3,500 | three thousand five hundred | itself |
| $5 million | five million dollars | the word after |
| 2 € | two euros | each by itself, the sign by the number before |
| May 5, 2024 | May fifth, twenty twenty-four | the word before |
| St. John | Saint John | the word after |
"""

from __future__ import annotations

import re
import unicodedata

from parley_speech.text.locales import Locale, Names
from parley_speech.text.numbers import Figures

_OPEN = "\"'“‘„«([{*_`¿¡"
_CLOSE = ".,!?;:…\"'”’»)]}*_`。，！？；："
_NUMBER = r"[-−+]?\d[\d.,]*\d|[-−+]?\d"
_LONG_DIGITS = 7  # so many in a row are a telephone or an order number
_YEARS = range(1100, 2100)
_MARKS = re.compile(r"[*_`#~]+")
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})((?:am|pm)?)", re.IGNORECASE)
_HALVES = ("am", "a.m", "pm", "p.m")
_SPECIAL = re.compile(r"<\|[^|<>]*\|>|<\||\|>")  # a model's own tokens: text may not write them


class Undecided(Exception):
    """The word after must be known first."""


class Reader:
    """Reads words out in one language; without ``figures`` it only cleans them."""

    def __init__(self, locale: Locale, figures: Figures | None) -> None:
        self._locale, self._figures = locale, figures
        signs = sorted((re.escape(s) for s in locale.money), key=len, reverse=True)
        sign = "|".join(signs) or "(?!)"
        self._money_first = re.compile(rf"(?P<sign>{sign})(?P<n>{_NUMBER})(?P<mag>k|m|bn)?")
        self._money_last = re.compile(rf"(?P<n>{_NUMBER})(?P<sign>{sign})")
        self._number = re.compile(rf"(?P<n>{_NUMBER})(?P<unit>%|°?[^\W\d_][\w/.]*|°)?")
        self._last_sign = re.compile(rf"(?:{sign})")

    def read(self, before: str, word: str, after: str | None) -> str:
        """``word`` as it is spoken, "" where it has no sound; ``after`` "" at the end of the text.

        Raises Undecided where ``after`` is None and matters.
        """
        word = _cleaned(word)
        opened = len(word) - len(word.lstrip(_OPEN))
        core = word[opened:].rstrip(_CLOSE)
        closing = word[opened + len(core) :]
        if not core:
            return word if any(c in ".,!?;:…。，！？；：" for c in word) else ""
        if (whole := self._abbreviation(core, closing, after)) is not None:
            return word[:opened] + whole
        if self._figures is None:
            return word
        said = self._spoken(_core(before), core, closing, after)
        if said is None:
            return word
        return word[:opened] + said + _without_ordinal_stop(self._locale, core, closing, after)

    # --- words that are written shorter ---

    def _abbreviation(self, core: str, closing: str, after: str | None) -> str | None:
        """The whole word with what closes it; None: it is none."""
        table = self._locale.abbreviations
        dotted = core.lower() + "."
        if closing.startswith(".") and dotted in table:
            # At the end of the text its stop is the sentence's as well.
            stop = closing[1:] or ("." if after == "" else "")
            return self._street_or_saint(dotted, after) + stop
        if core.lower() in table:
            return table[core.lower()] + closing
        return None

    def _street_or_saint(self, dotted: str, after: str | None) -> str:
        if dotted != "st." or self._locale.language != "en":
            return self._locale.abbreviations[dotted]
        if after is None:
            raise Undecided
        return "Saint" if after[:1].isupper() else "Street"

    # --- figures ---

    def _spoken(self, before: str, core: str, closing: str, after: str | None) -> str | None:
        """What is said for a word without its punctuation; None: it is said as written."""
        locale = self._locale
        if core == "&":
            return locale.ampersand
        if core == "%" and _is_number(before):
            return locale.percent
        if core in locale.money and _is_number(before):
            return "" if self._has_cents(before) else _form(locale.money[core][0], before)
        if core.lower() in locale.units and (_is_number(before) or _CLOCK.fullmatch(before)):
            return _form(locale.units[core.lower()], before)
        if core.lower() in locale.magnitudes and (found := self._money_first.fullmatch(before)):
            return f"{core} {locale.money[found['sign']][0][1]}"
        if "@" in core or re.fullmatch(r"(?:https?://)?(?:[\w-]+\.)+[a-z]{2,}(?:/\S*)?", core):
            return self._address(core)
        if not any(c.isdigit() for c in core):
            return None
        return self._figure(before, core, closing, after)

    def _figure(self, before: str, core: str, closing: str, after: str | None) -> str:
        if core in self._locale.fractions:
            return self._locale.fractions[core]
        if (found := self._money_first.fullmatch(core)) is not None:
            return self._money(found["n"], found["sign"], found["mag"], not closing, after)
        if (found := self._money_last.fullmatch(core)) is not None:
            return self._money(found["n"], found["sign"], None, False, after)
        if (found := _CLOCK.fullmatch(core)) is not None:
            return self._clock(found[1], found[2], found[3], closing, after)
        if (found := re.fullmatch(r"(\d{4})-(\d{2})-(\d{2})", core)) is not None:
            return " ".join(self._f.cardinal(part) for part in found.groups())
        if (found := re.fullmatch(r"(\d+)(?:st|nd|rd|th)", core, re.I)) is not None:
            return self._f.ordinal(found[1])
        if (found := re.fullmatch(r"(\d{1,4})[-–](\d{1,4})", core)) is not None:
            return f"{self._f.cardinal(found[1])} {self._locale.to} {self._f.cardinal(found[2])}"
        if (found := self._number.fullmatch(core)) is not None:
            return self._with_unit(before, found["n"], found["unit"], closing, after)
        return self._mixed(core)

    @property
    def _f(self) -> Figures:
        assert self._figures is not None
        return self._figures

    def _with_unit(
        self, before: str, number: str, unit: str | None, closing: str, after: str | None
    ) -> str:
        if unit == "%":
            return f"{self._plain(number)} {self._locale.percent}"
        if unit:
            names = self._locale.units.get(unit.lower())
            return (
                f"{self._plain(number)} {_form(names, number)}"
                if names
                else self._mixed(number + unit)
            )
        if number.isdigit() and len(number) <= 2 and before.lower().rstrip(".") in self._months:
            return self._locale.day_after_month.format(ordinal=self._f.ordinal(number))
        if self._is_day(number, closing):
            if after is None:
                raise Undecided
            if _core(after).lower() in self._months:
                said = self._locale.day_before_month.format(ordinal=self._f.ordinal(number))
                return said.removeprefix("the ") if before.lower() == "the" else said
        if self._is_year(before, number):
            return self._f.year(number)
        return self._priced(number, closing, after) or self._plain(number)

    @property
    def _months(self) -> frozenset[str]:
        return self._locale.months

    def _is_day(self, number: str, closing: str) -> bool:
        """May this be the day of a date: alone in English, with a full stop in German?"""
        wanted = "." if self._locale.language == "de" else ""
        return bool(self._months) and number.isdigit() and len(number) <= 2 and closing == wanted

    def _is_year(self, before: str, number: str) -> bool:
        if not (number.isdigit() and len(number) == 4 and int(number) in _YEARS):
            return False
        lowered = before.lower().rstrip(".")
        day = re.fullmatch(r"\d{1,2}(?:st|nd|rd|th)?", lowered)
        return lowered in self._locale.before_year or lowered in self._months or bool(day)

    def _priced(self, number: str, closing: str, after: str | None) -> str | None:
        """A number with two decimals before a sign ("2,50 €") is read with its hundredths."""
        cents = re.fullmatch(rf"[\d.,]*\d{re.escape(self._locale.decimal)}\d\d", number)
        if not cents or closing or not self._locale.money:
            return None
        if after is None:
            raise Undecided
        sign = _core(after)
        return self._hundredths(number, sign) if sign in self._locale.money else None

    def _hundredths(self, number: str, sign: str) -> str:
        """2.50 of euros: two euros fifty cents."""
        whole, _, cents = number.rpartition(self._locale.decimal)
        major, minor = self._locale.money[sign]
        said = self._plain(whole)
        if int(cents) == 0:
            return said
        hundredths = self._f.cardinal(str(int(cents)))
        return f"{said} {_form(major, whole)} {hundredths} {_form(minor, str(int(cents)))}"

    def _money(
        self, number: str, sign: str, magnitude: str | None, goes_on: bool, after: str | None
    ) -> str:
        major, _ = self._locale.money[sign]
        if magnitude:
            word = {"k": "thousand", "m": "million", "bn": "billion"}[magnitude]
            return f"{self._plain(number)} {word} {major[1]}"
        if goes_on and self._locale.magnitudes:
            if after is None:
                raise Undecided
            if _core(after).lower() in self._locale.magnitudes:
                return self._plain(number)  # its magnitude says the currency
        if self._has_cents(number):
            return self._hundredths(number, sign)
        number = number.removesuffix(f"{self._locale.decimal}00")
        return f"{self._plain(number)} {_form(major, number)}"

    def _has_cents(self, number: str) -> bool:
        """Whether the currency was said with the number."""
        found = re.fullmatch(rf".*{re.escape(self._locale.decimal)}(\d\d)", number)
        return bool(found and int(found[1]))

    def _clock(self, hour: str, minute: str, half: str, closing: str, after: str | None) -> str:
        said = {"hour": self._f.cardinal(hour), "minute": self._f.cardinal(minute)}
        if minute == "00":
            if not (half or closing) and self._locale.language == "en":
                if after is None:
                    raise Undecided
                half = " " if _core(after).lower() in _HALVES else ""
            text = said["hour"] if half else self._locale.full_hour.format(**said)
        else:
            if minute[0] == "0" and self._locale.language == "en":
                said["minute"] = "oh " + said["minute"]
            text = self._locale.clock.format(**said)
        return f"{text} {half.upper()}".rstrip()

    def _plain(self, number: str) -> str:
        """A number with sign, thousands and decimals as the language writes them."""
        locale, sign = self._locale, ""
        if number[:1] in "-−+":
            sign = (locale.plus if number[0] == "+" else locale.minus) + " "
            number = number[1:]
        grouped = rf"\d{{1,3}}(?:{re.escape(locale.thousands)}\d{{3}})+"
        decimals = rf"({grouped}|\d+){re.escape(locale.decimal)}(\d+)"
        if (found := re.fullmatch(decimals, number)) is not None:
            whole = found[1].replace(locale.thousands, "")
            return sign + self._f.decimal(whole, found[2], locale.point)
        if re.fullmatch(grouped, number):
            return sign + self._f.cardinal(number.replace(locale.thousands, ""))
        if number.isdigit():
            if len(number) >= _LONG_DIGITS or (number[0] == "0" and len(number) > 1):
                return sign + self._f.each(number)
            return sign + self._f.cardinal(number)
        return sign + self._mixed(number)

    def _address(self, text: str) -> str:
        text = re.sub(r"^https?://", "", text)
        text = text.replace("@", f" {self._locale.at} ").replace(".", f" {self._locale.dot} ")
        return self._mixed(text.replace("/", f" {self._locale.slash} "))

    def _mixed(self, text: str) -> str:
        """Letters as they are, each run of digits as a number: "COVID-19", "3.11.2", "A4"."""

        def figures(found: re.Match[str]) -> str:
            digits = found[0]
            long = len(digits) > 4 or digits[0] == "0" or dialled
            return f" {self._f.each(digits) if long else self._f.cardinal(digits)} "

        text = re.sub(r"(?<=[^\W\d_])-(?=\d)|(?<=\d)-(?=[^\W\d_])", " ", text)
        written = not any(c.isalpha() for c in text)  # figures and marks only
        dialled = written and sum(c.isdigit() for c in text) >= _LONG_DIGITS
        dotted = re.sub(r"(?<=\d)\.(?=\d)", f" {self._locale.point} ", text)
        if written:
            dotted = re.sub(r"[-/()+]+", " , ", dotted)
        said = re.sub(r"\s+", " ", re.sub(r"\d+", figures, dotted)).strip(" ,")
        return re.sub(r" ,(?: ,)*", ",", said)


def _cleaned(word: str) -> str:
    """Without what is written for the eye: mark-down, emoji, a model's own tokens."""
    word = _SPECIAL.sub("", word)
    word = _MARKS.sub("", word)
    return "".join(c for c in word if not _is_pictured(c))


def _is_pictured(char: str) -> bool:
    return unicodedata.category(char) in ("So", "Cs", "Co", "Cc", "Cf") and char not in "°№©®™"


def _core(word: str) -> str:
    return _cleaned(word).lstrip(_OPEN).rstrip(_CLOSE)


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(_NUMBER, text))


def _form(names: Names, number: str) -> str:
    return names[0] if number.lstrip("-−+") == "1" else names[1]


def _without_ordinal_stop(locale: Locale, core: str, closing: str, after: str | None) -> str:
    """German writes an ordinal with a full stop, which ends no sentence: "5. Mai"."""
    ordinal = locale.language == "de" and core.isdigit() and closing == "."
    return "" if ordinal and after and _core(after).lower() in locale.months else closing
