"""Stage 5: the critic: the trained eyes and a small Llama that replies and answers questions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

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
from torch import nn
from torch.nn import functional as F
from transformers import (
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from gcr.pocket import world
from gcr.pocket.language import WORDS
from pocket_training import eyes, lessons, questions, replies, vae
from pocket_training.lessons import IGNORED, MARK, Album
from pocket_training.session import LATE, Batch, Plan, Session, device

WEIGHT = 5.0  # of a verdict in the loss
"""Verdicts are few among the words of a reply, and what they depend on stands before them: without
this weight a critic describes well and does not compare.
"""
SEEING = 0.2  # of the loss with which the eyes learned, which goes on
MOST_TOKENS = 512
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
    """The tokens that say whether something is as it was asked for, and of what size it is."""
    words = ["right", "wrong", "missing", "colour", "shape", "size", "place", "yes", "no"]
    words += ["first", "second", "neither", *(f"{score / 2}" for score in range(2, 9))]
    words += world.SIZES
    # After the last check: whether something is there that nobody asked for.
    ends = [f" {replies.EXTRA}", f"\n## {replies.RUBRIC.headings.score}:"]
    return [*(SPACE + word for word in words), *(f" {s}" for s in replies.SUMMARIES), *ends]


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


class Reader(nn.Module):
    """The critic with the heads that taught its eyes, so that they go on learning to see."""

    def __init__(self, critic: LlavaForConditionalGeneration, seer: eyes.Eyes) -> None:
        super().__init__()
        self.critic = critic
        self.seer = seer
        seer.tower = cast("Any", critic.model.vision_tower)  # one tower in both

    def forward(
        self, ids: torch.Tensor, at: torch.Tensor, seen: torch.Tensor | None
    ) -> torch.Tensor:
        """Logits (batch, tokens, vocabulary) of token ids (batch, tokens).

        at: where the tokens of pictures stand, the same in every row. seen: features of the
        pictures (batch × pictures, patches, width), or None.
        What Llava's own forward does, without its look at where the pictures are.
        """
        llava = self.critic.model
        embedded = llava.get_input_embeddings()(ids)
        if seen is not None:
            pictures = llava.multi_modal_projector(seen).to(embedded.dtype)
            pictures = pictures.view(len(ids), -1, pictures.shape[-1])
            embedded = embedded.index_copy(1, at, pictures)
        hidden = llava.language_model(inputs_embeds=embedded, use_cache=False).last_hidden_state
        return cast("torch.Tensor", self.critic.lm_head(hidden))


def train(folder: Path, plan: Plan, album: Album) -> None:
    torch.manual_seed(plan.seed)
    seer = eyes.Eyes()
    seer.load_state_dict(eyes.weights(folder.parent / "eyes"))
    critic = build(len(tokenizer()))
    critic.model.vision_tower.load_state_dict(seer.tower.state_dict())
    learn(folder, Reader(critic, seer), plan, album)


def learn(  # noqa: PLR0913 - what is learned, and how it differs from the first time
    folder: Path,
    reader: Reader,
    plan: Plan,
    album: Album,
    *,
    kinds: Mapping[str, float] = lessons.KINDS,
    seeing: float = SEEING,
    late: float = LATE,
    every: int = 200,
) -> None:
    """Train a reader by lessons, to the last step of a plan.

    kinds: shares of the steps. seeing: weight of what its eyes learned alone. late, every: as
    `Session` has them.
    """
    tokenize = tokenizer()
    model, seer = reader.to(device()), reader.seer
    weights = torch.ones(len(tokenize), device=device())
    weights[tokenize.convert_tokens_to_ids(verdicts())] = WEIGHT
    rounded = list(in_four_bits(reader.critic))
    session = Session(folder, model, plan, muon=True, every=every, fourbit=rounded, late=late)
    pixels, patches = album.pixels.to(device()), album.patches.to(device())
    batcher = lessons.Batcher(tokenize, album, plan, kinds)

    def loss_of(told: Batch) -> tuple[torch.Tensor, Batch]:
        seen, extra = None, torch.zeros((), device=device())
        if "pictures" in told:
            picks = told["pictures"].flatten()
            seen = seer(eyes.jitter(vae.to_model(pixels[picks])))
            if seeing:
                extra, _ = eyes.loss(seer, seen, patches[picks])
        guess = model(told["ids"], told["at"], seen)[:, :-1].flatten(0, 1).float()
        want = told["labels"][:, 1:].flatten()
        sure, spoken = guess.argmax(-1) == want, want != IGNORED
        judged = spoken & (weights[want.clamp(min=0)] > 1)
        figures = {
            "tokens_right": (sure & spoken).sum() / spoken.sum(),
            "verdicts_right": (sure & judged).sum() / judged.sum().clamp(min=1),
        }
        return F.cross_entropy(guess, want, weights) + seeing * extra, figures

    session.run(batcher, loss_of)


def load(folder: Path) -> LlavaForConditionalGeneration:
    """The trained critic of a stage folder."""
    model = Reader(build(len(tokenizer())), eyes.Eyes())
    model.load_state_dict(eyes.weights(folder))
    return model.critic.eval()


def in_four_bits(critic: LlavaForConditionalGeneration) -> Iterator[nn.Parameter]:
    """The weights that gcr runs in 4 bits: the linear layers of the decoder."""
    for layer in critic.model.language_model.modules():
        if isinstance(layer, nn.Linear):
            yield cast("nn.Parameter", layer.weight)
