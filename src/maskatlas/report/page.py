"""Facts and templates into one HTML text that asks nothing of a network and runs only its own code.

Names come from data: Jinja escapes them wherever they stand, JSON for the script is escaped for
its place, and a content security policy lets only this page's own style and script blocks run, by
their hashes.
"""

import base64
import hashlib
import json
import math
import unicodedata
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"


def render_page(facts: Mapping[str, Any], template: str = "report/page.html") -> str:
    """Return the page.

    Args:
        facts: What the templates refer to.
        template: The one of the page as a whole.
    """
    environment = Environment(
        loader=PackageLoader("maskatlas"),
        autoescape=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {
        "name": name,
        "plain": plain,
        "percent": percent,
        "fixed": fixed,
        "count": count,
        "data": data,
    }
    style, script = (_block(environment, f"report/report.{kind}") for kind in ("css", "js"))
    page = environment.get_template(template).render(
        facts, style=style, script=script, policy=policy(style, script)
    )
    return page.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate is no character


def policy(style: str, script: str) -> str:
    """Return the content security policy: nothing but these two blocks and pictures within."""
    return (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _block(environment: Environment, template: str) -> Markup:
    """Return a style sheet or script as it stands in the page, with its line ends normal."""
    assert environment.loader is not None
    text, _, _ = environment.loader.get_source(environment, template)
    assert "</" not in text, f"{template} would end its own block"
    return Markup(text.replace("\r\n", "\n"))  # noqa: S704, it comes with the package


def _hash(block: str) -> str:
    digest = hashlib.sha256(block.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def plain(text: object) -> str:
    """Return text from data with characters that HTML cannot hold replaced."""
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if _unfit(letter) else letter for letter in str(text)
    )


def _unfit(letter: str) -> bool:
    """Whether a character is a control character (but no white space), or none at all."""
    category = unicodedata.category(letter)
    return category == "Cs" or (category == "Cc" and letter not in "\t\n")


def name(text: object) -> Markup:
    """Return a name from data as text: direction kept to itself, breaking after underscores."""
    return Markup("<bdi>{}</bdi>").format(
        Markup("_<wbr>").join(escape(part) for part in plain(text).split("_"))
    )


def percent(value: float, digits: int = 2) -> str:
    """Return a share as a number of percent, without the sign."""
    return fixed(100 * value, digits)


def fixed(value: float | int | None, digits: int = 2, *, sign: bool = False) -> str:
    """Return a number with so many digits; a dash where it is undefined."""
    if value is None or math.isnan(value):
        return DASH
    text = f"{abs(value):.{digits}f}"
    if not float(text):
        return text
    return (MINUS if value < 0 else "+" if sign else "") + text


def count(value: int) -> str:
    """Return a whole number with its thousands apart."""
    return f"{value:,}"


def data(value: object) -> Markup:
    """Return JSON for a script block: no character in it can end the block or open a comment."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)  # noqa: S704, escaped above
