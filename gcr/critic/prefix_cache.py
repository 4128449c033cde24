"""Keeps the keys and values of what every chat begins with: the rubric, before the image.

Causal attention makes the keys and values of the first tokens independent of all that follows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

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
