"""A run folder belongs to one configuration, from before its first step on."""

from pathlib import Path

from maskatlas import distributed
from maskatlas.config import Config, dump_toml, load_run, to_mapping
from maskatlas.errors import ConfigError, RunError
from maskatlas.files import write_atomically


def check_claim(config: Config, run: Path, *, resume: bool) -> None:
    """Make sure that the run folder is free, or holds this very run and is to be gone on with.

    Raises:
        RunError: The folder holds a run and ``resume`` is off.
        ConfigError: The run in it has another configuration.
    """
    path = run / "config.toml"
    if not path.exists():
        return
    if not resume:
        raise RunError(f"{run}: holds a run already; go on with --resume, or choose another --out")
    if changed := differences(to_mapping(load_run(path)), to_mapping(config)):
        raise ConfigError(
            f"{path}: the run was started with another configuration ({'; '.join(changed)}); "
            "resume it with the same, or choose another --out"
        )


def claim(config: Config, run: Path) -> None:
    """Write the configuration into the run folder, once every process has checked it."""
    distributed.barrier()
    path = run / "config.toml"
    if distributed.rank() == 0 and not path.exists():
        write_atomically(path, dump_toml(config).encode())


def differences(before: object, now: object, where: str = "") -> list[str]:
    """Name the keys whose values differ, but for those that change no weight."""
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            line
            for key in before
            if key not in ("device", "checkpoint_minutes")
            for line in differences(before[key], now[key], f"{where}.{key}".lstrip("."))
        ]
    if before == now:
        return []
    return [f"{where}: it has {_shown(before)}, asked for is {_shown(now)}"]


def _shown(value: object) -> str:
    """Return a value with all its digits, a whole number without its fraction."""
    return repr(value).removesuffix(".0") if isinstance(value, float) else repr(value)
