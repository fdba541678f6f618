"""The report in a real browser: nothing complains, nothing is asked for, everything is seen."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from browser import Browser, Visit, find_chromium
from maskatlas.report import write_report
from maskatlas.report.comparison import write_comparison
from maskatlas.report.shortcuts import write_shortcuts
from networks import make_dataset
from sample_run import HOSTILE, make_run, names
from trials import made_up_comparison, made_up_trial

OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
BLIND = "[...document.images].filter(i => !(i.complete && i.naturalWidth)).length"
MAIN = "document.querySelector('main').clientWidth"
UNSEEN = """(() => {
  for (const closed of document.querySelectorAll('details')) closed.open = true;
  return [...document.images].filter(i => {
    const { width, height } = i.getBoundingClientRect();
    return width < 4 || height < 4 || !i.checkVisibility({ visibilityProperty: true });
  }).length;
})()"""

WRONG = {
    "console error": "<script>console.error('x')</script>",
    "exception": "<script>throw new Error('x')</script>",
    "late exception": "<script>setTimeout(() => { throw new Error('x') }, 60)</script>",
    "rejected promise": "<script>Promise.reject(new Error('x'))</script>",
    "dialog": "<script>alert(1)</script>",
    "image from elsewhere": '<img src="http://127.0.0.1:9/a.png">',
    "fetch": "<script>fetch('http://127.0.0.1:9/').catch(() => {})</script>",
    "beacon": "<script>navigator.sendBeacon('http://127.0.0.1:9/')</script>",
    "socket": "<script>new WebSocket('ws://127.0.0.1:9/')</script>",
    "frame": '<iframe src="http://127.0.0.1:9/"></iframe>',
    "font": "<style>@font-face{font-family:f;src:url(http://127.0.0.1:9/f)}p{font-family:f}</style>",
    "style sheet": '<link rel="stylesheet" href="http://127.0.0.1:9/a.css">',
    "file beside it": '<img src="beside.png">',
    "refused script": "<meta http-equiv=Content-Security-Policy content=\"script-src 'none'\">"
    "<script>1</script>",
    "refused style": "<meta http-equiv=Content-Security-Policy content=\"style-src 'none'\">"
    '<p style="color:red">',
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium here: what the report does in a browser is not tested")
    with Browser(program) as running:
        yield running


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_run(tmp_path_factory.mktemp("plain") / "run", attributes=names(5), channels=12)
    return write_report(folder)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile") / "<script>alert(0)<script>"
    return write_report(make_run(folder, attributes=HOSTILE, judged=True))


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("comparison")
    result = made_up_comparison(make_dataset(20, ["Smiling", *HOSTILE]))
    (folder / "comparison.json").write_text(json.dumps(result))
    return write_comparison(folder)


@pytest.fixture(scope="module")
def shortcuts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    curve = made_up_trial()
    return write_shortcuts(tmp_path_factory.mktemp("trial"), curve.to_json(), curve.sights)


def assert_clean(visit: Visit) -> None:
    assert visit.complaints == []
    assert visit.requests == []


@pytest.mark.parametrize("fault", WRONG)
def test_a_page_with_a_fault_is_found_out(browser: Browser, tmp_path: Path, fault: str) -> None:
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><title>t</title><p>text</p>{WRONG[fault]}")
    with browser.visit(page, width=400) as visit:
        pass
    with pytest.raises(AssertionError):
        assert_clean(visit)


def test_a_page_without_a_fault_is_clean(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    dot = "data:image/gif;base64,R0lGODlhAQABAAAAACw="
    page.write_text(f'<!doctype html><title>t</title><script>1</script><img src="{dot}">')
    with browser.visit(page, width=400) as visit:
        pass
    assert_clean(visit)


def test_what_measures_the_page_can_fail(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        '<!doctype html><title>t</title><p style="width:500px">wide</p>'
        '<img src="data:image/png;base64,AAAA">'
    )
    with browser.visit(page, width=400) as visit:
        assert visit.evaluate(OVERFLOW) > 0
        assert visit.evaluate(BLIND) == 1
        visit.evaluate("document.images[0].style.visibility = 'hidden'")
        assert visit.evaluate(UNSEEN) == 1


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("which", ["plain", "hostile", "comparison", "shortcuts"])
def test_clean_and_whole_at_every_width_and_scheme(
    browser: Browser, which: str, width: int, dark: bool, request: pytest.FixtureRequest
) -> None:
    page = request.getfixturevalue(which)
    with browser.visit(page, width=width, dark=dark) as visit:
        assert visit.evaluate(OVERFLOW) == 0
        assert visit.evaluate(BLIND) == 0
        assert visit.evaluate(UNSEEN) == 0
        assert visit.evaluate(OVERFLOW) == 0
        assert visit.evaluate(MAIN) > 0.6 * width
    assert_clean(visit)


def test_dark_paper_has_pictures_of_its_own(browser: Browser, plain: Path) -> None:
    seen = []
    for dark in (False, True):
        with browser.visit(plain, width=1280, dark=dark) as visit:
            paper = visit.evaluate("getComputedStyle(document.body).backgroundColor")
            figure = visit.evaluate("document.querySelector('#training picture img').currentSrc")
            seen.append((paper, figure))
    assert seen[0][0] != seen[1][0]
    assert seen[0][1] != seen[1][1]


def test_hostile_names_stay_text(browser: Browser, hostile: Path) -> None:
    with browser.visit(hostile, width=1280) as visit:
        assert visit.evaluate("document.scripts.length") == 2
        assert visit.evaluate("document.styleSheets.length") == 1
        assert (
            visit.evaluate("document.querySelectorAll('img:not([src^=\"data:image/\"])').length")
            == 0
        )
        cells = "[...document.querySelectorAll('#accuracy tbody th')].map(th => th.textContent)"
        shown = visit.evaluate(cells)
        options = visit.evaluate(
            "[...document.querySelector('#pair-first').options].map(o => o.text)"
        )
        title = visit.evaluate("document.title")
    assert_clean(visit)
    for index, name in enumerate(HOSTILE):
        if name.isprintable():
            assert shown[index] == name
            assert options[index] == " ".join(name.split())
    assert title.startswith("<script>alert(0)<script>")


def test_without_script_every_number_is_still_there(browser: Browser, plain: Path) -> None:
    with browser.visit(plain, width=1280, script=False) as visit:
        assert visit.evaluate("document.querySelectorAll('.tool:not([hidden])').length") == 0
        assert visit.evaluate("document.querySelectorAll('#channel-table tbody tr').length") == 12
        assert visit.evaluate("document.querySelectorAll('button').length") == 0
    assert_clean(visit)


def test_the_channel_tool_tells_the_row_of_table_1(browser: Browser, plain: Path) -> None:
    with browser.visit(plain, width=1280) as visit:
        visit.evaluate(
            "(() => { const s = document.querySelector('#channel-choice'); s.value = '7';"
            " s.dispatchEvent(new Event('change')) })()"
        )
        told = visit.evaluate("document.querySelector('#channel-answer dd').textContent")
        row = visit.evaluate(
            "[...document.querySelectorAll('#channel-7 .ids')].map(td => td.textContent)"
        )
    assert_clean(visit)
    assert told == ", ".join(f"{id_} ({r})" for id_, r in map(str.split, row))


def test_the_pair_tool_splits_the_channels_of_any_two(browser: Browser, plain: Path) -> None:
    with browser.visit(plain, width=1280) as visit:
        visit.evaluate(
            "(() => { for (const [id, index] of [['first', 1], ['second', 3], ['reading', 2]]) {"
            " const s = document.querySelector('#pair-' + id); s.selectedIndex = index;"
            " s.dispatchEvent(new Event('change')) } })()"
        )
        both, first, second = visit.evaluate(
            "[...document.querySelectorAll('#pair-answer dd')].map(dd => dd.textContent)"
        )
        top = visit.evaluate(
            "JSON.parse(document.querySelector('#channels-of-attributes').textContent).top.drop"
        )
    assert_clean(visit)
    parts = [[] if text == "none" else list(map(int, text.split(", "))) for text in (both, first)]
    assert parts[0] == [c for c in top[1] if c in top[3]]
    assert parts[1] == [c for c in top[1] if c not in top[3]]
    assert second == (", ".join(str(c) for c in top[3] if c not in top[1]) or "none")


def test_tables_sort_by_number_and_back(browser: Browser, plain: Path) -> None:
    column = (
        "[...document.querySelector('#accuracy table').tBodies[0].rows]"
        ".map(r => r.cells[2].textContent)"
    )
    press = "document.querySelectorAll('#accuracy thead th button')[2].click()"
    with browser.visit(plain, width=1280) as visit:
        orders = []
        for _ in range(2):
            visit.evaluate(press)
            orders.append([float(text) for text in visit.evaluate(column)])
        state = visit.evaluate("document.querySelectorAll('#accuracy thead th')[2].ariaSort")
    assert_clean(visit)
    assert orders[0] == sorted(orders[0], reverse=True)
    assert orders[1] == sorted(orders[0])
    assert state == "ascending"


def test_a_link_to_a_row_opens_what_hides_it(browser: Browser, plain: Path) -> None:
    with browser.visit(plain, width=400) as visit:
        visit.evaluate("document.querySelector('#channel-3').closest('details').open = false")
        visit.evaluate("location.hash = '#channel-3'")
        visit.evaluate("new Promise(done => setTimeout(done, 50))")
        assert visit.evaluate("document.querySelector('#channel-3').checkVisibility()")
    assert_clean(visit)


def test_the_policy_stops_what_would_get_in_all_the_same(browser: Browser, plain: Path) -> None:
    with browser.visit(plain, width=1280) as visit:
        visit.evaluate(
            "(() => { const s = document.createElement('script'); s.textContent = 'window.got = 1';"
            " document.body.append(s);"
            " const img = '<img src=x onerror=\"window.got = 1\">';"
            " document.body.insertAdjacentHTML('beforeend', img);"
            " fetch('http://127.0.0.1:9/').catch(() => {}) })()"
        )
        visit.evaluate("new Promise(done => setTimeout(done, 100))")
        assert visit.evaluate("window.got === undefined")
    assert sum("Content Security Policy" in text for text in visit.complaints) >= 3
