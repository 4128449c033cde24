"""Stage 6: the critic: the trained eyes and a small Llama that replies and answers questions."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
)
from torch.nn import functional as F
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from gcr.pocket import world
from gcr.pocket.language import WORDS, say
from gcr.pocket.spec import RELATIONS, Spec
from gcr.pocket.train import eyes, questions, replies, vae
from gcr.pocket.train.captions import near_miss, spec_of
from gcr.pocket.train.session import Session, device
from gcr.pocket.truth import View

BATCH = 16
BATCHES = 8  # made together and sorted by length, so that little is spent on padding
SETTLING = 1500  # steps in which the eyes stay as they are, while the rest learns to read them
SHARES = {"critique": 0.74, "question": 0.17, "checklist": 0.03, "comparison": 0.06}
"""Of training examples."""
DETAILED = 0.2  # share of requests that give every place: few that users make do
RELATED = 0.8  # share of the other requests that state a relation, where one can be stated
MISSED = 0.5  # share of requests changed in one thing; of those, the share changed once more
ASKED = 0.6  # share of the generator's pictures that are held against what it was asked for
TURNED = 0.5
"""Share of stated relations that are drawn anew. With fewer, where things are can be guessed from
the relation, and the critic learns to guess it rather than to look.
"""
WEIGHT = 5.0  # of a verdict in the loss
"""Verdicts are few among the words of a reply, and what they depend on stands before them: without
this weight a critic describes well and does not compare.
"""
MOST_TOKENS = 512
MARK = "<image>"  # of a picture in a prompt
SPACE = "\u2581"
SPECIAL = ("<pad>", "</s>", "<unk>", MARK, "<user>", "<critic>")
CHAT = (
    "{% for message in messages %}"
    "{% if message.role == 'assistant' %}<critic>{% else %}<user>{% endif %}"
    "{% if message.content is string %}{{ message.content }}"
    "{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{% if message.role == 'assistant' %}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<critic>{% endif %}"
)


def phrases() -> list[str]:
    """Stretches of a reply that are one token each: headings, places, sentences that never vary."""
    h, (first, *others) = replies.RUBRIC.headings, replies.RUBRIC.aspects
    headings = [
        f"# {h.analysis}\n",
        f"\n# {h.judgement}\n1. {first}:\n## {h.justification}:",
        *(f"\n{n}. {aspect}:\n## {h.justification}:" for n, aspect in enumerate(others, 2)),
        f"\n## {h.score}:",
        f"\n# {h.summary}:",
        f"\n\n# {h.refinement}:\n## {h.comments}:",
        f"\n## {h.refined}:",
    ]
    sentences = [f" {sentence}" for sentence in replies.SENTENCES]
    bands = [f" {band}" for band in (*replies.ROWS, *replies.COLUMNS)]
    lines = [questions.LINE.format(n) for n in range(1, 25)]
    return [*lines, *headings, *sentences, *bands, *(f" at the {place}" for place in world.PLACES)]


def verdicts() -> list[str]:
    """The tokens that say whether something is as it was asked for."""
    words = ["right", "wrong", "missing", "colour", "shape", "size", "place", "yes", "no"]
    words += ["first", "second", "neither", *(f"{score / 2}" for score in range(2, 9))]
    return [*(SPACE + word for word in words), *(f" {s}" for s in replies.SUMMARIES)]


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, mark or heading; decoding gives back the text as it was."""
    words = set(WORDS) | set(replies.WORDS)
    words |= {f"{score / 2}" for score in range(2, 9)}
    vocabulary = {w: i for i, w in enumerate([*SPECIAL, *(SPACE + w for w in sorted(words))])}
    fast = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    fast.normalizer = normalizers.Lowercase()
    fast.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d\.\d|[\w'-]+|[^\w\s]"), "removed", invert=True),
            pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always", split=False),
        ]
    )
    marks = [decoders.Replace(SPACE + mark, mark) for mark in ".,:;?"]
    fast.decoder = decoders.Sequence([*marks, decoders.Replace(SPACE, " "), decoders.Fuse()])
    fast.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    fast.add_tokens([AddedToken(p, normalized=False) for p in phrases()])
    return PreTrainedTokenizerFast(
        tokenizer_object=fast,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens={"image_token": MARK},
        model_max_length=MOST_TOKENS,
        padding_side="left",
        chat_template=CHAT,
        clean_up_tokenization_spaces=False,
    )


def build(vocabulary: int) -> LlavaForConditionalGeneration:
    return LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=eyes.config(),
            text_config=LlamaConfig(
                vocab_size=vocabulary,
                hidden_size=192,
                intermediate_size=512,
                num_hidden_layers=4,
                num_attention_heads=6,
                num_key_value_heads=6,
                max_position_embeddings=MOST_TOKENS,
                tie_word_embeddings=True,
                pad_token_id=0,
                eos_token_id=1,
                bos_token_id=None,
            ),
            image_token_index=SPECIAL.index(MARK),
            image_seq_length=eyes.GRID**2,
            vision_feature_layer=-1,
            vision_feature_select_strategy="full",
            projector_hidden_act="gelu",
            tie_word_embeddings=True,
        )
    )


def revived(source: Path) -> LlavaForConditionalGeneration:
    """A trained critic with the tokens of today. One that it did not have yet starts anew."""
    before = LlavaForConditionalGeneration.from_pretrained(source).float()
    ids, tokens = AutoTokenizer.from_pretrained(source).get_vocab(), tokenizer().get_vocab()
    rows = cast("torch.Tensor", before.get_input_embeddings().weight)
    model = build(len(tokens))
    now = cast("torch.Tensor", model.get_input_embeddings().weight).detach().clone()
    for token, i in tokens.items():
        if token in ids:
            now[i] = rows[ids[token]]
    known = before.state_dict()
    embeddings = [
        name for name in known if name.endswith(("embed_tokens.weight", "lm_head.weight"))
    ]
    model.load_state_dict({**known, **dict.fromkeys(embeddings, now)})
    return model


class Album(NamedTuple):
    """Pictures to learn from.

    pixels: (n, 3, 64, 64), uint8. views: what truth reads in each. asked: what the generator was
    asked for when it drew it, None for a picture that it did not draw. ways: how best to rewrite
    each kind of request: by number of things and whether it has a relation.
    """

    pixels: torch.Tensor
    views: list[View]
    asked: list[Spec | None]
    ways: dict[tuple[int, bool], replies.Rewrite]


class Example(NamedTuple):
    """pictures: by their places in the album, in the order of their marks in the prompt."""

    pictures: tuple[int, ...]
    prompt: str
    reply: str


def example(album: Album, rng: random.Random) -> Example:
    """Something that a critic is asked, and what it should say."""
    picture = rng.randrange(len(album.views))
    view = album.views[picture]
    (kind,) = rng.choices(list(SHARES), list(SHARES.values()))
    if kind == "question":
        text, yes = questions.ask(view, rng)
        return Example((picture,), MARK + text, " yes" if yes else " no")
    asked = album.asked[picture]
    spec = asked if asked and rng.random() < ASKED else request(view, rng)
    if kind == "checklist":
        return Example((), f"Checklist: {say(spec, rng)}", questions.checklist(spec))
    if kind == "comparison":
        return comparison(album, picture, spec, rng)
    if spec.relation and rng.random() < TURNED:
        spec = replace(spec, relation=replace(spec.relation, name=rng.choice(RELATIONS)))
    while rng.random() < MISSED:
        spec = near_miss(spec, rng)
    way = album.ways[sum(g.count for g in spec.groups), spec.relation is not None]
    return Example((picture,), f"{MARK}Request: {say(spec, rng)}", replies.write(spec, view, way))


def comparison(album: Album, picture: int, spec: Spec, rng: random.Random) -> Example:
    """Which of two pictures is better. Both were drawn for the same request, if there are such."""
    asked, around = album.asked[picture], range(max(0, picture - 11), picture + 12)
    rivals = [i for i in around if i != picture and asked and album.asked[i : i + 1] == [asked]]
    other = rng.choice(rivals) if rivals else rng.randrange(len(album.views))
    first, second = rng.sample((picture, other), 2)
    return Example(
        (first, second),
        f"First:{MARK}Second:{MARK}Compare: {say(spec, rng)}",
        questions.compare(spec, album.views[first], album.views[second]),
    )


def request(view: View, rng: random.Random) -> Spec:
    """A request that a picture meets, or now and then has little to do with."""
    scene = (
        world.Scene(view.canvas, tuple(view.things[: world.MOST]))
        if view.things
        else world.sample(rng)
    )
    if rng.random() < 0.06:
        scene = world.sample(rng)
    return spec_of(scene, rng, noisy=False, detailed=DETAILED, related=RELATED)


def lesson(album: Album, seed: int, step: int) -> list[Example]:
    """The examples of one step, of about one length."""
    rng = random.Random(f"{seed} critic {step // BATCHES}")
    examples = [example(album, rng) for _ in range(BATCH * BATCHES)]
    examples.sort(key=lambda e: len(e.prompt) + len(e.reply))
    start = BATCH * rng.sample(range(BATCHES), BATCHES)[step % BATCHES]
    return examples[start : start + BATCH]


class Batcher:
    """Examples as tensors. The prompt is left out of the loss."""

    def __init__(self, tokenize: PreTrainedTokenizerFast) -> None:
        self.tokenize: Any = tokenize

    def __call__(self, examples: list[Example]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and labels (-100: no loss), each (examples, tokens), padded on the right.

        The model looks back only, so padding needs no mask.
        """
        rows = []
        for e in examples:
            head = self.ids(f"<user>{e.prompt.replace(MARK, MARK * eyes.GRID**2)}<critic>")
            tail = self.ids(e.reply + "</s>")
            rows.append((head + tail, [-100] * len(head) + tail))
        longest = max(len(ids) for ids, _ in rows)
        ids = torch.tensor([i + [0] * (longest - len(i)) for i, _ in rows])
        labels = torch.tensor([t + [-100] * (longest - len(t)) for _, t in rows])
        return ids, labels

    def ids(self, text: str) -> list[int]:
        return cast("list[int]", self.tokenize(text, add_special_tokens=False).input_ids)


def train(folder: Path, steps: int, seed: int, rate: float, album: Album) -> None:
    torch.manual_seed(seed)
    tokenize = tokenizer()
    model = build(len(tokenize)).to(device())
    model.model.vision_tower.load_state_dict(eyes.load(folder.parent / "eyes").state_dict())
    weights = torch.ones(len(tokenize), device=device())
    weights[tokenize.convert_tokens_to_ids(verdicts())] = WEIGHT
    session = Session(folder, model, steps, seed, rate=rate, muon=True)
    batcher, pixels = Batcher(tokenize), album.pixels.to(device())

    def loss_of(step: int) -> tuple[torch.Tensor, dict[str, float]]:
        model.model.vision_tower.requires_grad_(session.adopted or step >= SETTLING)
        examples = lesson(album, seed, step)
        ids, labels = (t.to(device()) for t in batcher(examples))
        seen = eyes.jitter(vae.to_model(pixels[[i for e in examples for i in e.pictures]]))
        hidden = model.model(input_ids=ids, pixel_values=seen, use_cache=False).last_hidden_state
        told = labels[:, 1:] != -100
        guess = model.lm_head(hidden[:, :-1][told])
        want = labels[:, 1:][told]
        sure = guess.argmax(-1) == want
        judged = weights[want] > 1
        figures = {"tokens_right": sure.float().mean().item()}
        if judged.any():
            figures["verdicts_right"] = sure[judged].float().mean().item()
        return F.cross_entropy(guess, want, weights), figures

    session.run(loss_of)
