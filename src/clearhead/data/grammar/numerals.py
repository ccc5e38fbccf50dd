"""Numbers in words, from 1 to 999 999, in both languages."""

_DIGITS = "零一二三四五六七八九"
_CHINESE_UNITS = ((1_000, "千"), (100, "百"), (10, "十"))
_SMALL = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
    "twelve": "twelfth",
}  # fmt: skip


def chinese(number: int) -> str:
    """`12` -> `十二`, `250` -> `二百五十`, `30_000` -> `三万`."""
    myriads, rest = divmod(number, 10_000)
    if myriads:
        gap = "零" if 0 < rest < 1_000 else ""
        return _chinese_below_myriad(myriads) + "万" + gap + (_chinese_below_myriad(rest) if rest else "")
    words = _chinese_below_myriad(number)
    return words.removeprefix("一") if 10 <= number < 20 else words


def counting(number: int) -> str:
    """The Chinese number as it stands before a measure word: 2 is 两 there, and in 两百, 两千, 两万."""
    words = chinese(number)
    if words == "二" or (words.startswith("二") and words[1] in "百千万"):
        return "两" + words[1:]
    return words


def english(number: int) -> str:
    """`21` -> `twenty-one`, `250` -> `two hundred fifty`."""
    for unit, name in ((1_000, "thousand"), (100, "hundred")):
        if number >= unit:
            head, rest = divmod(number, unit)
            return f"{english(head)} {name}" + (f" {english(rest)}" if rest else "")
    if number < 20:
        return _SMALL[number]
    tens, ones = divmod(number, 10)
    return _TENS[tens] + (f"-{_SMALL[ones]}" if ones else "")


def ordinal(number: int) -> str:
    """`3` -> `third`, `21` -> `twenty-first`, `30` -> `thirtieth`."""
    words = english(number)
    start = 1 + max(words.rfind("-"), words.rfind(" "))
    stem, last = words[:start], words[start:]
    if last in _ORDINALS:
        return stem + _ORDINALS[last]
    return stem + (last[:-1] + "ieth" if last.endswith("y") else last + "th")


def _chinese_below_myriad(number: int) -> str:
    words, skipped = "", False
    for unit, name in _CHINESE_UNITS:
        digit, number = divmod(number, unit)
        if digit:
            words += ("零" if skipped else "") + _DIGITS[digit] + name
        skipped = bool(words) and not digit
    return words + (("零" if skipped else "") + _DIGITS[number] if number or not words else "")
