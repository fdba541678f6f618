from pathlib import Path

from command_line import KEPT, Answer, call


def test_the_demo_has_written_a_report(run: Path) -> None:
    page = (run / "report.html").read_text()
    assert "</html>" in page
    for name in KEPT:
        assert name.replace("_", " ") in page or name in page


def test_a_report_is_written_from_what_is_there(own_run: Path) -> None:
    answer = call("report", own_run)
    assert answer == Answer(0, f"{own_run / 'report.html'}\n", "")
    page = (own_run / "report.html").read_text()
    assert "maskatlas analyze" in page
