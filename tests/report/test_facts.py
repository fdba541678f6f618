"""What the sections say, against the same told by plain loops over the numbers."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.random import default_rng

from maskatlas.analysis import Atlas
from maskatlas.importance import DISAGREE
from maskatlas.published import published_accuracies
from maskatlas.report import attributes, channels, summary
from maskatlas.report.accuracy import COLUMNS, Accuracy, accuracy_facts
from maskatlas.report.history import history_facts
from maskatlas.report.run import Run, read_run
from maskatlas.statistics import ACTIVE, OUT
from sample_run import make_atlas, make_evaluation, make_metrics, make_run, names

CELEBA = published_accuracies().attributes
SEEDS = range(3)


def loaded(folder: Path, **evaluation: object) -> Run:
    make_run(folder)
    attributes = evaluation.pop("attributes", names(6))
    written = make_evaluation(attributes, **evaluation)  # type: ignore[arg-type]
    (folder / "evaluation.json").write_text(json.dumps(written))
    return read_run(folder)


def scored(folder: Path, **evaluation: object) -> Accuracy:
    facts = accuracy_facts(loaded(folder, **evaluation))
    assert facts is not None
    return facts


@pytest.fixture(params=SEEDS)
def atlas(request: pytest.FixtureRequest) -> Atlas:
    return make_atlas(names(9), 11, seed=request.param, examples=0)


class TestAccuracy:
    def test_majority_is_the_mean_of_the_commoner_answers(self, tmp_path: Path) -> None:
        facts = scored(tmp_path)
        shares = []
        for row in facts.rows:
            known = row.score.positives + row.score.negatives
            shares.append(max(row.score.positives, row.score.negatives) / known)
        assert facts.majority == pytest.approx(sum(shares) / len(shares))

    def test_strongest_and_weakest_are_the_ends_of_the_ranking(self, tmp_path: Path) -> None:
        facts = scored(tmp_path)
        ranked = sorted(facts.rows, key=lambda row: row.score.balanced_accuracy)
        assert list(facts.weakest) == ranked[:3]
        assert list(facts.strongest) == ranked[-1:-4:-1]

    def test_all_forty_attributes_average_what_the_table_does(self, tmp_path: Path) -> None:
        facts = scored(tmp_path, attributes=CELEBA, data="celeba").published
        table = published_accuracies()
        assert facts is not None
        assert facts.complete
        assert facts.printed == 92.05
        assert round(facts.paper, 2) == 90.17
        assert len(facts.rows) == 40
        for average, column in zip(facts.averages[1:], COLUMNS, strict=True):
            assert average == pytest.approx(table.average(column))
        assert facts.averages[0] == pytest.approx(np.mean([row[1] for row in facts.rows]))

    def test_some_attributes_average_their_own_rows(self, tmp_path: Path) -> None:
        chosen = ["young", "Unheard_Of", "Wearing Hat"]
        facts = scored(tmp_path, attributes=chosen, data="celeba").published
        assert facts is not None
        assert not facts.complete
        assert [name for name, _, _ in facts.rows] == ["young", "Wearing Hat"]
        table = published_accuracies()
        place = list(COLUMNS).index("paper")
        expected = np.nanmean(table.column("paper", chosen))
        assert facts.averages[1 + place] == pytest.approx(expected)

    @pytest.mark.parametrize(("attributes", "data"), [(CELEBA, "faces"), (names(4), "celeba")])
    def test_no_published_numbers_where_they_do_not_apply(
        self, tmp_path: Path, attributes: tuple[str, ...], data: str
    ) -> None:
        assert scored(tmp_path, attributes=attributes, data=data).published is None


class TestChannels:
    def test_table_1_names_the_most_correlated_and_the_widest(self, atlas: Atlas) -> None:
        for row in channels.channel_rows(atlas):
            others = [c for c in range(atlas.channels) if c != row.id]
            others.sort(key=lambda c: -atlas.channel_correlation[row.id, c])
            assert [id_ for id_, _ in row.correlated] == others[:5]
            for id_, r in row.correlated:
                assert r.value == atlas.channel_correlation[row.id, id_]
            widest = max(range(9), key=lambda k: atlas.mask_mean[k, row.id])
            assert row.strongest[0] == (
                atlas.attributes[widest],
                pytest.approx(atlas.mask_mean[widest, row.id]),
            )

    def test_unused_channels_are_active_for_nobody(self, atlas: Atlas) -> None:
        quiet = make_atlas(names(5), 40, faint=0.12, examples=0)
        for one in (atlas, quiet):
            expected = [
                c for c in range(one.channels) if all(row[c] <= ACTIVE for row in one.mask_mean)
            ]
            assert list(channels.unused_channels(one)) == expected
        assert channels.unused_channels(quiet)

    def test_common_channels_are_among_the_first_of_every_reading(self, atlas: Atlas) -> None:
        for row in channels.importance_rows(atlas):
            for channel in range(atlas.channels):
                everywhere = all(channel in top for top in row.tops.values())
                assert (channel in row.common) is everywhere

    def test_a_channel_whose_loss_costs_nothing_is_not_named(self, atlas: Atlas) -> None:
        drop = np.zeros_like(atlas.mask_mean)
        drop[:, 3], drop[:, 5] = 0.2, -0.1
        for row in channels.importance_rows(replace(atlas, importance_drop=drop)):
            assert row.tops["drop"] == (3,)

    def test_pairs_are_the_most_correlated_ones(self, atlas: Atlas) -> None:
        table = atlas.attribute_correlation
        every = [(i, j) for i in range(9) for j in range(i + 1, 9)]
        every.sort(key=lambda pair: -table[pair])
        found = [(atlas.index(p.first), atlas.index(p.second)) for p in channels.pairs(atlas)]
        assert found == every[: channels.PAIRS]

    def test_a_pair_s_channels_are_told_apart(self, atlas: Atlas) -> None:
        count = channels.pair_top(atlas)
        for pair in channels.pairs(atlas):
            first, second = (
                set(atlas.top_channels(name, count)) for name in (pair.first, pair.second)
            )
            assert set(pair.common) == first & second
            assert set(pair.only_first) == first - second
            assert set(pair.only_second) == second - first

    def test_the_paper_s_pair_is_always_there(self) -> None:
        attributes = ("Smiling", *names(8), "mouth slightly open")
        pairs = channels.pairs(make_atlas(attributes, 11, examples=0))
        assert ("Smiling", "mouth slightly open") in [(p.first, p.second) for p in pairs]
        assert len(pairs) == channels.PAIRS

    def test_what_the_script_gets_is_what_the_pairs_show(self, atlas: Atlas) -> None:
        top = channels.choices(atlas)["top"]
        assert isinstance(top, dict)
        for name, ids in zip(atlas.attributes, top["drop"], strict=True):
            assert ids == atlas.top_channels(name, channels.pair_top(atlas), by="drop")

    def test_disagreement_is_told_with_its_evidence(self, atlas: Atlas) -> None:
        assert atlas.importance_drop is not None
        turned = atlas.importance_drop.copy()
        turned[2] = -atlas.mask_mean[2]
        faint = atlas.mask_mean.copy()
        faint[5] *= OUT / 2 / faint[5].mean()
        odd = Atlas(**{**vars(atlas), "importance_drop": turned, "mask_mean": faint})
        found = {row.name: row for row in channels.disagreements(odd)}
        against, out = found["Attribute_2"], found["Attribute_5"]
        assert (against.kind, out.kind) == ("against", "out")
        assert against.value == pytest.approx(-1)
        for one in against.bright:
            assert one.mask == odd.mask_mean[2, one.channel]
            assert one.effect == turned[2, one.channel]
        assert [one.channel for one in against.strong] == np.argsort(-turned[2])[:3].tolist()
        kinds = [row.kind for row in channels.disagreements(odd)]
        assert kinds == sorted(kinds, key=lambda kind: -channels.KINDS.index(kind))
        agreeing = Atlas(**{**vars(atlas), "importance_drop": atlas.mask_mean})
        assert channels.disagreements(agreeing) == ()


class TestAttributes:
    def test_rows_of_table_2_carry_both_correlations(self, atlas: Atlas) -> None:
        for row in attributes.attribute_rows(atlas):
            k = atlas.index(row.name)
            for other, masks, labels in row.correlated:
                j = atlas.index(other)
                assert masks.value == atlas.attribute_correlation[k, j]
                assert labels.value == atlas.label_correlation[k, j]

    def test_a_name_is_bold_where_both_tables_have_it(self) -> None:
        atlas = make_atlas(CELEBA, 16, examples=0)
        rows = attributes.paper_rows(atlas)
        assert len(rows) == 3
        for row in rows:
            paper = {name.replace(" ", "_") for name, _ in row.paper}
            for ours, shared in ((row.plain, row.shared[0]), (row.centred, row.shared[1])):
                assert {name for name, both in ours if both} == {n for n, _ in ours} & paper
                assert sum(both for _, both in ours) == shared
        assert attributes.absent(atlas) == ()

    def test_agreement_with_labels(self) -> None:
        random = default_rng(0)
        masks = random.normal(size=(6, 6))
        masks = masks + masks.T
        assert attributes.agreement_with_labels(masks, 2 * masks + 1) == pytest.approx(1)
        assert attributes.agreement_with_labels(masks, -masks) == pytest.approx(-1)
        holes = masks.copy()
        holes[0] = holes[:, 0] = math.nan
        assert attributes.agreement_with_labels(masks, holes) == pytest.approx(1)
        assert attributes.agreement_with_labels(masks, np.full((6, 6), math.nan)) is None
        assert attributes.agreement_with_labels(masks, np.ones((6, 6))) is None
        assert attributes.agreement_with_labels(masks[:2, :2], masks[:2, :2]) is None


class TestHistory:
    def test_what_happened(self, tmp_path: Path) -> None:
        facts = history_facts(read_run(make_run(tmp_path)))
        assert facts is not None
        assert facts.steps == 1200
        assert facts.best is not None
        assert facts.best.number == 6
        assert facts.seconds == 2400
        assert [row.step for row in facts.health] == [10, 610, 1200]
        assert not facts.out
        assert facts.died_at is None

    def test_when_the_masks_went_out(self, tmp_path: Path) -> None:
        folder = make_run(tmp_path)
        (folder / "metrics.jsonl").write_text(make_metrics(final_mask=0.0))
        run = read_run(folder)
        facts = history_facts(run)
        assert facts is not None
        assert facts.out
        below = [step for step in run.steps if step["mask_mean"] < OUT]
        assert facts.died_at == below[0]["epoch"]

    def test_masks_that_come_back_have_not_died(self, tmp_path: Path) -> None:
        folder = make_run(tmp_path)
        lines = [
            {"event": "step", "step": n, "epoch": float(n), "mask_mean": mask}
            for n, mask in enumerate([0.5, 0.001, 0.3, 0.2])
        ]
        (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        facts = history_facts(read_run(folder))
        assert facts is not None
        assert facts.died_at is None
        assert not facts.out
        assert facts.best is None

    def test_no_record_is_no_history(self, tmp_path: Path) -> None:
        folder = make_run(tmp_path)
        (folder / "metrics.jsonl").unlink()
        assert history_facts(read_run(folder)) is None


class TestSummary:
    def test_verdicts_follow_the_numbers(self, tmp_path: Path) -> None:
        run = loaded(tmp_path)
        facts = accuracy_facts(run)
        assert facts is not None
        agreement = {"mask-contribution": 0.9, "mask-drop": 0.1, "contribution-drop": 0.15}
        told = summary.health(run, facts, None, agreement)
        assert told.agreement == 0.1
        assert told.agreement_verdict == "warn"
        assert not told.contributions_better
        assert told.pointing_verdict == "good"
        assert told.gain == pytest.approx(
            100 * (facts.classifier.mean["accuracy"] - facts.majority)
        )
        better = summary.health(run, facts, None, agreement | {"contribution-drop": 0.5})
        assert better.contributions_better
        for value, verdict in ((0.7, "good"), (0.4, "open"), (math.nan, None)):
            told = summary.health(run, facts, None, {"mask-drop": value})
            assert told.agreement_verdict == verdict
            assert (told.agreement is None) is math.isnan(value)

    def test_bad_attributes_are_told_apart_by_their_ranking(self, tmp_path: Path) -> None:
        make_run(tmp_path)
        evaluation = make_evaluation(names(4))
        rows = evaluation["subnetworks"]["attributes"]
        for name, balanced, auroc in (
            ("Attribute_0", 0.55, 0.6),
            ("Attribute_1", 0.5, 0.9),
            ("Attribute_2", 0.9, 0.95),
            ("Attribute_3", None, None),
        ):
            rows[name] |= {"balanced_accuracy": balanced, "auroc": auroc}
        (tmp_path / "evaluation.json").write_text(json.dumps(evaluation))
        facts = accuracy_facts(read_run(tmp_path))
        assert summary.weak(facts) == ("Attribute_0",)
        assert summary.timid(facts) == ("Attribute_1",)

    def test_medians_leave_out_what_is_undefined(self, atlas: Atlas) -> None:
        rows = channels.importance_rows(atlas)
        values = [row.agreement["mask-drop"] for row in rows]
        assert summary.median_agreement(rows)["mask-drop"] == pytest.approx(np.median(values))
        assert summary.median_agreement(()) == {}

    def test_entangled_pairs_look_and_are_labelled_alike(self) -> None:
        pairs = [
            channels.Pair(str(masks), str(labels), (), (), (), masks, labels)
            for masks in (0.2, 0.8)
            for labels in (-0.9, 0.0, 0.9)
        ]
        assert {(p.masks, p.labels) for p in summary.entangled(pairs)} == {(0.8, -0.9), (0.8, 0.9)}

    def test_what_comes_next_fits_what_is_missing(self, tmp_path: Path) -> None:
        folder = make_run(tmp_path)
        whole = read_run(folder)
        facts = accuracy_facts(whole)
        lit = summary.health(whole, facts, None, {"mask-drop": 0.9})
        assert summary.next_steps(whole, facts, lit, (), ())[-1] == "explain"
        assert not {"evaluate", "analyze", "relight", "explanations"} & {
            *summary.next_steps(whole, facts, lit, (), ())
        }
        (folder / "evaluation.json").unlink()
        bare = read_run(folder)
        assert "evaluate" in summary.next_steps(bare, None, lit, (), ())


def test_the_threshold_of_disagreement_is_the_analysis_s(atlas: Atlas) -> None:
    agreement = atlas.importance_agreement()["mask-drop"]
    found = {row.name for row in channels.disagreements(atlas) if row.kind == "against"}
    assert found == {n for n, r in zip(atlas.attributes, agreement, strict=True) if r < DISAGREE}
