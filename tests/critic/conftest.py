"""Tiny checkpoints, and a cache for their quantized copies."""

import pytest
import tiny
import torch


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Copies of this test's own."""
    monkeypatch.setenv("GCR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "critics"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Folders of tiny checkpoints, by family, each built once."""
    folders = {}

    def build(family, **settings):
        key = (family, *settings.items())
        if key not in folders:
            torch.manual_seed(0)
            folders[key] = getattr(tiny, family)(tmp_path_factory.mktemp(family) / "m", **settings)
        return str(folders[key])

    return build
