"""What a run's channels are called: measured once, then read from the run folder."""

import hashlib
import json
from typing import TYPE_CHECKING, Any

from maskatlas.cli.runs import OnRun, progress_wanted
from maskatlas.files import write_atomically

if TYPE_CHECKING:
    from maskatlas.data import AttributeDataset
    from maskatlas.explanations.words import ChannelWords, SpokenAnswer
    from maskatlas.model import AttributeNetwork

FILE = "words.json"


def channel_words(verb: OnRun, network: "AttributeNetwork", data: str | None) -> "ChannelWords":
    """Return the words for the run's channels; measure them where the run has none of this data.

    Args:
        verb: Knows the run.
        network: The run's.
        data: Dataset with regions; None means the run's validation images.

    Raises:
        DataError: The data cannot be read, or has no regions.
    """
    from maskatlas.dissection import dissect
    from maskatlas.explanations.words import ChannelWords

    opened = _dataset(verb, data)
    key = _key(verb, opened)
    path = verb.run_folder / FILE
    try:
        found = json.loads(path.read_bytes())
        if found["of"] == key:
            return ChannelWords.from_json(found["words"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not there, or something else: measured again
    words = dissect(network, opened, progress=progress_wanted(verb))
    text = json.dumps({"of": key, "words": words.to_json()}, allow_nan=False)
    write_atomically(path, f"{text}\n".encode())
    return words


def _dataset(verb: OnRun, data: str | None) -> "AttributeDataset":
    from maskatlas.sources import open_dataset
    from maskatlas.training_data import open_data

    settings = verb.settings()
    if data is None:
        return open_data(settings).validation
    return open_dataset(data, faces=settings.data.faces)


def _key(verb: OnRun, data: "AttributeDataset") -> dict[str, Any]:
    """Return what the words depend on, as JSON has it."""
    weights = (verb.run_folder / "model" / "model.safetensors").read_bytes()
    names = "\n".join(data.names).encode(errors="surrogateescape")
    return {
        "weights": hashlib.blake2b(weights, digest_size=16).hexdigest(),
        "data": str(data.path or data.source),
        "images": hashlib.blake2b(names, digest_size=16).hexdigest(),
    }


def answer_in_words(attribute: str, score: float, answer: "SpokenAnswer") -> str:
    """Return one line: an attribute, its channels by name, and what of them agrees."""
    channels = ", ".join(
        f"{spoken.word or '-'} {spoken.contribution:+.2f} (channel {spoken.channel})"
        for spoken in answer.channels
    )
    agreeing = [
        f"{share:.0%} agrees with the {what}"
        for share, what in ((answer.with_input, "input"), (answer.with_answer, "answer"))
        if share == share  # not NaN
    ]
    return f"  {attribute} {score:.2f}: {'; '.join([channels, *agreeing])}"
