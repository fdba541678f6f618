"""What the verbs that read a run folder share: its network, its settings, its data."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from maskatlas.cli import Talk
from maskatlas.config import PRESETS, Config, load_toml
from maskatlas.errors import RunError

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
        return load_toml(path, PRESETS["celeba-64"])

    def network(self) -> "AttributeNetwork":
        """Load the run's network onto the device.

        Raises:
            RunError: The run has no model yet.
            CheckpointError: The model is damaged.
        """
        from maskatlas.devices import choose_device
        from maskatlas.model import AttributeNetwork

        folder = self.run_folder / "model"
        if not folder.is_dir():
            raise RunError(
                f"{self.run_folder}: no model in it yet; it is written after the first epoch of "
                "`maskatlas train`"
            )
        return AttributeNetwork.from_pretrained(folder).to(choose_device(self.device))


@dataclass(frozen=True, kw_only=True)
class OnData(OnRun):
    """A verb that runs a network over a dataset."""

    data: str | None = None
    """Another dataset than the run's own: a folder, or ``faces``."""
    split: str | None = None
    """``train``, ``val``, ``test`` or ``all``; by default the run's validation split, and all of
    another dataset."""
    limit: int | None = None
    """Use at most so many images."""

    def dataset(self) -> "AttributeDataset":
        """Open what the flags, or else the run, say.

        Raises:
            DataError: It cannot be read, or there is no such split.
        """
        from maskatlas.sources import open_dataset
        from maskatlas.training_data import open_data

        settings = self.settings()
        limit = settings.limit if self.limit is None and self.data is None else self.limit
        if self.data is None and self.split is None:
            return open_data(replace(settings, limit=limit)).validation
        return open_dataset(
            settings.data.path if self.data is None else self.data,
            split=None if self.split == "all" else self.split,
            exclude=settings.data.exclude if self.data is None else None,
            ignore=settings.data.ignore if self.data is None else (),
            limit=limit,
            faces=settings.data.faces,
        )


def progress_wanted(verb: Talk) -> bool:
    """Return whether progress is shown: not when asked to be quiet; bars need a terminal anyway."""
    return not verb.quiet


def is_first_process() -> bool:
    """Return whether this process is the one that writes: torchrun's number 0, or the only one."""
    return os.environ.get("RANK", "0") == "0"
