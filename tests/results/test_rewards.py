"""The critic as a reward function: what it takes, what it gives, and what it refuses."""

import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

import gcr
from gcr.core.records import Critique
from gcr.errors import GcrError, UsageError
from gcr.results import rewards

STAR = "a red star"


class Brightness:
    """Scores an image by its middle pixel; cannot judge what is darker than a tenth."""

    def __init__(self):
        self.asked = []
        self.at_work = threading.Lock()

    def judge(self, requests, images, sources=()):
        assert self.at_work.acquire(blocking=False), "two threads at once"
        time.sleep(0.001)  # so that another thread has its chance
        self.asked += [request.prompt for request in requests]
        scores = [sum(image.getpixel((8, 8))) / 765 for image in images]
        self.at_work.release()
        return [
            Critique(overall=score) if score > 0.1 else Critique(raw="?", problem="unreadable")
            for score in scores
        ]


@pytest.fixture
def loaded(monkeypatch, tmp_path):
    """The critics that were loaded, with their settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(rewards, "_loaded", {})
    loaded = []

    def load(settings, questions, view, device):
        loaded.append((settings, device, Brightness()))
        return loaded[-1][2]

    monkeypatch.setattr(rewards, "load_critic", load)
    return loaded


def grey(*levels):
    """(batch, 3, 16, 16): the middle of each as bright as its level, with a black border."""
    images = torch.zeros(len(levels), 3, 16, 16)
    for image, level in zip(images, levels, strict=True):
        image[:, 1:-1, 1:-1] = level
    return images


def test_the_call_of_ddpo_and_flow_grpo(loaded):
    reward_fn = gcr.Reward(profile="pocket", score="soft", device="cuda:1")
    images, prompts, metadata = grey(0.2, 0.8), (STAR, "a red heart"), ({}, {})
    scores, info = reward_fn(images, prompts, metadata)
    assert torch.as_tensor(scores).tolist() == pytest.approx([0.2, 0.8], abs=0.01)
    assert [critique.overall for critique in info["critiques"]] == scores
    ((settings, device, critic),) = loaded
    assert (settings.score, device, critic.asked) == ("soft", "cuda:1", [STAR, "a red heart"])


@pytest.mark.parametrize(
    "form",
    [
        lambda images: images,
        lambda images: images.to(torch.bfloat16),
        lambda images: images.double().numpy(),
        lambda images: (images * 255).round().to(torch.uint8),
        lambda images: images.permute(0, 2, 3, 1).numpy(),
        lambda images: (images * 255).round().permute(0, 2, 3, 1).numpy().astype("uint8"),
        list,
        lambda images: images[:, :1],
        lambda images: [
            Image.fromarray((image.permute(1, 2, 0).numpy() * 255).round().astype("uint8"))
            for image in images
        ],
    ],
    ids=["nchw", "bf16", "array-nchw", "bytes", "nhwc", "bytes-nhwc", "list", "one", "pillow"],
)
def test_images_in_every_form_are_the_same_images(loaded, form):
    assert gcr.reward(form(grey(0.2, 0.8)), [STAR, "a blue heart"]) == pytest.approx(
        [0.2, 0.8], abs=0.01
    )


def test_the_critic_is_loaded_once_for_equal_settings(loaded):
    for _ in range(2):
        gcr.reward(grey(0.5), [STAR], score="soft")
    gcr.reward(grey(0.5), [STAR], score="soft", unscored=0.0)
    assert len(loaded) == 1
    gcr.reward(grey(0.5), [STAR])
    assert [settings.score for settings, _, _ in loaded] == ["soft", "reply"]


def test_an_image_without_a_score_is_an_error_unless_the_caller_has_a_value_for_it(loaded):
    images = grey(0.05, 0.5, 0.5, 0.5)
    images[1] = 0.5  # blank
    images[2, 0, 0, 0] = math.nan
    with pytest.raises(GcrError, match=r"3 of 4 images .* \(image 0: unreadable; and 2 more\)"):
        gcr.reward(images, [STAR] * 4)
    given = gcr.reward(images, [STAR] * 4, unscored=-1.0)
    assert given == pytest.approx([-1.0, -1.0, -1.0, 0.5], abs=0.01)
    assert loaded[0][2].asked == [STAR, STAR] * 2  # the faulty ones are not shown
    scores, info = gcr.Reward(unscored=math.nan)(images, [STAR] * 4)
    assert [math.isnan(score) for score in scores] == [True, True, True, False]
    problems = [critique.problem for critique in info["critiques"]]
    assert problems == ["unreadable", "blank image", "non-finite image", ""]


def test_threads_of_a_trainer_take_turns(loaded):
    reward_fn = gcr.Reward()
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(reward_fn, grey(0.5), [STAR], [{}]) for _ in range(32)]
        assert all(call.result()[0] == pytest.approx([0.5], abs=0.01) for call in calls)


@pytest.mark.parametrize(
    ("images", "prompts", "message"),
    [
        (grey(0.5) * 2 - 1, [STAR], "values from -1 to 0"),
        (grey(0.5) * 255, [STAR], "values from 0 to 127.5"),
        (grey(0.5).requires_grad_(), [STAR], "a critic's reward has none"),
        (torch.zeros(1, 4, 64, 64), [STAR], "which is no picture"),
        (torch.zeros(3, 16, 16), [STAR], "give a batch"),
        (torch.zeros(1, 3, 16, 16, dtype=torch.int64), [STAR], "is of int64"),
        (np.zeros((1, 16, 16)), [STAR], "give a batch"),
        (Image.new("RGB", (16, 16)), [STAR], "give a list"),
        ("x.png", [STAR], "give a list"),
        (["nowhere.png"], [STAR], "cannot read nowhere.png"),
        ([None], [STAR], "an image cannot be a NoneType"),
        (grey(0.5), [STAR, STAR], "1 image and 2 prompts"),
        (grey(0.5, 0.5), "ab", "2 images and 1 prompt"),
        (grey(0.5), [" "], "prompt 0 says nothing"),
    ],
)
def test_what_is_no_image_or_prompt_is_refused(loaded, images, prompts, message):
    with pytest.raises(UsageError) as caught:
        gcr.reward(images, prompts)
    assert message in f"{caught.value.message}; {caught.value.hint}"


def test_settings_of_the_drawing_are_none_of_a_reward(loaded):
    for flags in ({"steps": 3}, {"scores": "soft"}):
        with pytest.raises(UsageError, match="a reward has no setting"):
            gcr.reward(grey(0.5), [STAR], **flags)
    assert loaded == []


def test_the_embedded_critic_rewards_as_it_scores_in_a_run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GCR_CACHE", str(tmp_path / "cache"))
    prompt = "two red circles and a blue star"
    done = gcr.refine(prompt, rounds=1, images=3, target=1.0, seed=1)
    images = [Image.open(done.folder / attempt.image) for attempt in done.run.attempts]
    batch = torch.stack(
        [torch.tensor(np.asarray(image)).permute(2, 0, 1) / 255 for image in images]
    )
    scores = gcr.reward(batch, [prompt] * 3)
    assert scores == [attempt.score for attempt in done.run.attempts]
    assert len(set(scores)) > 1  # or equality would say nothing
