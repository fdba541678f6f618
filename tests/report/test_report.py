"""The page as a whole: what stands on it, that it is sound HTML, and what it says is missing."""

import itertools
import json
import math
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from maskatlas import report
from maskatlas.analysis import Atlas
from maskatlas.errors import RunError
from maskatlas.report import SECTIONS, write_report
from maskatlas.report.accuracy import COLUMNS
from maskatlas.report.page import fixed
from maskatlas.report.pictures import Picture, Source
from sample_run import HOSTILE, make_atlas, make_evaluation, make_metrics, make_run, names

VOID = {"meta", "img", "br", "source", "wbr"}
SVG_CLOSED = {"rect"}
DOT = Picture((Source("data:image/gif;base64,R0lGODlhAQABAAAAACw=", "", 1, 1),), "a dot")
CELEBA = ("Black_Hair", "Blond_Hair", "Smiling", "Mouth_Slightly_Open", "Male", "Young")


class Page(HTMLParser):
    """Every element and the text of a page; whatever is not closed in order is a mistake."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.blocks: dict[str, list[str]] = {"style": [], "script": []}
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len(dict(attrs)), (tag, attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in SVG_CLOSED, tag
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open[-1] == tag, (tag, self.open, self.getpos())
        self.open.pop()

    def handle_data(self, data: str) -> None:
        inside = self.open[-1] if self.open else ""
        if inside in self.blocks:
            self.blocks[inside].append(data)
        else:
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dots in place of figures, where a test is about words."""

    def dots(run: object, classifier: object) -> dict[str, Picture | None]:
        return {f"{n}_figure": DOT for n in report.plots.FIGURES}

    monkeypatch.setattr(report, "draw_figures", dots)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(
        tmp_path_factory.mktemp("runs") / "<b>run</b>",
        attributes=HOSTILE,
        judged=True,
        replicates=20,
    )


@pytest.fixture(scope="module")
def page(hostile: Path) -> Page:
    """A whole report with its real figures."""
    return Page(write_report(hostile).read_text(encoding="utf-8"))


def parsed(folder: Path) -> Page:
    return Page(write_report(folder).read_text(encoding="utf-8"))


def test_every_section_is_there_and_linked(page: Page) -> None:
    ids = [attributes["id"] for attributes in page.all("section")]
    assert ids == [section.id for section in SECTIONS]
    links = {attributes["href"] for attributes in page.all("a")}
    assert {f"#{id_}" for id_ in ids} <= links


def test_ids_are_unique_and_links_and_labels_lead_somewhere(page: Page) -> None:
    ids = Counter(a["id"] for _, a in page.elements if "id" in a)
    assert not [id_ for id_, times in ids.items() if times > 1]
    for _, attributes in page.elements:
        if "href" in attributes:
            assert attributes["href"].startswith("#")
            assert attributes["href"][1:] in ids
        for target in (attributes.get("aria-labelledby") or "").split():
            assert target in ids


def test_pictures_are_in_the_page_and_described(page: Page) -> None:
    images = page.all("img")
    assert len(images) > 50
    assert all(image["src"].startswith("data:image/") for image in images)
    assert all(len(image["alt"]) > 10 for image in images)
    assert all(s["srcset"].startswith("data:image/") for s in page.all("source"))


def test_nothing_in_the_page_runs_styles_or_loads_but_its_own_blocks(page: Page) -> None:
    for tag, attributes in page.elements:
        assert tag not in {"iframe", "object", "embed", "link", "base", "form", "video", "audio"}
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        for name in ("src", "srcset", "href", "action", "data", "poster"):
            assert re.match(r"data:image/|#", attributes.get(name) or "#")
    assert [a.get("type") for a in page.all("script")] == ["application/json", None]
    assert len(page.all("style")) == 1


def test_headings_leave_out_no_level(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_hostile_names_are_text(page: Page) -> None:
    for name in HOSTILE:
        clean = "".join("\N{REPLACEMENT CHARACTER}" if ord(c) < 32 else c for c in name)
        assert " ".join(clean.split()) in page.text
    assert "<b>run</b>" in page.text
    assert "49" not in page.all("title")[0]


def test_hostile_names_reach_the_script_as_they_are(page: Page) -> None:
    data = page.blocks["script"][0]
    assert not set("<>&") & set(data)
    assert tuple(json.loads(data)["attributes"]) == HOSTILE


def test_figures_are_saved_in_the_run_folder(page: Page, hostile: Path) -> None:
    for name in ("training", "accuracy", "faithfulness", "channel_removal", "mask_exchange"):
        assert (hostile / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_run_gives_the_same_page(tmp_path: Path, fast: None) -> None:
    folder = make_run(tmp_path / "run")
    first, second = (write_report(folder).read_text(encoding="utf-8") for _ in range(2))
    dated = re.compile(r" on \d\d \w+ \d{4},")
    assert dated.search(first)
    assert dated.sub("", first) == dated.sub("", second)
    assert not list(folder.glob(".*"))


PARTS = {
    "config.toml": ("configuration", "maskatlas train"),
    "metrics.jsonl": ("training", "maskatlas train"),
    "evaluation.json": ("accuracy", "maskatlas evaluate"),
    "atlas": ("grids", "maskatlas analyze"),
}


def remove(path: Path) -> None:
    if path.is_dir():
        for inside in path.iterdir():
            remove(inside)
        path.rmdir()
    else:
        path.unlink()


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_part_is_named_with_its_command(tmp_path: Path, fast: None, part: str) -> None:
    folder = make_run(tmp_path / "a run")
    remove(folder / part)
    text = write_report(folder).read_text(encoding="utf-8")
    section, command = PARTS[part]
    shown = text.split(f'<section id="{section}"')[1].split("</section>")[0]
    assert command in shown
    assert "a run&#39;" in shown  # quoted, so that it can be pasted
    Page(text)


@pytest.mark.parametrize("part", ["config.toml", "metrics.jsonl", "evaluation.json", "atlas"])
def test_one_part_alone_makes_a_report(tmp_path: Path, part: str) -> None:
    folder = make_run(tmp_path / "run", attributes=names(3), channels=4)
    for other in {*PARTS, "model"} - {part}:
        remove(folder / other)
    parsed(folder)


def test_a_folder_without_any_part_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="run folder"):
        write_report(tmp_path)
    with pytest.raises(RunError, match="nowhere"):
        write_report(tmp_path / "nowhere")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.toml", b"seed = ["),
        ("config.toml", b"sede = 1"),
        ("metrics.jsonl", b'{"event": "step"}\n{"event"\n{"event": "step"}\n'),
        ("metrics.jsonl", b'{"event": "step", "mask_mean": "high"}\n'),
        ("metrics.jsonl", b"[1, 2]\n"),
        ("evaluation.json", b"\xff\xfe"),
        ("evaluation.json", b"[]"),
        ("evaluation.json", b'{"images": -1}'),
        ("evaluation.json", b'{"images": 5, "subnetworks": {"mean": {}, "attributes": {"a": 1}}}'),
        ("evaluation.json", b"[" * 100_000),
        ("model/config.json", b"{"),
        ("model/config.json", b'{"attributes": [1]}'),
        ("atlas/atlas.safetensors", b"\x00" * 7),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, fast: None, file: str, content: bytes) -> None:
    folder = make_run(tmp_path / "run")
    (folder / file).write_bytes(content)
    with pytest.raises(RunError, match=re.escape(Path(file).name)):
        write_report(folder)
    assert not (folder / "report.html").exists()


def test_a_last_line_that_a_killed_run_left_unfinished_is_no_damage(
    tmp_path: Path, fast: None
) -> None:
    folder = make_run(tmp_path / "run")
    with (folder / "metrics.jsonl").open("ab") as file:
        file.write(b'{"event": "step", "lo')
    parsed(folder)


def test_a_report_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, fast: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run(tmp_path / "run")
    path = write_report(folder)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report, "write_atomically", full)
    with pytest.raises(RunError, match=r"report\.html.*No space left"):
        write_report(folder)
    assert path.read_bytes() == before


def test_the_paper_s_two_averages_are_told_apart(tmp_path: Path, fast: None) -> None:
    folder = make_run(tmp_path / "run", attributes=CELEBA)
    evaluation = make_evaluation(CELEBA, data="/data/celeba")
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    text = parsed(folder).text
    assert "prints an average of 92.05" in text
    assert "average 90.17" in text
    for column in COLUMNS.values():
        assert column in text


def test_the_paper_s_rows_stand_beside_ours(tmp_path: Path, fast: None) -> None:
    text = parsed(make_run(tmp_path / "run", attributes=CELEBA)).text
    assert "The paper’s rows beside ours" in text
    assert "ours, centred" in text
    assert "Wearing Hat" in text  # the paper names it; this run has no such attribute


def test_published_numbers_are_not_held_against_rendered_faces(tmp_path: Path, fast: None) -> None:
    text = parsed(make_run(tmp_path / "run", attributes=CELEBA)).text
    assert "92.05" not in text
    assert "rendered faces, not photographs" in text


def test_masks_that_went_out_are_told_in_summary_and_section(tmp_path: Path, fast: None) -> None:
    folder = make_run(tmp_path / "run", faint=0.001)
    (folder / "metrics.jsonl").write_text(make_metrics(final_mask=0.001))
    text = parsed(folder).text
    assert text.count("have gone out") >= 2
    assert "lower loss.mask_l1" in text
    lit = parsed(make_run(tmp_path / "lit")).text
    assert "The masks have gone out" not in lit
    assert "lower loss.mask_l1" not in lit


def test_an_attribute_without_positives_is_undefined_and_said_so(
    tmp_path: Path, fast: None
) -> None:
    folder = make_run(tmp_path / "run")
    evaluation = make_evaluation(names(6))
    row = evaluation["subnetworks"]["attributes"]["Attribute_2"]
    row |= {"positives": 0} | dict.fromkeys(
        ("balanced_accuracy", "f1", "average_precision", "auroc")
    )
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    text = parsed(folder).text
    assert "Attribute_2 : these images hold no positive" in text.replace(
        "Attribute_2:", "Attribute_2 :"
    )
    assert "Bring examples of both kinds for Attribute_2" in text


@pytest.mark.parametrize(("count", "channels"), [(1, 1), (1, 5), (2, 2), (3, 1)])
def test_the_smallest_atlases(tmp_path: Path, count: int, channels: int) -> None:
    make_run(tmp_path / "run", attributes=names(count), channels=channels, examples=1)
    parsed(tmp_path / "run")


def test_an_atlas_without_examples_drop_or_defined_labels(tmp_path: Path, fast: None) -> None:
    folder = make_run(tmp_path / "run", drop=False, examples=0)
    text = parsed(folder).text
    assert "There are no examples" in text
    assert "is not in this atlas" in text
    atlas = make_atlas(names(4), 6)
    drop = np.full((4, 6), math.nan)
    drop[0] = 0.01
    undefined = np.full((4, 4), math.nan)
    fields = {**vars(atlas), "importance_drop": drop, "label_correlation": undefined}
    type(atlas)(**fields).save(folder / "atlas")
    parsed(folder)


def test_a_network_without_masks_is_reported_by_its_classifier(tmp_path: Path, fast: None) -> None:
    folder = make_run(tmp_path / "run")
    remove(folder / "atlas")
    evaluation = make_evaluation(names(6)) | {"subnetworks": None, "explanations": None}
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    assert "the multi-label classifier gives" in parsed(folder).text


def test_an_evaluation_on_other_attributes_is_shown_as_it_is(tmp_path: Path, fast: None) -> None:
    folder = make_run(tmp_path / "run")
    (folder / "evaluation.json").write_text(json.dumps(make_evaluation(["Hat", "Smile"])))
    assert "Smile" in parsed(folder).text


def test_being_scored_on_training_images_is_said(tmp_path: Path, fast: None) -> None:
    folder = make_run(tmp_path / "run")
    for split, said in (("train", True), (None, True), ("val", False)):
        evaluation = make_evaluation(names(6)) | {"split": split}
        (folder / "evaluation.json").write_text(json.dumps(evaluation))
        assert ("which it was also trained on" in parsed(folder).text) is said


def test_intervals_and_causes_are_told_where_they_were_measured(tmp_path: Path, fast: None) -> None:
    folder = make_run(tmp_path / "sure", attributes=names(5), replicates=20)
    atlas = Atlas.load(folder / "atlas")
    text = parsed(folder).text
    pair = atlas.attribute_pairs()[0].masks
    assert f"{fixed(pair.value)} [{fixed(pair.low)}, {fixed(pair.high)}]" in text
    assert "95 % intervals over 20 people" in text
    assert "Images shared, or attributes confused?" in text
    assert "come again" in text or "comes again" in text
    make_atlas(names(5), 6).save(folder / "atlas")
    text = parsed(folder).text
    for word in ("intervals over", "attributes confused?", "comes again", "are sure on average"):
        assert word not in text
