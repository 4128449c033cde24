"""Stage 2: the text encoder alone, taught to bind words: at each noun, tell all that is said of it.

It is cheap, and it spares the denoiser from learning grammar through its images.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from gcr.pocket import world
from gcr.pocket.language import WORDS, Spec, Wanted, join
from pocket_training.captions import phrase, spec_of
from pocket_training.session import Batch, Plan, Session, device

WIDTH = 192
MOST_TOKENS = 64
CLASSES = {
    "colour": tuple(world.COLOURS),
    "shape": world.SHAPES,
    "size": ("", *world.SIZES),
    "place": ("", *world.PLACES),
    "count": (1, 2, 3, 4, 5),
    "side": ("", "up", "down", "left", "right"),
    "canvas": ("", *world.CANVASES),
}
_SIDES = {"above": ("up", "down"), "left of": ("left", "right")}
_SIDES |= {"below": ("down", "up"), "right of": ("right", "left")}


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a word or mark; an end token so that an empty prompt has something to attend to."""
    vocabulary = {w: i for i, w in enumerate(["<pad>", "</s>", "<unk>", *sorted(WORDS)])}
    fast = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    fast.normalizer = normalizers.Lowercase()
    fast.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\w'-]+|[^\w\s]"), "removed", invert=True)
    fast.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", vocabulary["</s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=fast,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=MOST_TOKENS,
    )


def build() -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer()),
            d_model=WIDTH,
            d_kv=32,
            num_heads=6,
            d_ff=448,
            num_layers=3,
            dropout_rate=0.0,
            feed_forward_proj="gelu",
            pad_token_id=0,
            eos_token_id=1,
        )
    )


class Reader(nn.Module):
    """The encoder with a linear head for each thing that can be said of a noun."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = build()
        self.heads = nn.ModuleDict({k: nn.Linear(WIDTH, len(v)) for k, v in CLASSES.items()})

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Token ids and mask, both (batch, tokens), to hidden states (batch, tokens, WIDTH)."""
        return cast("torch.Tensor", self.encoder(ids, attention_mask=mask).last_hidden_state)


def labels(spec: Spec, named: Wanted) -> list[int]:
    """The class of each head at a noun that names this thing."""
    group = spec.groups[named.group]
    side = ""
    if spec.relation:
        side = _SIDES[spec.relation.name][named.group in spec.relation.second]
    told = (named.colour, named.shape, named.size, named.place, group.count, side, spec.canvas)
    return [classes.index(value) for classes, value in zip(CLASSES.values(), told, strict=True)]


def batch_of(rng: random.Random, tokenize: Any, size: int) -> Batch:
    """Token ids and mask of captions, and at each token the class of each head, as `classes`
    (captions, tokens, heads): -100 but at nouns.
    """
    texts, classes = [], torch.full((size, MOST_TOKENS, len(CLASSES)), -100)
    for row in range(size):
        spec = spec_of(world.sample(rng), rng)
        words = phrase(spec, rng)
        texts.append(join([word.text for word in words]))
        for at, word in enumerate(words):
            if word.names:
                classes[row, at] = torch.tensor(labels(spec, word.names))
    tokens = tokenize(texts, padding="max_length", return_tensors="pt")
    return {"ids": tokens.input_ids, "mask": tokens.attention_mask, "classes": classes}


def train(folder: Path, plan: Plan) -> None:
    torch.manual_seed(plan.seed)
    reader, tokenize = Reader().to(device()), tokenizer()
    session = Session(folder, reader, plan)

    def loss_of(told: Batch) -> tuple[torch.Tensor, Batch]:
        hidden = reader(told["ids"], told["mask"])
        loss, right = hidden.new_zeros(()), hidden.new_ones(())
        for i, head in enumerate(reader.heads.values()):
            guess, want = head(hidden).flatten(0, 1), told["classes"][..., i].flatten()
            loss = loss + F.cross_entropy(guess, want)
            hits = (guess.argmax(-1) == want).sum() / (want >= 0).sum()
            right = torch.minimum(right, hits)
        return loss, {"worst_head": right}

    def of_step(step: int) -> Batch:
        return batch_of(random.Random(f"{plan.seed} text {step}"), tokenize, plan.batch)

    session.run(of_step, loss_of)


def load(folder: Path) -> T5EncoderModel:
    """The trained encoder of a stage folder, frozen."""
    reader = Reader()
    state = torch.load(folder / "checkpoint.pt", map_location="cpu", weights_only=True)
    reader.load_state_dict(state["model"])
    return cast("T5EncoderModel", reader.encoder.eval().requires_grad_(False).to(device()))
