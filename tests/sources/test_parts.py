from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from layouts import encoded, picture, truth, write_images, write_table
from maskatlas.errors import DataError
from maskatlas.sources import open_dataset
from maskatlas.sources.parts import CELEBAMASK_ATTRIBUTES, PARTS, read_part_table

TABLE = """
[attributes]
Smiling = ["mouth", 11]
Wearing_Hat = [14]

[parts]
mouth = 10
"""


def write_mask(path: Path, parts: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    image = Image.fromarray(parts.astype(np.uint8), "L").convert("P")
    image.putpalette([value for index in range(256) for value in (index, 255 - index, 7)])
    image.putdata(parts.ravel().tolist())
    image.save(path)


def random_parts(seed: int, height: int = 22, width: int = 18) -> np.ndarray:
    values = np.array([*range(19), 255])
    return np.random.default_rng(seed).choice(values, (height, width)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A table with masks of every image but the last."""
    known = truth()
    write_table(tmp_path, known)
    for place, name in enumerate(known.names[:-1]):
        write_mask(tmp_path / "masks" / f"{name[:-4]}.png", random_parts(place))
    return tmp_path


def expected(parts: np.ndarray, ids: tuple[int, ...]) -> torch.Tensor:
    """Pixel by pixel: 255 where nothing is known, else whether it is one of the parts."""
    region = np.empty(parts.shape, np.uint8)
    for place, part in np.ndenumerate(parts):
        region[place] = 255 if part == 255 or not ids else int(part in ids)
    return torch.from_numpy(region)


def test_built_in_parts(folder: Path) -> None:
    data = open_dataset(folder)
    assert data.has_regions
    assert any("numbered as in CelebAMask-HQ" in note for note in data.notes)
    for place in (0, 5):
        regions = data[place].regions
        assert regions is not None
        assert regions.dtype == torch.uint8
        for attribute, region in zip(data.attributes, regions, strict=True):
            ids = CELEBAMASK_ATTRIBUTES.get(attribute, ())
            assert torch.equal(region, expected(random_parts(place), ids))
    assert data[-1].regions is None


def test_ids_of_the_built_in_parts() -> None:
    assert PARTS.index("skin") == 0
    assert PARTS.index("cloth") == 17
    wanted = {
        "Eyeglasses": {3, 4, 5},
        "Smiling": {10, 11, 12},
        "Wearing_Hat": {14},
        "Black_Hair": {13},
        "Bushy_Eyebrows": {6, 7},
        "Big_Nose": {2},
        "Wearing_Lipstick": {11, 12},
        "Wearing_Earrings": {8, 9, 15},
        "Narrow_Eyes": {4, 5},
    }
    assert {name: set(CELEBAMASK_ATTRIBUTES[name]) for name in wanted} == wanted
    pairs = ({4, 5}, {6, 7}, {8, 9})  # left and right are merged throughout
    for ids in CELEBAMASK_ATTRIBUTES.values():
        assert all(pair <= set(ids) or not pair & set(ids) for pair in pairs)


def test_own_parts(folder: Path) -> None:
    (folder / "parts.toml").write_text(TABLE)
    data = open_dataset(folder)
    assert not any("CelebAMask" in note for note in data.notes)
    regions = data[3].regions
    assert regions is not None
    for attribute, ids in {"Smiling": (10, 11), "Wearing_Hat": (14,), "Male": ()}.items():
        region = regions[data.attributes.index(attribute)]
        assert torch.equal(region, expected(random_parts(3), ids))


def test_subset_and_ignored_attributes_keep_their_regions(folder: Path) -> None:
    whole = open_dataset(folder)
    part = open_dataset(folder, split="val", ignore=["Male"]).subset([1])
    place = whole.names.index(part.names[0])
    regions, of_part = whole[place].regions, part[0].regions
    assert regions is not None
    assert of_part is not None
    kept = [whole.attributes.index(name) for name in part.attributes]
    assert torch.equal(of_part, regions[kept])


def test_masks_of_another_size_are_resized(folder: Path) -> None:
    parts = random_parts(0)
    write_mask(folder / "masks" / "000001.png", parts.repeat(2, axis=0).repeat(2, axis=1))
    regions = open_dataset(folder)[0].regions
    assert regions is not None
    assert torch.equal(regions[0], expected(parts, CELEBAMASK_ATTRIBUTES["Smiling"]))


def test_masks_of_another_shape_are_refused(folder: Path) -> None:
    write_mask(folder / "masks" / "000001.png", random_parts(0, 22, 22))
    data = open_dataset(folder)
    with pytest.raises(DataError, match=r"000001\.png: is 22 x 22 pixels, but its image .*18 x 22"):
        data[0]


def test_damaged_mask(folder: Path) -> None:
    (folder / "masks" / "000001.png").write_text("<html>")
    with pytest.raises(DataError, match=r"000001\.png: expected an image.*HTML"):
        open_dataset(folder)[0]


def test_mask_of_colours(folder: Path) -> None:
    picture(1).save(folder / "masks" / "000001.png")
    with pytest.raises(DataError, match=r"000001\.png: expected a mask .* mode RGB"):
        open_dataset(folder)[0]


def test_masks_without_a_table_of_parts(tmp_path: Path) -> None:
    known = truth(attributes=("Red", "Round"))
    write_table(tmp_path, known)
    write_mask(tmp_path / "masks" / "000001.png", random_parts(0))
    data = open_dataset(tmp_path)
    assert not data.has_regions
    assert any("is not used" in note for note in data.notes)
    assert data[0].regions is None


def test_one_mask_for_two_images(tmp_path: Path) -> None:
    for place in ("x", "y"):
        write_images(tmp_path / "images" / place, {"a.jpg": encoded(picture(1))})
    (tmp_path / "labels.csv").write_text("image,Smiling\nx/a.jpg,1\ny/a.jpg,0\n")
    write_mask(tmp_path / "masks" / "a.png", random_parts(0))
    with pytest.raises(DataError, match=r"a\.png: belongs to both"):
        open_dataset(tmp_path)


def test_link_out_of_the_masks(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "mask.png"
    write_mask(outside, random_parts(0))
    (folder / "masks" / "000001.png").unlink()
    (folder / "masks" / "000001.png").symlink_to(outside)
    with pytest.raises(DataError, match="which lies outside"):
        open_dataset(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("attributes = ", "cannot be read as TOML"),
        ("", r"expected the table \[attributes\], and perhaps \[parts\]; found nothing"),
        ("[attribute]\nA = [1]", "found attribute"),
        ("[attributes]\nA = [1]\n[more]\n", "found attributes, more"),
        (
            "[attributes]\nSmilin = [1]",
            "'Smilin' is no attribute of the table. Did you mean Smiling",
        ),
        ("[attributes]\nSmiling = [0]", r"Smiling: expected parts as numbers from 1 to 254 .* 0"),
        ("[attributes]\nSmiling = [255]", "found 255"),
        ("[attributes]\nSmiling = [true]", "found True"),
        ("[attributes]\nSmiling = ['hat']", "found 'hat'"),
        ("[attributes]\nSmiling = ['hat']\n[parts]\nhat = 'x'", "expected a number from 1 to 254"),
    ],
)
def test_wrong_tables_of_parts(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "parts.toml").write_text(text)
    with pytest.raises(DataError, match=message) as error:
        read_part_table(tmp_path / "parts.toml", ("Smiling", "Male"))
    assert str(error.value).startswith(str(tmp_path / "parts.toml"))


def test_table_of_parts_may_name_ignored_attributes(tmp_path: Path) -> None:
    (tmp_path / "parts.toml").write_text("[attributes]\nSmiling = 3\nBald = [1]\n")
    parts = read_part_table(tmp_path / "parts.toml", ("Smiling", "Male"), ("Bald",))
    assert parts.attributes == {"Smiling": (3,), "Male": ()}
    assert parts.names == {}


def test_parts_that_have_a_name(folder: Path) -> None:
    (folder / "parts.toml").write_text(
        "[attributes]\nSmiling = ['mouth', 12]\n[parts]\nmouth = 10\n'left eye' = 4\n"
    )
    data = open_dataset(folder)
    index = data.names.index("000001.jpg")
    with Image.open(folder / "masks" / "000001.png") as mask:
        values = np.array(mask)
    parts = data.parts(index)
    assert list(parts) == ["mouth", "left eye"]
    for name, part in (("mouth", 10), ("left eye", 4)):
        expected = np.where(values == 255, 255, values == part)
        assert (parts[name].numpy() == expected).all()


@pytest.mark.real_data
def test_real_masks(real_data: Path) -> None:
    data = open_dataset(real_data / "celebamask")
    assert len(data) == 161
    assert data.has_regions
    example = data[0]
    assert example.regions is not None
    assert example.regions.shape == (40, *example.image.shape[1:])
    hair = example.regions[data.attributes.index("Black_Hair")]
    assert 0 < (hair == 1).float().mean() < 0.8
    assert (example.regions[data.attributes.index("Young")] == 255).all()
