import errno
import logging
import signal
import sys
import types
from pathlib import Path

import pytest
import torch

import maskatlas
from command_line import call, ended, start
from maskatlas.cli import VERBS
from maskatlas.errors import ConfigError, RunError
from maskatlas.interruption import Interrupted

FULL = OSError(errno.ENOSPC, "No space left on device", "/data/atlas.json")


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """A verb `fake` that does what a test gives it to do."""
    given = types.SimpleNamespace(verbose=False, quiet=False, run=lambda: None)
    module = types.ModuleType("maskatlas.cli.fake")
    module.parse = lambda words, prog: given  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "maskatlas.cli.fake", module)
    monkeypatch.setitem(VERBS, "fake", "what a test gives it to do")
    return given


def raising(error: BaseException):
    def run() -> None:
        raise error

    return run


def test_help_names_every_verb_and_goes_to_stdout() -> None:
    for words in (["--help"], ["-h"], ["help"]):
        answer = call(*words)
        assert answer.code == 0
        assert answer.err == ""
        for name, purpose in VERBS.items():
            assert f"{name}  " in answer.out
            assert purpose in answer.out
    assert "usage: maskatlas VERB" in answer.out


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_a_help(name: str) -> None:
    answer = call(*name.split(), "--help")
    assert answer.code == 0
    assert answer.err == ""
    assert f"usage: maskatlas {name} " in answer.out
    assert "--verbose" in answer.out


def test_the_version() -> None:
    assert call("--version") == (0, f"maskatlas {maskatlas.__version__}\n", "")


def test_help_and_version_import_no_torch() -> None:
    calls = [["--help"], ["--version"], ["data"], *([*name.split(), "--help"] for name in VERBS)]
    code = (
        "import sys\nfrom maskatlas.cli import main\n"
        f"codes = [main(words) for words in {calls}]\n"
        "heavy = ('torch', 'numpy', 'matplotlib', 'sklearn', 'scipy')\n"
        "print(codes, [name for name in heavy if name in sys.modules])\n"
    )
    answer = ended(start("-c", code))
    codes = [0, 0, 2, *(0 for _ in VERBS)]
    assert answer.out.splitlines()[-1] == f"{codes} []", answer.err


def test_a_family_of_verbs_alone_lists_them() -> None:
    answer = call("data")
    assert (answer.code, answer.out) == (2, "")
    assert "data check" in answer.err
    assert "analyze" not in answer.err.split("examples:")[0]
    assert call("data", "--help").code == 0
    assert "data check" in call("data", "--help").out
    answer = call("data", "chekc", "x")
    assert answer.code == 2
    assert "no verb 'data chekc'; did you mean data check?" in answer.err


def test_without_a_verb_or_with_an_unknown_one_the_usage_is_shown() -> None:
    answer = call()
    assert (answer.code, answer.out) == (2, "")
    assert "usage: maskatlas VERB" in answer.err
    answer = call("evalute", "runs/a")
    assert answer.code == 2
    assert answer.err.endswith("no verb 'evalute'; did you mean evaluate?\n")
    assert call("prune", "x").err.endswith("no verb 'prune'\n")


@pytest.mark.parametrize(
    "words",
    [
        ["train"],
        ["train", "--out", "x", "--no-such-flag", "1"],
        ["train", "--out", "x", "--train.epochs", "many"],
        ["train", "--out", "x", "--train.epochs", "0"],
        ["train", "--out", "x", "--model.extractor", "resnet"],
        ["train", "--out", "x", "--preset", "nope"],
        ["train", "--out", "x", "--config", "nowhere.toml"],
        ["analyze"],
        ["evaluate", "x", "y"],
        ["evaluate", "x", "--limit", "few"],
        ["predict", "x"],
        ["explain", "x"],
        ["report"],
        ["data", "check"],
    ],
    ids=" ".join,
)
def test_errors_of_usage_exit_with_2(words: list[str], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    answer = call(*words)
    assert answer.code == 2, answer
    assert answer.out == ""
    assert answer.err
    assert "Traceback" not in answer.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (RunError("runs/a: no"), 1, "runs/a: no"),
        (ConfigError("key: no"), 2, "key: no"),
        (FULL, 1, "/data/atlas.json: No space left on device; make room, then try again"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 1, "/x: Permission denied"),
        (MemoryError(), 1, "not enough memory; "),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 1, "not enough"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to"), 1, "not enough memory; "),
        (KeyboardInterrupt(), 130, "stopped by SIGINT"),
        (Interrupted(signal.SIGINT), 130, "stopped by SIGINT"),
        (Interrupted(signal.SIGTERM), 143, "stopped by SIGTERM"),
    ],
    ids=repr,
)
def test_what_goes_wrong_outside_of_us_is_one_line(
    verb: types.SimpleNamespace, error: BaseException, code: int, told: str
) -> None:
    verb.run = raising(error)
    answer = call("fake")
    assert (answer.code, answer.out) == (code, "")
    assert answer.err.startswith(f"maskatlas fake: {told}")
    assert answer.err.count("\n") == 1


def test_where_it_went_wrong_is_told_only_if_asked(verb: types.SimpleNamespace) -> None:
    verb.run, verb.verbose = raising(FULL), True
    answer = call("fake")
    assert answer.code == 1
    assert "where it came from:\nTraceback" in answer.err
    assert answer.err.endswith(
        "/data/atlas.json: No space left on device; make room, then try again\n"
    )


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), AssertionError(), KeyError(1)])
def test_our_own_mistakes_are_not_hidden(verb: types.SimpleNamespace, error: BaseException) -> None:
    verb.run = raising(error)
    with pytest.raises(type(error)):
        call("fake")


@pytest.mark.parametrize(("result", "code"), [(None, 0), (0, 0), (1, 1)])
def test_a_verb_says_the_exit_code(verb: types.SimpleNamespace, result: int, code: int) -> None:
    verb.run = lambda: result
    assert call("fake").code == code


def test_handlers_of_signals_are_put_back(verb: types.SimpleNamespace) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    seen = []
    verb.run = lambda: seen.append(signal.getsignal(signal.SIGTERM))
    call("fake")
    assert seen[0] is not before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_how_much_is_said(verb: types.SimpleNamespace) -> None:
    def run() -> None:
        for level in (logging.DEBUG, logging.INFO, logging.WARNING):
            logging.getLogger("maskatlas.somewhere").log(level, logging.getLevelName(level))

    verb.run = run
    assert call("fake").err == "INFO\nWARNING\n"
    verb.quiet = True
    assert call("fake").err == "WARNING\n"
    verb.quiet, verb.verbose = False, True
    assert call("fake").err == "DEBUG\nINFO\nWARNING\n"


SLEEPING = """
import sys, time
import maskatlas.atlas_making as making
from maskatlas.cli import main

def analyze(*_, **__):
    print("ready", flush=True)
    time.sleep(600)

making.analyze = analyze
sys.exit(main(["analyze", sys.argv[1]]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_verb_that_is_stopped_says_so_and_leaves_nothing(
    number: signal.Signals, own_run: Path
) -> None:
    process = start("-c", SLEEPING, own_run)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    before = sorted(own_run.rglob("*"))
    process.send_signal(number)
    answer = ended(process)
    assert answer == (128 + number, "", f"maskatlas analyze: stopped by {number.name}\n")
    assert sorted(own_run.rglob("*")) == before


LOUD = """
import sys
from maskatlas import cli

class Verb:
    verbose = quiet = False
    def run(self):
        print("x" * 100_000)
        print("y" * 100_000)

import types
module = types.ModuleType("maskatlas.cli.fake")
module.parse = lambda words, prog: Verb()
sys.modules["maskatlas.cli.fake"] = module
cli.VERBS["fake"] = ""
sys.exit(cli.main(["fake"]))
"""


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    with start("-c", LOUD) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(10) == "x" * 10
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_output_that_cannot_be_written_is_told() -> None:
    with open("/dev/full", "w") as full:
        answer = ended(start("-c", LOUD, stdout=full.fileno()))
    assert answer.code == 1
    assert answer.err.startswith("maskatlas fake: standard output: No space left on device")
    assert answer.err.count("\n") == 1
