"""What the verbs that read a run folder share: its network, its settings, its data."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from maskatlas.cli import Talk
from maskatlas.cli.settings import split_commas
from maskatlas.config import Config, load_run
from maskatlas.errors import ConfigError, RunError

if TYPE_CHECKING:
    from maskatlas.data import AttributeDataset
    from maskatlas.model import AttributeNetwork


@dataclass(frozen=True, kw_only=True)
class OnRun(Talk):
    """A verb that reads a run folder."""

    run_folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(name="run", metavar="RUN")]
    """The run folder."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""
    seed: int = 0
    """Of what is drawn at random; that is nothing here, the flag is there as everywhere."""
    limit: int | None = None
    """Use at most so many images, of each split where there are several."""

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"--limit: expected at least 1 image, found {self.limit}")

    def settings(self) -> Config:
        """Read the run's configuration.

        Raises:
            RunError: The folder holds no run.
        """
        path = self.run_folder / "config.toml"
        if not path.is_file():
            raise RunError(
                f"{self.run_folder}: expected a run folder, found no config.toml in it; make one "
                "with `maskatlas train --out`"
            )
        return load_run(path)

    def network(self) -> "AttributeNetwork":
        """Load the run's network onto the device; it may be one that `compare` trained.

        Raises:
            RunError: The run has no model, or not yet.
            CheckpointError: The model is damaged.
            ConfigError: The library of its backbone is not installed.
        """
        return network_of(self.run_folder, self.device)


def network_of(run: Path, device: str) -> "AttributeNetwork":
    """Load a run's network onto the device; it may be one that `compare` trained.

    Raises:
        RunError: The run has no model, or not yet.
        CheckpointError: The model is damaged.
        ConfigError: The library of its backbone is not installed.
    """
    from maskatlas.comparison import open_network, system_of
    from maskatlas.devices import choose_device
    from maskatlas.model import AttributeNetwork

    folder, system = run / "model", system_of(run)
    if not folder.is_dir():
        raise RunError(
            f"{run}: no model in it; `maskatlas train` writes one after the first epoch, and a "
            "system of a comparison that is no network has none"
        )
    network = (
        AttributeNetwork.from_pretrained(folder) if system is None else open_network(system, folder)
    )
    return network.to(choose_device(device))


@dataclass(frozen=True, kw_only=True)
class OnData(OnRun):
    """A verb that runs a network over a dataset."""

    data: str | None = None
    """Another dataset than the run's own: a folder, or ``faces``."""
    split: str | None = None
    """``train``, ``val``, ``test`` or ``all``; by default the run's validation split, and all of
    another dataset."""
    exclude: Annotated[Path | None, tyro.conf.arg(aliases=["--data.exclude"])] = None
    """File that lists images to leave out; by default the run's, with its own data."""
    ignore: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--data.ignore"])] = ()
    """Columns that are no attributes, as A,B or A B; by default the run's, with its own data."""

    def dataset(self) -> "AttributeDataset":
        """Open what the flags, or else the run, say.

        Raises:
            DataError: It cannot be read, or there is no such split.
        """
        from maskatlas.sources import open_dataset
        from maskatlas.training_data import open_data

        settings = self.settings()
        own = self.data is None
        run = settings.data
        exclude = self.exclude or (run.exclude if own else None)
        ignore = split_commas(self.ignore) or (run.ignore if own else ())
        if own and self.split is None:
            opened = replace(run, exclude=exclude and str(exclude), ignore=ignore)
            limit = settings.limit if self.limit is None else None
            validation = open_data(replace(settings, data=opened, limit=limit)).validation
            return _spread(validation, self.limit)
        return open_dataset(
            run.path if self.data is None else self.data,
            split=None if self.split == "all" else self.split,
            exclude=exclude,
            ignore=ignore,
            limit=settings.limit if own and self.limit is None else self.limit,
            faces=run.faces,
        )


def _spread(data: "AttributeDataset", limit: int | None) -> "AttributeDataset":
    """Return at most so many images, spread evenly, as ``open_dataset`` chooses them."""
    count = len(data)
    if limit is None or count <= limit:
        return data
    return data.subset([place * count // limit for place in range(limit)])


def progress_wanted(verb: Talk) -> bool:
    """Return whether progress is shown: not when asked to be quiet; bars need a terminal anyway."""
    return not verb.quiet


def is_first_process() -> bool:
    """Return whether this process is the one that writes: torchrun's number 0, or the only one."""
    return os.environ.get("RANK", "0") == "0"
