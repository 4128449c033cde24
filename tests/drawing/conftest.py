"""Tiny checkpoints for every test of drawing."""

import pytest
import tiny
import torch


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Folders of tiny checkpoints, by family, each built once."""
    folders = {}

    def build(family):
        if family not in folders:
            torch.manual_seed(0)
            folders[family] = getattr(tiny, family)(tmp_path_factory.mktemp(family) / "model")
        return str(folders[family])

    return build


@pytest.fixture
def quantizer_on_a_cpu(monkeypatch):
    """Diffusers quantizes on GPUs only, though bitsandbytes can do so on a CPU."""
    from diffusers.quantizers.bitsandbytes.bnb_quantizer import BnB4BitDiffusersQuantizer

    quantizer = BnB4BitDiffusersQuantizer
    monkeypatch.setattr(quantizer, "validate_environment", lambda *_, **__: None)
    monkeypatch.setattr(quantizer, "update_device_map", lambda *_: {"": "cpu"})
