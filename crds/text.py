"""What counts as text: the one definition for REST, for `kubectl` and for the registration of users.

A line is text that a person can read and that prints the same everywhere: a parcel's label, a mail, a log.

- No control characters, no line ends, nothing invisible and no direction marks: they hide or reorder what is
  around them. Nothing that is no character at all: private use, not assigned, noncharacters, U+FFFD.
- It begins and ends with something visible.
- U+200C and U+200D join letters of Persian, of Indian scripts and of emoji: they are fine between two others.
- U+FE0E and U+FE0F choose the form of emoji. Other selectors of a form stand after what has such forms:
  ideographs, as in names of Japan's registry, and letters of Mongolian.
- At most 30 marks on one letter, as in the Stream-Safe Text Format: more are no language, and make the
  normalization slower than linear.
- Unicode normal form C, so that equal texts are equal bytes.

Text that is wrong is refused, not corrected: `kubectl apply` compares the object with its file, so a
corrected object could not be applied a second time.

Which characters are assigned, and which are marks, changes with Unicode: Python and the API server may know
different versions, so a character of the newest one may pass one of them only.

Sources: RFC 8264, section 4.3 (FreeformClass); Unicode Standard Annex 15, sections 1.2 and 13; Unicode 15,
DerivedCoreProperties.txt (Default_Ignorable_Code_Point), StandardizedVariants.txt; UTS 37, section 2; UTS 39,
section 4.
"""

import re
from collections.abc import Iterable
from typing import Annotated
from unicodedata import category, is_normalized

from pydantic import AfterValidator

MOST_MARKS = 30

_Ranges = Iterable[tuple[int, int]]
_LINE_FEED = 0x0A
_NEVER = (
    (0x00, 0x09), (_LINE_FEED, _LINE_FEED), (0x0B, 0x1F), (0x7F, 0x9F),  # controls
    (0xAD, 0xAD), (0x034F, 0x034F), (0x17B4, 0x17B5),  # soft hyphen, joiner of graphemes, vowels of Khmer
    (0x061C, 0x061C), (0x200E, 0x200F), (0x202A, 0x202E), (0x2066, 0x2069),  # directions
    (0x115F, 0x1160), (0x2800, 0x2800), (0x3164, 0x3164), (0xFFA0, 0xFFA0),  # letters that look like blanks
    (0x16FE4, 0x16FE4), (0x1D159, 0x1D159),  # a filler of Khitan, a note of music without a head
    (0x180E, 0x180E), (0x200B, 0x200B), (0x2060, 0x2065), (0x206A, 0x206F), (0xFEFF, 0xFEFF),  # no width
    (0x2028, 0x2029),  # line and paragraph ends
    (0xD800, 0xF8FF),  # halves of characters, private use
    (0xFDD0, 0xFDEF), (0xFFF0, 0xFFFF),  # annotations, broken text, noncharacters
    (0x13430, 0x1343F), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A),  # layout of hieroglyphs, shorthand, music
    (0x1FFFE, 0x1FFFF), (0x2FFFE, 0x2FFFF), (0x3FFFE, 0xE00FF), (0xE01F0, 0x10FFFF),  # not assigned, tags
)  # fmt: skip
_BLANKS = (
    (0x20, 0x20), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x202F, 0x202F), (0x205F, 0x205F),
    (0x3000, 0x3000),
)  # fmt: skip
_JOINERS = ((0x200C, 0x200D),)
_IDEOGRAPHS = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFD))
_MONGOLIAN = ((0x1820, 0x18AA),)
_FORMS = (
    (_IDEOGRAPHS, ((0xFE00, 0xFE0D), (0xE0100, 0xE01EF))),
    (_MONGOLIAN, ((0x180B, 0x180D), (0x180F, 0x180F))),
)
"""Characters that have several forms, and the selectors of a form that may stand after them."""


def check_line(text: str) -> str:
    """The text, if it is one line of text or empty.

    Raises:
        ValueError: it is not; the message is for the sender and does not repeat the text.
    """
    return _checked(text, _BAD_IN_LINE, _BAD_EDGE)


def check_lines(text: str) -> str:
    """The text, if it is text of any number of lines, each of which ends with U+000A.

    Raises:
        ValueError: it is not.
    """
    return _checked(text, _BAD_IN_LINES, _BAD_EDGE_OF_LINES)


Line = Annotated[str, AfterValidator(check_line)]
"""One line of text, or nothing; where something is needed, add `min_length=1`."""

Lines = Annotated[str, AfterValidator(check_lines)]
"""Text of several lines, or nothing."""


def cel_rule(line: str) -> str:
    """What CEL can check of `check_line`: all but the normal form.

    The patterns are of RE2, which CEL uses: https://github.com/google/re2/wiki/Syntax

    Args:
        line: The expression of the text.
    """
    blanks, joiners = (_class(ranges, _RE2) for ranges in (_BLANKS, _JOINERS))
    bad = [_class(_NEVER[start : start + 8], _RE2) for start in range(0, len(_NEVER), 8)]
    # What is not assigned has no category in all versions of RE2. Controls and private use are refused above.
    bad += [r"[^\p{L}\p{M}\p{N}\p{P}\p{S}\p{Z}\p{Cf}]"]
    bad += [*_edges(blanks, "$"), *_loose(joiners, "$"), *_stray_selectors(_RE2)]
    bad += [r"^\p{M}", rf"\p{{M}}{{{MOST_MARKS + 1}}}"]
    return " && ".join(f"!{line}.matches(r'{pattern}')" for pattern in bad)


def _checked(text: str, bad: re.Pattern[str], bad_edge: re.Pattern[str]) -> str:
    if bad.search(text):
        raise ValueError("Only printable text: no control, invisible or direction characters.")
    if bad_edge.search(text):
        raise ValueError("Take the blanks off the beginning and the end.")
    if _LOOSE_JOINER.search(text):
        raise ValueError("A joiner (U+200C, U+200D) stands between two other characters.")
    if not text.isascii():
        if _STRAY_SELECTOR.search(text):
            raise ValueError("A selector of a form stands after a character that has such forms.")
        categories = [category(character) for character in text]
        if "Cn" in categories:
            raise ValueError("Only characters that Unicode has assigned.")
        marks = "".join("M" if each[0] == "M" else "." for each in categories)
        if marks.startswith("M") or "M" * (MOST_MARKS + 1) in marks:
            raise ValueError("Marks need a letter before them, and a letter has 30 marks at most.")
        if not is_normalized("NFC", text):
            raise ValueError("Send the text in Unicode's normal form C (NFC).")
    return text


def _class(ranges: _Ranges, form: str, start: str = "[") -> str:
    """A character class of a regular expression; with the start `[^`, of all other characters."""
    return f"{start}{''.join(_range(first, last, form) for first, last in ranges)}]"


def _range(first: int, last: int, form: str) -> str:
    return form % first if first == last else f"{form % first}-{form % last}"


def _edges(blanks: str, end: str) -> list[str]:
    """What no text begins or ends with."""
    return [f"^{blanks}", f"{blanks}{end}"]


def _loose(joiners: str, end: str) -> list[str]:
    """Joiners that join nothing."""
    return [f"^{joiners}", f"{joiners}{joiners}", f"{joiners}{end}"]


def _stray_selectors(form: str) -> list[str]:
    """Selectors of a form after what has none. One at the beginning is a mark without a letter."""
    return [_class(having, form, "[^") + _class(selectors, form) for having, selectors in _FORMS]


_RE2, _PYTHON = r"\x{%X}", r"\U%08X"
_FEED = ((_LINE_FEED, _LINE_FEED),)
_BAD_IN_LINE = re.compile(_class(_NEVER, _PYTHON))
_BAD_IN_LINES = re.compile(_class((part for part in _NEVER if part not in _FEED), _PYTHON))
_BAD_EDGE = re.compile("|".join(_edges(_class(_BLANKS, _PYTHON), r"\Z")))
_BAD_EDGE_OF_LINES = re.compile("|".join(_edges(_class((*_BLANKS, *_FEED), _PYTHON), r"\Z")))
_LOOSE_JOINER = re.compile("|".join(_loose(_class(_JOINERS, _PYTHON), r"\Z")))
_STRAY_SELECTOR = re.compile("|".join(_stray_selectors(_PYTHON)))
