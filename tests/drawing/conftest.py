"""What quantizes pipelines, for every test of drawing."""

import pytest


@pytest.fixture
def quantizer_on_a_cpu(monkeypatch):
    """Diffusers quantizes on GPUs only, though bitsandbytes can do so on a CPU."""
    from diffusers.quantizers.bitsandbytes.bnb_quantizer import BnB4BitDiffusersQuantizer

    quantizer = BnB4BitDiffusersQuantizer
    monkeypatch.setattr(quantizer, "validate_environment", lambda *_, **__: None)
    monkeypatch.setattr(quantizer, "update_device_map", lambda *_: {"": "cpu"})
