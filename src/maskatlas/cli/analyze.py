"""``maskatlas analyze``."""

from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from maskatlas.cli.runs import OnData, is_first_process, progress_wanted


@dataclass(frozen=True, kw_only=True)
class Analyze(OnData):
    """Draw the atlas of a run: mask statistics, correlations, groups, importance.

    Writes RUN/atlas/: arrays, CSV tables and figures.
    """

    top: int = 3
    """Channels of each attribute that are shown."""
    drop_images: int = 1000
    """Images on which each channel is set to its mean, to see what it causes; 0 leaves it out."""

    replicates: int = 200
    """Bootstrap replicates over people, or images: how sure all this is; 0 leaves it out."""
    seed: int = 0
    """Of the replicates."""

    def run(self) -> None:
        """Analyze, save, and say where the atlas is."""
        from maskatlas import distributed
        from maskatlas.atlas_making import analyze
        from maskatlas.figures import save_figures

        network = self.network()
        with distributed.process_group(next(network.parameters()).device):
            atlas = analyze(
                network,
                self.dataset(),
                top=self.top,
                drop_images=self.drop_images,
                replicates=self.replicates,
                seed=self.seed,
                progress=progress_wanted(self),
            )
        if is_first_process():
            folder = self.run_folder / "atlas"
            atlas.save(folder)
            save_figures(atlas, folder)
            print(folder)  # noqa: T201


def parse(words: Sequence[str], prog: str) -> Analyze:
    """Parse the command line after the verb."""
    return tyro.cli(Analyze, args=words, prog=prog)
