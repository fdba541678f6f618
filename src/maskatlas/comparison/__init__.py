"""Every system that the paper names, on the same data, under the same judge.

One system a file; each says in its docstring what it follows and where it departs. From Python a
network is built by its file's ``build``, a comparison run by :func:`compare`, and what a comparison
trained is opened by :func:`open_network`.
"""

from pathlib import Path

from maskatlas.comparison.backbone import BackboneSystem
from maskatlas.comparison.catalogue import find_systems, systems
from maskatlas.comparison.comparing import compare, system_of
from maskatlas.comparison.system import NetworkSystem
from maskatlas.errors import ConfigError
from maskatlas.model import AttributeNetwork

__all__ = ["compare", "find_systems", "open_network", "system_of", "systems"]


def open_network(system: str, folder: Path | str) -> AttributeNetwork:
    """Read the model folder of a system's network, in eval mode.

    Args:
        system: Its name, such as ``abn``; :func:`system_of` tells that of a folder.
        folder: The folder ``model`` in the system's own.

    Raises:
        ConfigError: There is no such system, or it is no network.
        CheckpointError: The folder holds no model, a damaged one, or that of another system.
    """
    (found,) = find_systems([system])
    if not isinstance(found, NetworkSystem | BackboneSystem):
        raise ConfigError(f"system {system!r}: expected one that is a network of one training run")
    return found.open(Path(folder))
