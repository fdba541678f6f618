import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from maskatlas import __version__

ROOT = Path(__file__).resolve().parents[1]


def run(*command: str | Path, cwd: Path) -> str:
    """The standard output of a command that must succeed, run as if nothing of ours was around."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    ran = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, f"{command}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(
        *(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT),
        cwd=folder,
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment that holds the wheel.

    What the wheel depends on is looked up in the environment of the tests, which saves minutes; the
    project itself cannot be found there, since links to editable projects are not followed.
    """
    folder = tmp_path_factory.mktemp("elsewhere") / "environment"
    venv.create(folder, with_pip=False, symlinks=True)
    programs = folder / "bin"
    run(
        *(sys.executable, "-m", "pip", "--python", programs / "python", "install", "--quiet"),
        *("--no-index", "--no-deps", "--disable-pip-version-check", wheel),
        cwd=folder,
    )
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(run(programs / "python", "-c", code, cwd=folder).strip())
    dependencies = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (packages / "dependencies.pth").write_text("\n".join(dependencies))
    return programs


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    source = ROOT / "src"
    ours = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    names = set(zipfile.ZipFile(wheel).namelist())
    metadata = {name for name in names if name.startswith(f"maskatlas-{__version__}.dist-info/")}
    assert names - metadata == ours
    assert "maskatlas/py.typed" in names
    assert any(name.endswith(".html") for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in metadata)


def test_the_installed_package_is_the_wheels_and_complete(installed: Path, tmp_path: Path) -> None:
    code = (
        "import importlib.resources, maskatlas\n"
        "folder = importlib.resources.files('maskatlas')\n"
        "print(maskatlas.__file__)\n"
        "for name in ('py.typed', 'table3.csv', 'templates'):\n"
        "    assert folder.joinpath(name).is_file() or [*folder.joinpath(name).iterdir()], name\n"
        "for name in maskatlas.__all__:\n"
        "    getattr(maskatlas, name)\n"
    )
    found = Path(run(installed / "python", "-c", code, cwd=tmp_path).strip())
    assert found.is_relative_to(installed.parent)
    assert not found.is_relative_to(ROOT)


def test_the_program_says_its_version(installed: Path, tmp_path: Path) -> None:
    for command in ([installed / "maskatlas"], [installed / "python", "-m", "maskatlas"]):
        assert __version__ in run(*command, "--version", cwd=tmp_path)


def test_help_does_not_wait_for_the_heavy_libraries(installed: Path, tmp_path: Path) -> None:
    heavy = ("torch", "sklearn", "scipy", "matplotlib", "jinja2", "h5py", "pyarrow")
    code = (
        "import sys\n"
        "sys.argv = ['maskatlas', '--help']\n"
        "from maskatlas.cli import main\n"
        "try:\n"
        "    status = main()\n"
        "except SystemExit as stop:\n"
        "    status = stop.code\n"
        "assert not status, status\n"
        f"print('loaded', [name for name in {heavy} if name in sys.modules])\n"
    )
    printed = run(installed / "python", "-c", code, cwd=tmp_path)
    assert "demo" in printed
    assert printed.splitlines()[-1] == "loaded []"


@pytest.mark.slow
def test_a_tiny_demo_runs_where_the_project_is_only_installed(
    installed: Path, tmp_path: Path
) -> None:
    run(installed / "maskatlas", "demo", "--limit", "80", "--train.epochs", "1", cwd=tmp_path)
    folder = tmp_path / "runs" / "demo"
    report = (folder / "report.html").read_text()
    assert "</html>" in report
    for name in ("config.toml", "model/model.safetensors", "evaluation.json"):
        assert (folder / name).is_file(), name


def requirements() -> set[str]:
    """The names of all that the project asks for, its extras included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    required = [*project["dependencies"], *(line for extra in extras for line in extra)]
    return {re.split(r"[^A-Za-z0-9_.-]", line)[0].lower() for line in required} - {"maskatlas"}


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = (line.split("==") for line in lines if not line.startswith("#"))
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pinned}


def test_every_requirement_is_pinned_for_the_tests() -> None:
    assert requirements() <= pins().keys()


def test_the_pins_are_what_the_tests_run_with() -> None:
    if not (Path(sys.prefix) / "installed-dev").exists():
        pytest.skip("not in the environment of `make test`")
    for name, version in pins().items():
        if name == "timm":  # it brings torchvision, which does not fit the build without CUDA
            continue
        assert importlib.metadata.version(name).split("+")[0] == version, name


def test_both_commands_are_described_and_nothing_but_make_test_decides() -> None:
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    for target in ("demo", "test"):
        commands = run(make, "--dry-run", "--always-make", target, cwd=ROOT)
        assert "--constraint constraints.txt" in commands
        assert f"torch=={pins()['torch']}" in commands
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("\nexec make test")


def test_the_citation_has_the_version() -> None:
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()
