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
from gcr.pocket.language import WORDS, join, phrase
from gcr.pocket.spec import Spec, Wanted
from gcr.pocket.train.captions import spec_of
from gcr.pocket.train.session import Session, device

WIDTH = 192
BATCH = 128
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


def batch(rng: random.Random, tokenize: Any) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """Tokens; positions of nouns (nouns, 2) as (row, token); their classes (nouns, heads)."""
    texts, where, classes = [], [], []
    for row in range(BATCH):
        spec = spec_of(world.sample(rng), rng)
        words = phrase(spec, rng)
        texts.append(join(words))
        for at, word in enumerate(words):
            if word.names:
                where.append((row, at))
                classes.append(labels(spec, word.names))
    tokens = tokenize(texts, padding=True, return_tensors="pt")
    return tokens, torch.tensor(where), torch.tensor(classes)


def train(folder: Path, steps: int, seed: int, rate: float) -> None:
    torch.manual_seed(seed)
    reader, tokenize = Reader().to(device()), tokenizer()
    session = Session(folder, reader, steps, seed, rate=rate)

    def loss_of(step: int) -> tuple[torch.Tensor, dict[str, float]]:
        tokens, where, classes = batch(random.Random(f"{seed} text {step}"), tokenize)
        hidden = reader(tokens.input_ids.to(device()), tokens.attention_mask.to(device()))
        at_nouns = hidden[where[:, 0], where[:, 1]]
        classes = classes.to(hidden.device)
        loss, right = hidden.new_zeros(()), 1.0
        for i, head in enumerate(reader.heads.values()):
            guess = head(at_nouns)
            loss = loss + F.cross_entropy(guess, classes[:, i])
            right = min(right, (guess.argmax(-1) == classes[:, i]).float().mean().item())
        return loss, {"worst_head": right}

    session.run(loss_of)


def load(folder: Path) -> T5EncoderModel:
    """The trained encoder of a stage folder, frozen."""
    reader = Reader()
    state = torch.load(folder / "checkpoint.pt", map_location="cpu", weights_only=True)
    reader.load_state_dict(state["model"])
    return cast("T5EncoderModel", reader.encoder.eval().requires_grad_(False).to(device()))
