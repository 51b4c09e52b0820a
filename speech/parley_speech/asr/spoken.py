"""Numbers, yes and no as they are spoken: from words to values and back."""

from __future__ import annotations

from collections.abc import Iterator

UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen",
)  # fmt: skip
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
YES = (
    "yes", "yeah", "yep", "yes please", "sure", "right", "correct", "okay", "of course",
    "that's right", "that's correct", "yes it is",
)  # fmt: skip
NO = (
    "no", "nope", "no thanks", "no thank you", "not really", "wrong", "that's wrong",
    "that's not right", "no it isn't", "no it's not",
)  # fmt: skip

LARGEST = 999_999
_VALUES = {word: value for value, word in enumerate(UNITS)} | {
    word: 10 * (i + 2) for i, word in enumerate(TENS)
}
_DIGITS = {word: str(value) for value, word in enumerate(UNITS[:10])} | {"oh": "0", "o": "0"}
_TIMES = {"double": 2, "triple": 3}


def number_words(value: int) -> str:
    """345 -> "three hundred forty five". Raises ValueError outside 0..999 999."""
    if not 0 <= value <= LARGEST:
        raise ValueError(f"{value} is outside 0..{LARGEST}")
    thousands, rest = divmod(value, 1000)
    if thousands:
        head = f"{_below_thousand(thousands)} thousand"
        return f"{head} {_below_thousand(rest)}" if rest else head
    return _below_thousand(rest)


def _below_thousand(value: int) -> str:
    hundreds, rest = divmod(value, 100)
    if hundreds:
        head = f"{UNITS[hundreds]} hundred"
        return f"{head} {_below_hundred(rest)}" if rest else head
    return _below_hundred(rest)


def _below_hundred(value: int) -> str:
    if value < 20:
        return UNITS[value]
    tens, unit = divmod(value, 10)
    return f"{TENS[tens - 2]} {UNITS[unit]}" if unit else TENS[tens - 2]


def digits_of(text: str) -> str | None:
    """The first run of spoken digits: "order number one double two oh" -> "1220"; else None."""
    run = ""
    times = 1
    for word in _words(text):
        if word in _DIGITS:
            run += _DIGITS[word] * times
            times = 1
        elif word.isascii() and word.isdigit():
            run += word
        elif word in _TIMES:
            times = _TIMES[word]
        elif run:
            break
        else:
            times = 1
    return run or None


def number_of(text: str) -> int | None:
    """The first natural number: "twelve thousand three hundred and forty five" -> 12345. Single
    digits in a row are read as digits, as is a number in figures; None if there is neither."""
    run = _number_run(text)
    if not run:
        return None
    if len(run) > 1 and all(word in _DIGITS for word in run):
        return int("".join(_DIGITS[word] for word in run))
    if run[0].isdigit():
        return int(run[0])
    return _value(run)


def yes_no(text: str) -> bool | None:
    """What a short answer means; None if it is neither or both."""
    words = list(_words(text))
    if not words:
        return None
    if any(word in ("no", "nope", "not", "wrong", "isn't", "don't") for word in words):
        return None if words[0] in ("yes", "yeah", "yep") else False
    agrees = {"yes", "yeah", "yep", "sure", "right", "correct", "okay", "ok", "course"}
    return True if agrees.intersection(words) else None


def _number_run(text: str) -> list[str]:
    run: list[str] = []
    for word in _words(text):
        if word in _VALUES or word in ("hundred", "thousand", "oh"):
            run.append(word)
        elif word.isascii() and word.isdigit():
            return run or [word]
        elif run and word == "and":
            continue
        elif run:
            break
    return run


def _value(run: list[str]) -> int:
    """ "a hundred" counts as one hundred, its "a" being no number word."""
    total = part = 0
    for word in run:
        if word == "hundred":
            part = max(part, 1) * 100
        elif word == "thousand":
            total += max(part, 1) * 1000
            part = 0
        else:
            part += _VALUES.get(word, 0)
    return total + part


def _words(text: str) -> Iterator[str]:
    for word in text.lower().replace("’", "'").replace("-", " ").split():
        cleaned = word.strip('.,;:!?"')
        if cleaned:
            yield cleaned
