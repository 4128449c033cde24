"""The column `negative_prompt` of a prompt file: a setting of the drawing, as --negative is."""

import json
from contextlib import contextmanager
from pathlib import Path

import pytest
from fakes import FakeCritic, FakeGenerator

import gcr
from gcr.critic import critic
from gcr.drawing import generator
from gcr.engine import cluster, models
from gcr.engine.crew import Worker
from gcr.errors import UsageError
from gcr.inputs import promptfile


def test_a_row_has_its_own_negative_prompt_and_the_others_that_of_the_settings(
    monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    generator = FakeGenerator()
    monkeypatch.setattr(models, "load_models", lambda *_, **__: (generator, FakeCritic({})))
    file = tmp_path / "p.csv"
    file.write_text("prompt,negative_prompt\na red circle, blurry \na blue star,\n")
    done = gcr.batch(file, negative="dark", rounds=1, images=1)
    drawn = {c.prompt: c.negative for call in generator.calls for c in call}
    assert drawn == {"a red circle": "blurry", "a blue star": "dark"}
    record = json.loads((done.folder / done.results[0].folder / "run.json").read_text())
    assert record["request"]["negative"] == "blurry"
    assert done.results[0].extra == {"negative_prompt": " blurry "}  # it rides along, too
    drawings = len(generator.calls)
    assert len(gcr.batch(file, into=done.folder, negative="dark", rounds=1, images=1).results) == 2
    assert len(generator.calls) == drawings
    file.write_text("prompt,negative_prompt\na red circle,grey\na blue star,\n")
    with pytest.raises(UsageError, match="columns of prompt 1"):
        gcr.batch(file, into=done.folder, negative="dark", rounds=1, images=1)


def test_rows_with_other_negative_prompts_are_other_entries(tmp_path):
    file = tmp_path / "p.jsonl"
    rows = [{"id": "a", "prompt": "a star", "negative_prompt": n} for n in ("red", "blue", "red")]
    file.write_text("\n".join(map(json.dumps, rows)))
    entries = promptfile.read([file]).entries
    assert [(entry.id, entry.negative) for entry in entries] == [("a", "red"), ("a-2", "blue")]


def test_a_negative_prompt_that_is_no_text_is_named(tmp_path):
    file = tmp_path / "p.jsonl"
    file.write_text('{"prompt": "a star", "negative_prompt": ["red"]}\n')
    with pytest.raises(UsageError, match="the negative prompt is a list"):
        promptfile.read([file])


@pytest.mark.parametrize("ray", [None, "local"])
def test_a_pipeline_that_takes_none_is_refused_before_anything_is_drawn(monkeypatch, tmp_path, ray):
    class Taking(FakeGenerator):
        limit, heeds_negative = 0, False

        def check_negative(self):
            raise UsageError("it takes no negative prompt")

    @contextmanager
    def crew(order, near, *_):
        Worker().load(order, near, {})
        yield

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cluster, "crew", crew)
    monkeypatch.setattr(generator, "check", lambda *_, **__: None)
    monkeypatch.setattr(generator, "load", lambda *_, **__: Taking())
    monkeypatch.setattr(critic, "load", lambda *_, **__: FakeCritic({}))
    file = tmp_path / "p.csv"
    file.write_text("prompt,negative_prompt\na red circle,\na blue star,dark\n")
    with pytest.raises(UsageError, match="it takes no negative prompt"):
        gcr.batch(file, into="b", ray=ray)
    assert not Path("b").exists() or list(Path("b").iterdir()) == []
    file.write_text("prompt,negative_prompt\na red circle,\n")
    if not ray:
        assert not gcr.batch(file, into="b", rounds=1).failures
