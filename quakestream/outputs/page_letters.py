"""Letters of a printed page: names of places keep theirs, in every script a font here has.

FiraGO comes as a dependency and has Latin, Cyrillic, Greek, Arabic, Hebrew, Georgian, Thai and
Devanagari. For a text that needs more, such as a name in Japanese, the fonts of the machine are
looked through. Scripts that join their letters or run from right to left need FriBiDi on the
machine, which Pillow loads by itself.
"""

import io
import os
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import islice
from pathlib import Path

from PIL import ImageFont, features

LIKENESSES = {"ı": "i", "ø": "o", "ł": "l", "ß": "ss", "·": "-", "–": "-", "…": "..."}
"""Letters that Unicode does not take apart."""
FONT_FILES = ".ttf", ".otf", ".ttc", ".otc"
MOST_FONTS = 400
"""Fonts of a machine that are looked through for a letter."""
WIDE_COVERAGE = "noto", "dejavu", "droid", "unifont", "arial", "gothic", "hiragino", "cjk"
"""Words in the names of fonts that are looked through first."""
STYLES = "bold", "italic", "oblique", "mono", "serif", "thin", "light", "black", "condensed"
"""Words in the names of fonts that are looked through last."""
JOINING = ("\u0900", "\u0dff"), ("\u0f00", "\u109f"), ("\u1780", "\u17ff")
"""Scripts from left to right whose letters join: of India, Tibet, Myanmar and Cambodia."""
NO_CHARACTER = "\U0010fffe"
"""A code point that no font draws: what comes out is the font's sign for a missing letter."""


@dataclass(frozen=True, slots=True)
class Typeface:
    """A font of some file, drawn at any height."""

    path: Path | None
    """None: FiraGO, which comes as a dependency."""

    def at(self, height: int) -> ImageFont.FreeTypeFont:
        """The font, letters `height` dots high.

        Raises:
            OSError: if the file is no font that FreeType reads.
        """
        return _opened(self.path, height)

    def draws(self, letter: str) -> bool:
        """Whether the font has a shape for a letter."""
        if letter.isspace() or unicodedata.category(letter) == "Cf":
            return True
        if joins(letter) and not features.check("raqm"):
            return False
        return _draws(self.path, letter)


def lettering(text: str) -> tuple[str, Typeface]:
    """A text as a page can show it, and the font to draw it with.

    The first font that has all letters is taken, or else the one that has most of them. A letter
    it does not have loses its accent, or becomes a question mark.
    """
    text = unicodedata.normalize("NFC", text)
    face = _face_for("".join(sorted(set(text))))
    return "".join(_shown(letter, face) for letter in text), face


def wrapped(text: str, face: Typeface, height: int, width: int) -> list[str]:
    """A text in lines of at most `width` dots, broken between words, and inside of long ones."""
    font = face.at(height)
    lines = [""]
    for word in text.split():
        if lines[-1] and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if lines[-1] and font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return lines


def joins(letter: str) -> bool:
    """Whether a letter is of a script that is wrong when its letters stand alone, left to right."""
    leftwards = unicodedata.bidirectional(letter) in ("R", "AL")
    return leftwards or any(first <= letter <= last for first, last in JOINING)


def machine_fonts() -> Iterator[Path]:
    """Files of fonts in the folders where systems keep them, those with many scripts first."""
    files = (
        Path(folder, name)
        for root in _font_folders()
        for folder, folders, names in os.walk(root)
        for name in names
        if name.lower().endswith(FONT_FILES)
    )
    yield from islice(sorted(files, key=_order), MOST_FONTS)


@lru_cache(maxsize=64)
def _face_for(letters: str) -> Typeface:
    best = Typeface(None)
    most = sum(map(best.draws, letters))
    if most == len(letters):
        return best
    for face in map(Typeface, machine_fonts()):
        try:
            drawn = sum(map(face.draws, letters))
        except OSError:
            continue  # a file that is no font, or of a kind FreeType does not read
        if drawn > most:
            best, most = face, drawn
        if most == len(letters):
            break
    return best


def _shown(letter: str, face: Typeface) -> str:
    if face.draws(letter):
        return letter
    plain = unicodedata.normalize("NFKD", LIKENESSES.get(letter, letter))
    kept = "".join(c for c in plain if not unicodedata.combining(c))
    return kept if kept and all(map(face.draws, kept)) else "?"


@lru_cache(maxsize=16)
def _opened(path: Path | None, height: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(io.BytesIO(_own_font()) if path is None else path, height)


@lru_cache(maxsize=4096)
def _draws(path: Path | None, letter: str) -> bool:
    font = _opened(path, 24)
    drawn, missing = (font.getmask(c, mode="1") for c in (letter, NO_CHARACTER))
    if drawn.getbbox() is None:
        return False
    return drawn.size != missing.size or bytes(drawn) != bytes(missing)


@cache
def _own_font() -> bytes:
    from pymupdf_fonts import FiraGO_Regular  # it is unpacked on import, and only here

    data: bytes = FiraGO_Regular.fontbuffer
    return data


def _font_folders() -> list[Path]:
    home = Path.home()
    if sys.platform == "win32":
        return [Path(os.environ.get("WINDIR", r"C:\Windows"), "Fonts")]
    if sys.platform == "darwin":
        return [home / "Library/Fonts", Path("/Library/Fonts"), Path("/System/Library/Fonts")]
    shares = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    own = Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share")
    return [home / ".fonts", own / "fonts", *(Path(s, "fonts") for s in shares.split(":"))]


def _order(path: Path) -> tuple[bool, int, str]:
    name = path.name.lower()
    wide = any(word in name for word in WIDE_COVERAGE)
    return not wide, sum(word in name for word in STYLES), str(path)
