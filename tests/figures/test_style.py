import matplotlib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.text import Text

from drawing import HOSTILE, draw
from maskatlas.figures.style import LIGHT, finish, sheet, shown, style


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Wearing_Hat", "Wearing Hat"),
        ("a\nb\tc", "a b c"),
        ("\u202eabc\u200f", "abc"),
        ("", "(no name)"),
        ("\x00\x1b", "(no name)"),
        ("a\ue000b", "a<e000>b"),
        ("x" * 100, "x" * 25 + "…"),
        ("שלום", "שלום"),
    ],
)
def test_names_are_made_fit_to_be_drawn(name, expected):
    assert shown(name) == expected


def test_what_no_font_has_is_written_as_its_code():
    assert shown("\U0001f9ff!") in ("<1f9ff>!", "\U0001f9ff!")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_any_name_is_one_short_line(name):
    line = shown(name, 20)
    assert 1 <= len(line) <= 20
    assert line.isprintable()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_drawn_as_text_even_outside_of_our_style(name):
    with style(LIGHT):
        figure = sheet(2.0, 1.0)
        figure.text(0.1, 0.5, shown(name))
        figure.add_subplot().set_xticks([0, 1], [shown(name)] * 2)
        finish(figure)
    assert draw(figure)[..., 3].any()
    assert not any(text.get_parse_math() for text in figure.findobj(Text))


def test_text_is_never_given_to_latex():
    with matplotlib.rc_context({"text.usetex": True, "text.parse_math": True}):
        with style(LIGHT):
            figure = sheet(2.0, 1.0)
            figure.text(0.1, 0.5, r"\input{/etc/passwd} $x$")
            figure.add_subplot().set_yticks([0], ["$x$"])
            finish(figure)
        assert not any(text.get_usetex() for text in figure.findobj(Text))
        draw(figure)
