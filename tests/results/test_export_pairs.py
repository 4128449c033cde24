"""Preference pairs: which are made, which are left out, and what trainers find in the files."""

import io
import json
from pathlib import Path

import pytest
from fakes import FakeCritic, FakeGenerator, seed_of
from PIL import Image
from pyarrow import parquet

import gcr
from gcr.core.records import AspectScore, Critique, Preference
from gcr.engine import models, single
from gcr.errors import GcrError, UsageError
from gcr.results.pairs import gather, save

SCORES = {0: 0.2, 1: 0.4, 2: None, 3: 0.8}


class Contrary(FakeCritic):
    """Prefers the first of the two when it sees them side by side."""

    def compare(self, requests, firsts, seconds):
        answers = super().compare(requests, firsts, seconds)
        other = {Preference.FIRST: Preference.SECOND, Preference.SECOND: Preference.FIRST}
        return [other.get(answer, answer) for answer in answers]


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Refine one prompt on fakes: rounds of two images, seeds 0 to 3; returns the run's folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def call(says=SCORES, critic=FakeCritic):
        pair = FakeGenerator(), critic(says)
        monkeypatch.setattr(models, "load_models", lambda *_, **__: pair)
        return gcr.refine("a red circle", rounds=2).folder

    return call


def pairs_of(folder, **how):
    """(chosen, rejected) by the seeds of the images, and what was left out."""
    preferences = gather([folder], **how)
    return [
        (pair.chosen.candidate.seed, pair.rejected.candidate.seed) for pair in preferences.pairs
    ], preferences.left_out


def test_the_best_image_against_the_request_as_it_is(run):
    folder = run()
    (pair,) = gather([folder]).pairs
    assert (pair.chosen.candidate.seed, pair.rejected.candidate.seed) == (3, 0)
    assert pair.chosen.candidate.prompt == "the prompt after 0"
    assert pair.prompt == "a red circle"  # what both were judged against


def test_all_pairs_leave_out_the_unscored(run):
    pairs, left_out = pairs_of(run(), every=True)
    assert pairs == [(3, 1), (3, 0), (1, 0)]
    assert left_out == {"unscored": 3}


def test_equal_scores_and_small_gaps_are_no_preference(run):
    folder = run({0: 0.4, 1: 0.4, 2: 0.6, 3: 0.9})
    pairs, left_out = pairs_of(folder, every=True, min_gap=0.2)  # 0.6 - 0.4 < 0.2 in binary
    assert pairs == [(3, 2), (3, 0), (3, 1), (2, 0), (2, 1)]
    assert left_out == {"too close": 1}
    assert pairs_of(folder, every=True, min_gap=0.3)[1] == {"too close": 3}


def test_nothing_is_made_of_a_run_whose_first_image_was_best(run):
    assert pairs_of(run({0: 0.9})) == ([], {"too close": 1})


def test_differences_within_the_noise_of_the_critic_are_left_out(run):
    # 1.645 x √2 x 0.05 = 0.116
    critiques = {i: Critique(overall=o, spread=0.05) for i, o in enumerate((0.2, 0.3, 0.31, 0.5))}
    pairs, left_out = pairs_of(run(critiques), every=True)
    assert pairs == [(3, 2), (3, 1), (3, 0)]
    assert left_out == {"too close": 3}


def test_a_pair_that_the_blind_comparison_contradicts_is_left_out(run):
    folder = run(critic=Contrary)
    assert pairs_of(folder) == ([], {"contradicted": 1})
    pairs, left_out = pairs_of(folder, every=True)
    assert pairs == [(3, 1), (1, 0)]
    assert left_out == {"unscored": 3, "contradicted": 1}


def test_of_a_batch_what_is_done_counts(run, tmp_path):
    run()
    done = gcr.batch(["a red star", "a red heart"], into="b", rounds=2, shard="1/2")
    preferences = gather([done.folder])
    assert [(pair.id, pair.prompt, pair.folder) for pair in preferences.pairs] == [
        ("1", "a red star", Path("b/runs/1"))
    ]
    assert preferences.left_out == {"prompts not done yet": 1}


def test_what_cannot_be_paired_is_refused(run, tmp_path):
    Image.linear_gradient("L").save("in.png")
    models = {"generator": "owner/editor", "critic": "owner/critic"}
    run()
    edited = gcr.refine("make it blue", image="in.png", rounds=1, **models).folder
    with pytest.raises(UsageError, match="edits an image"):
        gather([edited])
    with pytest.raises(UsageError, match="no run and no batch"):
        gather([tmp_path])
    with pytest.raises(UsageError, match="named twice"):
        gather([edited, tmp_path / edited])


def test_json_lines_have_paths_scores_and_critiques(run, cli):
    critique = Critique((AspectScore("faith", 4.0, "why"),), 0.8, "fine", "keep it", "p")
    folder = run({0: 0.2, 1: critique})
    cli("export", str(folder), "--format", "preference")
    (line,) = (folder / "preference.jsonl").read_text().splitlines()
    row = json.loads(line)
    assert row == {
        "prompt": "a red circle",
        "chosen": str(folder.resolve() / "00-1.png"),
        "rejected": str(folder.resolve() / "00-0.png"),
        "chosen_score": 0.8,
        "rejected_score": 0.2,
        "chosen_critique": {
            "aspects": [{"aspect": "faith", "score": 4.0, "justification": "why"}],
            "summary": "fine",
            "advice": "keep it",
        },
        "rejected_critique": {"aspects": [], "summary": "", "advice": ""},
        "chosen_prompt": "a red circle",
        "rejected_prompt": "a red circle",
        "chosen_seed": 1,
        "rejected_seed": 0,
        "preferred_by": "critic",
        "source": "scored",
        "chosen_rating": None,
        "rejected_rating": None,
        "id": row["id"],
        "run": str(folder.resolve()),
    }


def test_parquet_holds_the_files_as_the_image_feature_of_datasets(run, cli):
    folder = run()
    ran = cli("export", str(folder), "--format", "preference", "-o", "p/x.parquet", "--all-pairs")
    assert ran.out == "p/x.parquet\n"
    assert "pairs: 3, of runs: 1; left out: 3 unscored" in ran.err
    table = parquet.read_table("p/x.parquet")
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features == {"chosen": {"_type": "Image"}, "rejected": {"_type": "Image"}}
    row = table.to_pylist()[0]
    assert row["prompt"] == "a red circle"
    assert row["chosen"]["bytes"] == (folder / "01-1.png").read_bytes()
    assert row["rejected"]["path"] == "00-1.png"
    assert [row["rejected_score"] for row in table.to_pylist()] == [0.4, 0.2, 0.2]


def test_pick_a_pic_is_read_as_the_trainers_of_diffusion_dpo_do(run, cli):
    folder = run()
    cli("export", str(folder), "--format", "pick-a-pic")
    table = parquet.read_table(folder / "pick-a-pic.parquet").to_pydict()
    for jpg_0, jpg_1, label_0, caption in zip(
        table["jpg_0"], table["jpg_1"], table["label_0"], table["caption"], strict=True
    ):
        pair = [seed_of(Image.open(io.BytesIO(jpg)).convert("RGB")) for jpg in (jpg_0, jpg_1)]
        better, worse = pair[::-1] if label_0 == 0 else pair
        assert (better, worse, caption) == (3, 0, "a red circle")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--format", "preference", "-o", "x.csv"), 2, "x.csv is no name for preference"),
        (("--format", "pick-a-pic", "-o", "x.jsonl"), 2, "one of .parquet"),
        (
            ("--format", "preference", "--min-gap", "0.7"),
            1,
            "pairs: 0, of runs: 1; left out: 1 too",
        ),
        (("--format", "preference", "elsewhere"), 2, "several folders, and no --output"),
    ],
)
def test_no_file_is_written_where_something_is_wrong(run, cli, arguments, code, message):
    folder = run()
    ran = cli("export", str(folder), *arguments)
    assert (ran.code, ran.out) == (code, "")
    assert message in ran.err
    assert not list(Path().glob("*.csv")) + list(folder.glob("*.jsonl.*"))


def test_a_run_that_another_process_is_at_is_not_opened(run):
    from gcr.files.locks import claimed

    folder = run()
    with claimed(folder), pytest.raises(GcrError, match="in use by another process"):
        gather([folder])


def test_a_users_rating_decides_whatever_the_critic_says(run):
    folder = run()
    gcr.rate(folder, "01-1.png", 2)  # seed 3, of the highest score
    gcr.rate(folder, "00-0.png", "keep")
    gcr.rate(folder, "00-1.png", 2)
    pairs, left_out = pairs_of(folder)
    assert pairs == [(0, 1), (0, 3)]
    assert left_out == {"rated alike": 1}
    ours = gather([folder]).pairs
    assert [(pair.source, pair.stars) for pair in ours] == [("rated", (5, 2)), ("rated", (5, 2))]


def test_beside_rated_images_the_critic_decides_as_before(run):
    folder = run()
    gcr.rate(folder, "00-1.png", 1)
    assert pairs_of(folder)[0] == [(3, 0)]
    gcr.rate(folder, "01-1.png", 5)
    assert pairs_of(folder)[0] == [(3, 1), (3, 0)]


@pytest.mark.parametrize(
    ("every", "made"),
    [
        (False, [(1, 0), (1, 3)]),
        (True, [(1, 0), (1, 2), (1, 3)]),
    ],
)
def test_what_a_user_kept_is_preferred_to_all_that_there_was_whatever_its_score(run, every, made):
    folder = run()
    single.keep(folder, "00-1.png")  # seed 1, scored 0.4
    gcr.resume(folder, rounds=1)  # seeds that nobody had seen when it was kept
    assert gcr.load_run(folder).kept == "00-1.png"
    pairs = gather([folder], every=every).pairs
    by = {
        source: [pair for pair in pairs if pair.source == source] for source in ("kept", "scored")
    }
    assert [(p.chosen.candidate.seed, p.rejected.candidate.seed) for p in by["kept"]] == made
    assert len(by["scored"]) == len(pairs) - len(made)
    assert bool(by["scored"]) is every


def test_where_what_was_kept_is_no_more_the_critic_prefers(run):
    folder = run()
    before = pairs_of(folder)
    path = folder / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "kept": "09-0.png"}))
    assert pairs_of(folder) == before


def test_a_rating_that_says_otherwise_wins_over_what_was_kept(run):
    folder = run()
    single.keep(folder, "00-0.png")  # the request as it is
    assert pairs_of(folder) == ([(0, 3)], {})
    gcr.rate(folder, "00-0.png", 2)
    gcr.rate(folder, "01-1.png", 2)
    assert pairs_of(folder) == ([(0, 3)], {})  # alike, so that the choice tells them apart
    gcr.rate(folder, "01-1.png", 4)
    assert pairs_of(folder) == ([(3, 0)], {})


def test_files_say_who_preferred_and_how_much(run, tmp_path):
    folder = run()
    gcr.rate(folder, "00-0.png", 4)
    gcr.rate(folder, "00-1.png", 3)
    lines = tmp_path / "pairs.jsonl"
    save(gather([folder]).pairs, "preference", lines)
    first, second = map(json.loads, lines.read_text().splitlines())
    assert (first["preferred_by"], first["chosen_rating"], first["rejected_rating"]) == (
        "user",
        4,
        3,
    )
    assert (second["preferred_by"], second["chosen_rating"]) == ("critic", None)
    table = tmp_path / "pairs.parquet"
    save(gather([folder]).pairs, "preference", table)
    assert parquet.read_table(table)["preferred_by"].to_pylist() == ["user", "critic"]
    assert parquet.read_table(table)["source"].to_pylist() == ["rated", "scored"]
