"""Names of places on a printed page."""

from dataclasses import replace
from pathlib import Path

import pytest
from pymupdf_fonts import NotoSansSymbols_Regular

from quakestream.outputs.page_letters import Typeface, joins, lettering, machine_fonts, wrapped
from quakestream.outputs.pdf_map import map_page
from tests.unit.outputs.test_handover_files import layers


@pytest.fixture
def fonts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder of fonts of a machine, with none in it."""
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path))
    folder = tmp_path / "fonts"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    "name",
    ["Kahramanmaraş, Şanlıurfa, İslahiye: 3 km²", "Đồng Hới", "Хатай", "Θεσσαλονίκη", "თბილისი"],
)
@pytest.mark.usefixtures("fonts")
def test_names_keep_their_letters_on_a_machine_without_fonts(name: str) -> None:
    assert lettering(name) == (name, Typeface(None))


def test_arabic_is_drawn_where_its_letters_can_be_joined_and_never_unjoined(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert joins("ح")
    assert joins("न")
    assert not joins("Ш")
    monkeypatch.setattr("PIL.features.check", lambda feature: feature == "raqm")
    assert Typeface(None).draws("ح")
    monkeypatch.setattr("PIL.features.check", lambda feature: False)
    assert not Typeface(None).draws("ح")


def test_a_letter_of_no_own_script_is_looked_for_in_the_fonts_of_the_machine(fonts: Path) -> None:
    (fonts / "broken.ttf").write_bytes(b"no font")
    path = fonts / "NotoSansSymbols.ttf"
    path.write_bytes(NotoSansSymbols_Regular.fontbuffer)
    assert list(machine_fonts()) == [path, fonts / "broken.ttf"]
    assert lettering("⚒⚔") == ("⚒⚔", Typeface(path))


@pytest.mark.usefixtures("fonts")
def test_a_letter_that_no_font_has_becomes_a_question_mark() -> None:
    assert lettering("能登 2024-ş") == ("?? 2024-ş", Typeface(None))


def test_lines_fit_their_width_and_lose_no_letter() -> None:
    text = "Şanlıurfa and 1234567890_1234567890_1234567890 Ош"
    lines = wrapped(text, Typeface(None), 28, 200)
    assert len(lines) > 3
    assert all(Typeface(None).at(28).getlength(line) <= 200 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert lines[0] == "Şanlıurfa and"


def test_titles_in_another_script_are_told_apart_on_the_page() -> None:
    case = layers()
    pages = [map_page(replace(case, title=name)).tobytes() for name in ("Ош", "Ғч")]
    assert pages[0] != pages[1]
