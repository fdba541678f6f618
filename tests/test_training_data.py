import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from layouts import truth, write_table
from maskatlas.config import Config
from maskatlas.errors import ConfigError, DataError
from maskatlas.training_data import Data, hold_out, open_data
from small_runs import small_config


def table(folder: Path, splits: list[str], identities: list[Any] | None = None) -> Path:
    known = truth(len(splits))
    known.splits = splits
    if identities is not None:
        known.identities = identities
    return write_table(folder, known)


def opened(root: Path, **train: object) -> Data:
    config = small_config(**train)  # type: ignore[arg-type]
    return open_data(replace(config, data=replace(config.data, path=str(root))))


def test_splits_are_as_the_data_has_them(tmp_path: Path) -> None:
    root = table(tmp_path, ["train"] * 5 + ["val"] * 3 + ["test"] * 4)
    data = opened(root)
    assert data.training.names == tuple(f"{n:06d}.jpg" for n in range(1, 6))
    assert data.validation.names == tuple(f"{n:06d}.jpg" for n in range(6, 9))
    assert (data.training.split, data.validation.split) == ("train", "val")


@pytest.mark.parametrize("splits", [("train", "val"), ("training", "valid"), ("1", "0")])
def test_the_papers_protocol_trains_on_both(tmp_path: Path, splits: tuple[str, ...]) -> None:
    root = table(tmp_path, ["train"] * 5 + ["val"] * 3 + ["test"] * 4)
    data = opened(root, splits=splits)
    assert (len(data.training), len(data.validation)) == (8, 3)
    assert data.training.split == ",".join(splits)


def test_without_a_validation_split_a_tenth_is_held_out_people_kept_together(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "maskatlas")
    people = [1 + place // 3 for place in range(300)]
    root = table(tmp_path, ["train"] * 300, people)
    data = opened(root)
    known, apart = (
        {int(person) for person in part.identities}  # type: ignore[union-attr]
        for part in data
    )
    assert known.isdisjoint(apart)
    assert len(known) + len(apart) == 100
    assert 3 <= len(apart) <= 20
    assert len(data.validation) == 3 * len(apart)
    assert f"no split 'val': {len(data.validation)} images held out" in caplog.text
    again = opened(root)
    assert again.fingerprint == data.fingerprint


def test_who_is_held_out_does_not_depend_on_who_else_is_there(tmp_path: Path) -> None:
    people = list(range(1, 101))
    whole = opened(table(tmp_path / "whole", ["train"] * 100, people)).validation
    half = opened(table(tmp_path / "half", ["train"] * 50, people[:50])).validation
    assert half.names == tuple(name for name in whole.names if int(name[:6]) <= 50)


def test_where_nobody_is_known_images_are_held_out_by_name(tmp_path: Path) -> None:
    data = opened(table(tmp_path, ["train"] * 100, [""] * 100))
    assert 3 <= len(data.validation) <= 20
    assert len(data.training) + len(data.validation) == 100


def test_too_few_images_to_hold_some_out_is_an_error(tmp_path: Path) -> None:
    data = opened(table(tmp_path, ["train"] * 2 + ["val"]))
    one = data.training.subset([0])
    with pytest.raises(DataError, match="1 images are too few to hold some out; add a column"):
        hold_out(one, [0])


def test_no_image_to_train_on_is_an_error_that_says_what_there_is(tmp_path: Path) -> None:
    root = table(tmp_path, ["val"] * 3 + ["test"] * 3)
    with pytest.raises(DataError, match="leaves no image to train on; the data has test, val"):
        opened(root)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"splits": ("train", "vla")}, "train.splits: expected train, val, test, found 'vla'"),
        ({"validation": "dev"}, "train.validation: expected train, val, test, found 'dev'"),
    ],
)
def test_a_split_that_is_none_is_an_error(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_data(small_config(**changes))  # type: ignore[arg-type]
    assert named in str(caught.value)


def test_the_fingerprint_changes_with_names_labels_and_order(tmp_path: Path) -> None:
    base = opened(table(tmp_path, ["train"] * 5 + ["val"] * 3 + ["test"] * 4))
    training = base.training
    renamed = replace(training, names=("other", *training.names[1:]))
    labels = training.labels.clone()
    labels[2, 1] = 1 - labels[2, 1]
    others = [
        base._replace(training=renamed),
        base._replace(training=replace(training, labels=labels)),
        base._replace(training=training.subset([1, 0, 2, 3, 4])),
        base._replace(validation=base.validation.subset([0, 1])),
        base._replace(training=replace(training, attributes=("Bald", *training.attributes[1:]))),
        Data(base.validation, training),
    ]
    prints = [base.fingerprint, *(other.fingerprint for other in others)]
    assert len(set(prints)) == len(prints)
    assert base._replace(training=training.subset([0, 1, 2, 3, 4])).fingerprint == prints[0]


def test_the_limit_is_that_of_each_split() -> None:
    config: Config = replace(small_config(), limit=7)
    data = open_data(config)
    assert (len(data.training), len(data.validation)) == (7, 7)
