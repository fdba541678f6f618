"""What benchmarks/gpu_masked_pooling.py prints; that it measures needs a GPU."""

import importlib.util
from pathlib import Path

from maskatlas.bench.measuring import Timing
from maskatlas.bench.results import Form, Row

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_masked_pooling.py"


def test_a_form_is_a_line_with_errors_or_without() -> None:
    spec = importlib.util.spec_from_file_location("gpu_masked_pooling", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    ours = Form("masked_pool", lambda: None, errors={"a": 1e-7, "b": 3e-6})
    row = Row(ours, 4, timing=Timing((0.002,)), peak=2**20, ratios={"loop": 5.0})
    told = script.line(row, 0.001)
    assert told.split()[:6] == ["masked_pool", "2.000", "ms", "2.0", "x", "floor"]
    assert told.endswith("1 MiB  3.0e-06    5.00 x loop")
    alone = Form("three products alone", lambda: None)
    assert script.line(Row(alone, 4, timing=Timing((0.002,))), None).endswith("2.000 ms")
    absent = Form("loop", None, note="not run: too large")
    assert script.line(Row(absent, 4), 0.001).endswith("not run: too large")
