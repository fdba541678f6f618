"""What goes from data into the page: escaped for its place, and the policy that guards it."""

import base64
import hashlib
import html
import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskatlas.report.page import DASH, MINUS, count, data, fixed, name, percent, plain, policy

text = st.text(st.characters(), max_size=40)


@given(text)
def test_a_name_is_itself_once_the_browser_has_read_it(given_name: str) -> None:
    shown = str(name(given_name))
    inside = re.fullmatch(r"<bdi>(.*)</bdi>", shown, re.DOTALL)
    assert inside is not None
    without_breaks = inside[1].replace("_<wbr>", "_")
    assert "<" not in without_breaks
    assert ">" not in without_breaks
    assert '"' not in without_breaks
    assert html.unescape(without_breaks) == plain(given_name)


@given(text)
def test_plain_text_can_stand_in_html(given_name: str) -> None:
    cleaned = plain(given_name)
    assert len(cleaned) == len(given_name)
    cleaned.encode("utf-8")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", cleaned)
    assert plain(cleaned) == cleaned


@given(
    st.recursive(text | st.integers() | st.none(), lambda s: st.lists(s) | st.dictionaries(text, s))
)
def test_data_for_the_script_ends_no_block_and_comes_back(value: object) -> None:
    written = str(data(value))
    assert not re.search(r"[<>&]", written)
    assert written.isascii()
    assert json.loads(written) == value


def test_data_has_no_numbers_that_json_lacks() -> None:
    with pytest.raises(ValueError, match="JSON"):
        data(math.nan)


def test_the_policy_names_both_blocks_and_nothing_else() -> None:
    style, script = "p { color: red }", "1 + 1"
    rules = dict(rule.strip().split(" ", 1) for rule in policy(style, script).split(";"))
    assert rules.pop("default-src") == "'none'"
    assert rules.pop("img-src") == "data:"
    for block, rule in ((style, "style-src"), (script, "script-src")):
        digest = base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()
        assert rules.pop(rule) == f"'sha256-{digest}'"
    assert rules == {"base-uri": "'none'", "form-action": "'none'"}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.5, "0.50"),
        (-0.5, f"{MINUS}0.50"),
        (-0.001, "0.00"),
        (0, "0.00"),
        (math.nan, DASH),
        (None, DASH),
        (1234.5, "1234.50"),
    ],
)
def test_numbers(value: float | None, shown: str) -> None:
    assert fixed(value) == shown


def test_shares_and_counts() -> None:
    assert percent(0.90173, 2) == "90.17"
    assert percent(math.nan) == DASH
    assert fixed(0.25, sign=True) == "+0.25"
    assert count(202599) == "202,599"
