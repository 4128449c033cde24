"""How a pipeline reads a prompt: its LoRAs taken out, its weights heeded, however long it is.

Where CLIP alone reads prompts, they are read as A1111 does: by chunks of 75 tokens, each encoded
for itself, whose encodings stand one behind the other; a word's encoding is multiplied by its
weight, and the whole then brought back to its mean. A prompt without weights that fits into one
chunk goes the pipeline's own way, to the bit.

This is code of our own as compel 2.5 has another grammar, and with transformers 5.23 neither reads
long prompts for SDXL nor skips layers of CLIP; nor does diffusers 0.42 skip any there for Stable
Diffusion.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gcr.core import syntax
from gcr.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

CHUNK = 75
"""Tokens of a prompt that a CLIP reads at once, between those of its beginning and its end."""
BACK = 20
"""How many tokens before the end of a chunk a comma is looked for, to break there."""
FAMILIES = {
    "StableDiffusionPipeline": 1,
    "StableDiffusionImg2ImgPipeline": 1,
    "StableDiffusionXLPipeline": 2,
    "StableDiffusionXLImg2ImgPipeline": 2,
}
"""Pipelines whose prompts CLIP alone reads, and which of its layers they read, from the last."""


@dataclass(frozen=True, slots=True)
class _Chunk:
    """tokens, weights: CHUNK of each, at most."""

    tokens: list[int]
    weights: list[float]


class Reader:
    """Reads prompts for one pipeline.

    Arguments:
        pipeline: of diffusers.
        marked: whether prompts have weights and name LoRAs; else they are words alone.
        clip_skip: the layer that is read, from the last; None: the family's own.

    Raises UsageError for a layer where there is no CLIP that is read alone.
    """

    def __init__(self, pipeline: Any, *, marked: bool, clip_skip: int | None) -> None:
        family = type(pipeline).__name__
        self._usual = FAMILIES.get(family, 0)
        if clip_skip is not None and not self._usual:
            raise UsageError(
                f"{family} has no --clip-skip: CLIP alone does not read its prompts", "leave it out"
            )
        self._layer = clip_skip or self._usual
        self._marked = marked
        self.by_chunks = marked and bool(self._usual)

    def text(self, prompt: str) -> str:
        """A prompt as the pipeline is given it."""
        if not self._marked:
            return prompt
        plain = syntax.without_loras(prompt)
        return plain if self._usual else syntax.without_weights(plain)

    def loras(self, prompt: str) -> tuple[syntax.Lora, ...]:
        """The LoRAs that a prompt names."""
        return syntax.loras(prompt) if self._marked else ()

    def ignores(self, prompt: str) -> bool:
        """Whether there are weights in a prompt, or a BREAK, that have no effect."""
        return self._marked and not self._usual and syntax.without_weights(prompt) != prompt

    def unread(self, prompt: str) -> bool:
        """Whether a prompt has marks of A1111's that are read as words."""
        return self._marked and syntax.has_unread(prompt)

    def chunks(self, pipeline: Any, *prompts: str) -> int:
        """By how many chunks prompts are read, as many as the longest has; 0: in the pipeline's own
        way. Prompts that differ in this are not encoded together.
        """
        if not self._usual:
            return 0
        texts = [self.text(prompt) for prompt in prompts]
        most = self._most(pipeline, texts)
        is_plain = self._layer == self._usual and not (self.by_chunks and _marked(texts))
        return 0 if is_plain and most == 1 else most

    def _most(self, pipeline: Any, texts: Sequence[str]) -> int:
        if not self.by_chunks:
            return 1
        tokenizers = [part for part, _ in _encoders(pipeline)]
        return max(len(_chunks(tokenizer, text)) for tokenizer in tokenizers for text in texts)

    def encode(self, pipeline: Any, encode: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """In place of a pipeline's `encode_prompt`, which is passed as `encode`."""
        call = inspect.signature(encode).bind(*args, **kwargs)
        call.apply_defaults()
        values = call.arguments
        prompts, negatives = _listed(values["prompt"]), _listed(values.get("negative_prompt"))
        others = ("prompt_embeds", "prompt_2", "negative_prompt_2", "negative_prompt_embeds")
        is_ours = self._usual and prompts and all(values.get(name) is None for name in others)
        length = self.chunks(pipeline, *(prompts or ()), *(negatives or ())) if is_ours else 0
        if not length:
            return encode(*args, **kwargs)
        return self._encoded(pipeline, values, prompts or [], negatives, length)

    def _encoded(
        self,
        pipeline: Any,
        call: Mapping[str, Any],
        prompts: list[str],
        negatives: list[str] | None,
        length: int,
    ) -> Any:
        import torch

        guided = bool(call["do_classifier_free_guidance"])
        count = int(call["num_images_per_prompt"])
        device = call.get("device") or pipeline._execution_device  # noqa: SLF001 - as diffusers
        texts = [*prompts, *((negatives or [""] * len(prompts)) if guided else ())]
        encoded, pooled = [], torch.empty(0)
        for tokenizer, encoder in _encoders(pipeline):
            rows = [self._one(tokenizer, encoder, text, length, device) for text in texts]
            encoded.append(torch.stack([row for row, _ in rows]))
            pooled = torch.stack([whole for _, whole in rows])  # of SDXL's second encoder
        embeddings = torch.cat(encoded, dim=-1)  # (prompts, length × 77, width)
        embeddings = embeddings.repeat_interleave(count, dim=0)
        half = len(prompts) * count
        positive, negative = embeddings[:half], embeddings[half:] if guided else None
        if self._usual == 1:
            return positive, negative
        pooled = pooled.repeat_interleave(count, dim=0)
        positive_pooled, negative_pooled = pooled[:half], pooled[half:] if guided else None
        if guided and negatives is None and pipeline.config.force_zeros_for_empty_prompt:
            negative, negative_pooled = (
                torch.zeros_like(positive),
                torch.zeros_like(positive_pooled),
            )
        return positive, negative, positive_pooled, negative_pooled

    def _one(self, tokenizer: Any, encoder: Any, text: str, length: int, device: Any) -> Any:
        """The encoding of one prompt, (length × 77, width), and that of the whole."""
        import torch

        if self.by_chunks:
            chunks = _chunks(tokenizer, text)
        else:  # for a skipped layer alone: as the pipeline would read it
            tokens = _tokens(tokenizer, text)[:CHUNK]
            chunks = [_Chunk(tokens, [1.0] * len(tokens))]
        chunks += [_Chunk([], []) for _ in range(length - len(chunks))]
        ids, weights = zip(*(_filled(tokenizer, chunk) for chunk in chunks), strict=True)
        output = encoder(torch.tensor(ids, device=device), output_hidden_states=True)
        hidden = output.hidden_states[-self._layer]
        if self._usual == 1:
            inner = getattr(encoder, "text_model", encoder)  # as in transformers before 5.6
            hidden = inner.final_layer_norm(hidden)
        scale = torch.tensor(weights, device=hidden.device, dtype=hidden.dtype)
        if bool((scale != 1).any()):
            mean = hidden.float().mean()
            hidden = hidden * scale.unsqueeze(-1)
            hidden = hidden * (mean / hidden.float().mean()).to(hidden.dtype)
        return hidden.flatten(0, 1), output[0][0]


def _encoders(pipeline: Any) -> list[tuple[Any, Any]]:
    """Tokenizers and encoders that read prompts."""
    pairs = (("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2"))
    found = [tuple(getattr(pipeline, name, None) for name in pair) for pair in pairs]
    return [(tokenizer, encoder) for tokenizer, encoder in found if encoder is not None]


def _listed(prompt: object) -> list[str] | None:
    return [prompt] if isinstance(prompt, str) else list(prompt) if prompt is not None else None  # type: ignore[call-overload]


def _marked(texts: Sequence[str]) -> bool:
    """Whether a text is more than words as they stand there."""
    return any(syntax.fragments(text) != [syntax.Fragment(text, 1.0)] for text in texts)


def _tokens(tokenizer: Any, text: str) -> list[int]:
    """Of a text, without those of beginning and end."""
    return list(tokenizer(text, truncation=False, add_special_tokens=False).input_ids)


def _chunks(tokenizer: Any, text: str) -> list[_Chunk]:
    """A prompt by chunks; one begins anew at BREAK, and behind a comma, if there is one not far
    from its end.
    """
    comma = _tokens(tokenizer, ",")[-1:]
    sections = [_Chunk([], [])]
    for fragment in syntax.fragments(text):
        for number, part in enumerate(syntax.parts(fragment.text)):
            sections += [_Chunk([], [])] if number else []
            piece = _tokens(tokenizer, part)
            sections[-1].tokens.extend(piece)
            sections[-1].weights.extend([fragment.weight] * len(piece))
    chunks = []
    for section in sections:
        tokens, weights = section.tokens, section.weights
        while len(tokens) > CHUNK:
            commas = [i + 1 for i in range(CHUNK - BACK, CHUNK) if tokens[i : i + 1] == comma]
            end = commas[-1] if commas else CHUNK
            chunks.append(_Chunk(tokens[:end], weights[:end]))
            tokens, weights = tokens[end:], weights[end:]
        chunks.append(_Chunk(tokens, weights))
    return chunks


def _filled(tokenizer: Any, chunk: _Chunk) -> tuple[list[int], list[float]]:
    """The tokens of a chunk as CLIP reads them, with beginning, end and what fills it up."""
    end = tokenizer.eos_token_id
    begin = end if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    pad = end if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    rest = CHUNK - len(chunk.tokens)
    ids = [begin, *chunk.tokens, end, *[pad] * rest]
    return ids, [1.0, *chunk.weights, 1.0, *[1.0] * rest]
