import json
import math

import pytest
import torch

from maskatlas.bench.measuring import Clock, Timing
from maskatlas.bench.results import Case, Form, Row, compare, measure_once, short

CPU = torch.device("cpu")


class Ticking:
    """Calls that take known time by a clock of their own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ran: list[str] = []
        self.clock = Clock("made up", lambda: self.now)

    def form(self, name: str, seconds: float, **more: object) -> Form:
        def call() -> None:
            self.ran.append(name)
            self.now += seconds

        return Form(name, call, **more)


def compared(rounds: int = 3) -> tuple[Case, Ticking]:
    ticking = Ticking()
    case = compare(
        "a title",
        {"batch": 10},
        [
            ticking.form("ours", 0.5, errors={"x": 1e-7, "y": 2e-7}, tolerance=1e-6),
            ticking.form("loop", 2.0, baseline=True, note="by hand"),
            ticking.form("other", 1.0, baseline=True, images=20),
            Form("absent", None, baseline=True, note="not installed"),
        ],
        images=10,
        rounds=rounds,
        device=CPU,
        clock=ticking.clock,
    )
    return case, ticking


def test_each_form_is_warm_before_it_is_timed_and_ratios_are_to_every_other_baseline():
    case, ticking = compared()
    assert ticking.ran == ["ours", "loop", "other"] * 5  # warm, memory, three rounds
    ours, loop, other, absent = case.rows
    assert ours.timing == Timing((0.5,) * 3)
    assert ours.ratios == {"loop": 4.0, "other": 2.0}
    assert loop.ratios == {"other": 0.5}
    assert other.ratios == {"loop": 2.0}
    assert (absent.timing, absent.peak, absent.ratios) == (None, None, {})


def test_json_has_the_same_keys_for_every_row_and_none_for_what_did_not_run():
    case, _ = compared()
    plain = json.loads(json.dumps(case.to_json(), allow_nan=False))
    assert list(plain) == ["title", "case", "clock", "rows"]
    assert plain["clock"] == "made up"
    ours, loop, other, absent = plain["rows"]
    assert list(ours) == list(absent) == [
        *("name", "baseline", "images", "median_seconds", "spread_seconds", "seconds"),
        *("images_per_second", "peak_bytes", "times_as_fast_as", "relative_errors"),
        *("tolerance", "agrees", "note"),
    ]  # fmt: skip
    assert (ours["images_per_second"], other["images_per_second"]) == (20.0, 20.0)
    assert (ours["median_seconds"], ours["spread_seconds"], ours["seconds"]) == (0.5, 0, [0.5] * 3)
    assert (ours["agrees"], loop["agrees"]) == (True, None)
    assert (absent["median_seconds"], absent["images_per_second"]) == (None, None)
    assert absent["note"] == "not installed"


def test_the_table_is_aligned_and_tells_what_did_not_run():
    lines = compared()[0].text().splitlines()
    assert lines[0] == "a title; made up time"
    assert len(lines) == 6
    assert lines[1].split("  ")[-2:] == ["x loop", "x other"]
    assert lines[2].split()[0] == "ours"
    assert {"500", "2.0e-07", "4.00", "2.00"} <= set(lines[2].split())
    assert lines[3].endswith("by hand")
    assert lines[5].split() == ["absent", "not", "installed"]
    end = lines[1].index("x loop") + len("x loop")
    assert lines[2][:end].endswith("4.00")


@pytest.mark.parametrize(
    ("errors", "tolerance", "agrees"),
    [
        ({"a": 1e-6}, 1e-5, True),
        ({"a": 1e-6, "b": 1e-4}, 1e-5, False),
        ({"a": float("nan")}, 1e-5, False),
        ({"a": 1.0}, None, None),
    ],
)
def test_results_that_are_wrong_are_told(errors, tolerance, agrees):
    form = Form("ours", lambda: None, errors=errors, tolerance=tolerance, note="a note")
    case = Case("t", {}, "wall", (Row(form, 1, Timing((1.0,))),))
    assert case.rows[0].agrees is agrees
    assert ("differs by more than 1e-05; a note" in case.text()) is (agrees is False)


def test_what_takes_long_runs_once():
    ticking = Ticking()
    forms = [ticking.form("few", 1.0, images=4), ticking.form("many", 8.0, images=16)]
    case = measure_once("t", {}, forms, device=CPU, clock=ticking.clock)
    assert ticking.ran == ["few", "many"]
    assert [row.timing.seconds for row in case.rows] == [(1.0,), (8.0,)]
    assert [row.images for row in case.rows] == [4, 16]
    assert "spread" not in case.text()


@pytest.mark.parametrize(
    ("number", "told"), [(0.0, "0"), (123456.0, "123456"), (1.005e-4, "0.000101"), (9.999, "10.00")]
)
def test_numbers_have_three_digits(number, told):
    assert short(number) == told


def test_an_error_that_is_no_number_is_the_largest_and_null_in_json() -> None:
    form = Form("ours", None, errors={"a": 1e-7, "b": math.nan}, tolerance=1e-5)
    assert math.isnan(form.largest_error)
    row = Row(form, 1)
    assert row.agrees is False
    assert row.to_json()["relative_errors"] == {"a": 1e-7, "b": None}
