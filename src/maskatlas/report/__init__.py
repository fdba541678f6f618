"""One self-contained ``report.html`` from a run folder: what was trained, is it right, and why."""

import datetime
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskatlas._version import __version__
from maskatlas.errors import RunError
from maskatlas.files import write_atomically
from maskatlas.importance import DISAGREE
from maskatlas.report import summary
from maskatlas.report.accuracy import COLUMNS, accuracy_facts
from maskatlas.report.atlas import atlas_facts, no_atlas_facts
from maskatlas.report.history import history_facts
from maskatlas.report.judged import judged_facts
from maskatlas.report.page import DASH, render_page
from maskatlas.report.plots import draw_figures
from maskatlas.report.run import ALL, Run, read_run
from maskatlas.report.where import where_facts
from maskatlas.schema import to_mapping
from maskatlas.statistics import ACTIVE, OUT

__all__ = ["write_report"]


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the page; its template has the name of its id."""

    id: str
    title: str


SECTIONS = (
    Section("summary", "Summary"),
    Section("accuracy", "How right it is"),
    Section("overlays", "Where the channels look"),
    Section("grids", "Which channel serves which attribute"),
    Section("channels", "Channels that belong together"),
    Section("attributes", "Attributes that belong together"),
    Section("groups", "Groups of attributes"),
    Section("importance", "Which channels matter"),
    Section("pairs", "What two attributes share"),
    Section("explanations", "Do explanations hold"),
    Section("training", "Training and health of the masks"),
    Section("configuration", "Configuration"),
    Section("definitions", "What each number means"),
)


def write_report(run_dir: Path | str) -> Path:
    """Write ``report.html`` from what the run folder holds, and its figures as PNG files.

    The page is one file: it needs no server, asks the network for nothing and works without
    JavaScript. A part that is missing is named, with the command that makes it.

    Args:
        run_dir: The run folder.

    Returns:
        Path of the report.

    Raises:
        RunError: The folder is no run folder, one of its files is damaged, or it cannot be
            written to.
    """
    run = read_run(Path(run_dir))
    path = run.folder / "report.html"
    try:
        write_atomically(path, render_page(_facts(run)).encode())
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror}); nothing changed") from error
    return path


def _facts(run: Run) -> dict[str, Any]:
    """Return everything that the templates refer to."""
    right, trained = accuracy_facts(run), history_facts(run)
    atlas = no_atlas_facts(run) if run.atlas is None else atlas_facts(run.atlas)
    verdicts = summary.health(run, right, trained, dict(atlas["agreement"]))
    return {
        **atlas,
        **draw_figures(run, right.classifier if right else None),
        "accuracy": right,
        "against": sum(row.kind == "against" for row in atlas["disagreements"]),
        "command_path": shlex.quote(str(run.folder)),
        "config": run.config,
        "data_name": _last_part(run.config.data.path) if run.config else "",
        "duration": _duration(trained.seconds if trained else None),
        "entangled": summary.entangled(atlas["pairs"]),
        "evaluated_on": _last_part(run.evaluation.data) if run.evaluation else "",
        "evaluation": run.evaluation,
        "health": verdicts,
        "history": trained,
        "judged": judged_facts(run.evaluation.judgements if run.evaluation else None),
        "next_steps": summary.next_steps(
            run, right, verdicts, atlas["disagreements"], atlas["pairs"]
        ),
        "overlap": _overlap(run),
        "pointing": run.evaluation and run.evaluation.pointing,
        "published_titles": tuple(COLUMNS.values()),
        "run": run,
        "sections": SECTIONS,
        "settings": tuple(_settings(to_mapping(run.config))) if run.config else (),
        "thresholds": {
            "active": ACTIVE,
            "out": OUT,
            "agreement": DISAGREE,
            "ranked": summary.RANKED,
            "weak": summary.WEAK,
        },
        "timid": summary.timid(right),
        "title": run.folder.resolve().name,
        "version": __version__,
        "weak": summary.weak(right),
        "where": where_facts(run.evaluation.where if run.evaluation else None, run.cases),
        "written": f"{datetime.datetime.now().astimezone():%d %B %Y}",
    }


def _last_part(path: str) -> str:
    """Return what a dataset is called: the last part of its path."""
    return Path(path).name or path


def _overlap(run: Run) -> bool:
    """Return whether the network was scored on a split that it was trained on."""
    if run.config is None or run.evaluation is None:
        return False
    return run.evaluation.split in (*run.config.train.splits, ALL)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} seconds"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _settings(mapping: Mapping[str, Any], inside: str = "") -> Iterator[tuple[str, str]]:
    """Yield every setting by its dotted key."""
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{inside}{key}.")
        elif isinstance(value, list | tuple):
            yield f"{inside}{key}", ", ".join(map(str, value)) or DASH
        else:
            yield f"{inside}{key}", DASH if value is None else str(value)
