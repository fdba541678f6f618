import json

import numpy as np
import pytest
from PIL import Image

from maskatlas.errors import ConfigError
from maskatlas.explanations import explain_image
from maskatlas.explanations.words import ChannelWords, SpokenAnswer, SpokenChannel, read_words
from networks import make_network

WORDS = ChannelWords(
    concepts=("nose", "Smiling", "Male", "Smiling"),
    kinds=("part", "attribute", "attribute", "part"),
    iou=np.array([[0.3, 0.1, 0, 0], [0.1, 0.2, 0.1, 0], [0, 0.01, 0.03, 0], [0, 0, 0.5, 0.1]]),
    thresholds=np.array([1.0, 2.0, 3.0, 4.0]),
    shared=np.array([[1, 0.6, 0.2, 0], [0.6, 1, 0.49, 0], [0.2, 0.49, 1, 0], [0, 0, 0, 1.0]]),
    least_iou=0.04,
    images=10,
)


def test_a_channel_is_called_after_what_it_covers_best() -> None:
    assert [WORDS.word(channel) for channel in range(4)] == ["nose", "Smiling", None, "Male"]


def test_an_answer_in_words() -> None:
    highest = np.array([1.5, 1.5, 9.0, 4.0])
    scores = {"Smiling": 0.4, "Male": 0.9}
    answer = read_words(WORDS, "Smiling", {3: -2.0, 0: 1.0, 1: 0.5, 2: 0.25}, highest, scores)
    male, nose, smiling, nameless = answer.channels
    assert (male.word, male.iou, male.contribution) == ("Male", 0.5, -2.0)
    # On its threshold it is silent, though the network sees a man; and men are elsewhere.
    assert (male.active, male.agrees_with_input, male.agrees_with_answer) == (False, False, False)
    assert (nose.active, nose.agrees_with_input, nose.agrees_with_answer) == (True, None, True)
    assert smiling.agrees_with_input is True  # silent, and nobody smiles
    assert smiling.agrees_with_answer is True
    assert (nameless.word, nameless.iou, nameless.active) == (None, None, True)
    assert (nameless.agrees_with_input, nameless.agrees_with_answer) == (None, None)
    assert answer.with_input == pytest.approx(0.5 / 2.5)
    assert answer.with_answer == pytest.approx(1.5 / 3.5)
    assert json.loads(json.dumps(answer.to_json()))["channels"][1]["word"] == "nose"


def test_agreement_that_nothing_can_be_said_of() -> None:
    silent = SpokenChannel(0, 1.0, None, None, True, None, None)
    assert np.isnan(SpokenAnswer((silent,)).with_input)
    assert SpokenAnswer((silent,)).to_json()["with_answer"] is None


def test_an_attribute_without_a_region_has_no_place() -> None:
    assert WORDS.looks_where(0, "Young") is None
    assert WORDS.looks_where(2, "Smiling") is False


def test_an_image_in_words_names_the_channels_that_it_shows() -> None:
    network = make_network(["Smiling", "Male", "Young"], channels=4)
    random = np.random.default_rng(0)
    picture = Image.fromarray(random.integers(0, 256, (40, 40, 3), dtype=np.uint8))
    plain = explain_image(network, picture, "photo", top=2)
    found = explain_image(network, picture, "photo", top=2, words=WORDS)
    assert plain.words is None
    assert "words" not in plain.to_json()["attributes"]["Male"]
    assert found.words is not None
    features = network(network.preprocess(picture)[None]).features[0]
    for row, answer in enumerate(found.words):
        ids = [channel.channel for channel in answer.channels]
        assert ids == found.channels[row].tolist()
        added = [channel.contribution for channel in answer.channels]
        np.testing.assert_allclose(added, found.channel_contributions[row])
        assert list(answer.names) == [WORDS.word(channel) for channel in ids]
        for channel in answer.channels:
            highest = features[channel.channel].max().item()
            assert channel.active == (highest > WORDS.thresholds[channel.channel])
    numbers = found.to_json()["attributes"][found.attributes[0]]
    assert numbers["words"] == found.words[0].to_json()


def test_words_of_another_network_are_refused() -> None:
    with pytest.raises(ConfigError, match="5 channels, found those of 4"):
        explain_image(make_network(channels=5), Image.new("RGB", (8, 8)), "photo", words=WORDS)
