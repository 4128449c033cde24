"""Spares a model what it has read already, by keeping keys and values.

That is what every chat begins with, the rubric before the image (`PrefixCache`), and a chat that
several replies are written to (`read_once`). Causal attention makes the keys and values of the
first tokens independent of all that follows.
"""

from __future__ import annotations

import functools
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import torch

FAMILIES = frozenset({"qwen3_vl"})
"""Where replies were seen to stay the same. Elsewhere a window of attention that slides, or images
that the text before them attends to, could change them."""


class PrefixCache:
    """The last opening that a model has read, with its keys and values."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._serves = model.config.model_type in FAMILIES
        self._tokens: list[int] = []
        # In the machine's memory: the GPU's is planned for the weights and the work.
        self._layers: list[tuple[torch.Tensor, torch.Tensor]] = []

    def spared(self, inputs: Mapping[str, torch.Tensor], cache: Any = None) -> dict[str, Any]:
        """The inputs of `generate` for a batch padded on the left, with the opening read already.

        The padding moves behind the opening, which every row then has in the same place. As they
        are, where the rows show no image, or differ before their first one.
        cache: an empty one to decode with; None: as `generate` makes it.
        """
        opening = self._opening(inputs) if self._serves else []
        given = {} if cache is None else {"past_key_values": cache}
        if not opening:
            return {**inputs, **given}
        from transformers import DynamicCache

        ids = inputs["input_ids"]
        if opening != self._tokens:
            self._tokens, self._layers = opening, self._read(ids.new_tensor([opening]))
        layers = (
            [half.to(ids.device).expand(len(ids), -1, -1, -1) for half in layer]
            for layer in self._layers
        )
        if cache is None:
            cache = DynamicCache(layers)
        else:
            for place, (keys, values) in zip(cache.layers, layers, strict=True):
                place.update(keys, values)
        return {**_moved(inputs, len(opening)), "past_key_values": cache}

    def _opening(self, inputs: Mapping[str, torch.Tensor]) -> list[int]:
        """The tokens before the first image, if they are the same in every row."""
        marker = self._model.config.image_token_id
        rows = (
            ids[mask.bool()].tolist()
            for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)
        )
        openings = [row[: row.index(marker)] if marker in row else [] for row in rows]
        same = all(opening == openings[0] for opening in openings)
        return openings[0] if same else []

    def _read(self, tokens: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """tokens: (1, length). The keys and values of each layer: (1, heads, length, width)."""
        cache = self._model(input_ids=tokens, use_cache=True, logits_to_keep=1).past_key_values
        return [(layer.keys.cpu(), layer.values.cpu()) for layer in cache.layers]


def _moved(inputs: Mapping[str, torch.Tensor], opening: int) -> dict[str, torch.Tensor]:
    """The inputs with each row's padding behind its first `opening` tokens."""
    import torch

    shape = inputs["input_ids"].shape  # (batch, length)
    pads = shape[1] - inputs["attention_mask"].sum(1, keepdim=True)
    places = torch.arange(shape[1], device=pads.device).expand(shape)
    order = torch.where(places < opening, places + pads, places - opening)
    order = torch.where(places < opening + pads, order, places)
    return {
        name: tensor.gather(1, order) if tensor.shape == shape else tensor
        for name, tensor in inputs.items()
    }


PIXELS = ("pixel_values", "pixel_values_images", "image_patches")
"""What `generate` reads images from, of every row, before it calls the model."""


@contextmanager
def read_once(
    model: Any,
    inputs: Mapping[str, torch.Tensor],
    distinct: Mapping[str, torch.Tensor],
    prompts: Sequence[int],
) -> Iterator[dict[str, torch.Tensor]]:
    """Gives inputs with which `generate` reads each distinct prompt and image once, inside.

    inputs: of all rows. distinct: of the distinct prompts alone, padded to the same length.
    prompts: for each row the number of its prompt, from 0 in the order of the rows.
    """
    import torch

    eager, before = model.forward, vars(model).get("forward")
    device = inputs["input_ids"].device
    index = torch.tensor(prompts, device=device)
    firsts = torch.tensor([prompts.index(k) for k in range(max(prompts) + 1)], device=device)
    images = {
        name: tensor
        for name, tensor in distinct.items()
        if tensor.shape != distinct["input_ids"].shape
    }

    def of_prompts(name: str, value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or value.ndim < 2:
            return value
        # The positions of some families come in several kinds, before the rows.
        return value.index_select(1 if name == "position_ids" and value.ndim == 3 else 0, firsts)

    @functools.wraps(eager)  # `generate` looks at its signature
    def forward(**rows: Any) -> Any:
        model.forward = eager  # for the tokens that follow
        if (cache := rows.get("past_key_values")) is not None and cache.get_seq_length():
            cache.reorder_cache(firsts)
        rows.pop("mm_encoder_outputs", None)  # where images would be that are read already
        texts = {name: of_prompts(name, value) for name, value in rows.items()}
        output = eager(**{**texts, **images})
        output.logits = output.logits.index_select(0, index)
        output.past_key_values.reorder_cache(index)
        return output

    model.forward = forward
    try:
        yield {name: tensor for name, tensor in inputs.items() if name not in PIXELS}
    finally:
        del model.forward
        if before is not None:
            model.forward = before
