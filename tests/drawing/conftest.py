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
