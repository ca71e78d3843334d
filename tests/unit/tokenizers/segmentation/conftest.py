"""A SAM 2 as its authors' package builds it, with no tensor at a value that another would have too."""

from contextlib import contextmanager

import pytest
import torch
from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra

SIDE = 64


@contextmanager
def hydra_reads_sam2():
    """Where the package's own files are read; afterwards hydra is as it was."""
    import sam2  # noqa: F401 (its first import sets hydra up by itself)

    GlobalHydra.instance().clear()
    with initialize_config_module("sam2", version_base="1.2"):
        yield


@pytest.fixture
def sam2_files():
    """The package's configuration files can be read."""
    with hydra_reads_sam2():
        yield


@pytest.fixture(scope="session")
def official():
    """The smallest one, at 64 pixels; its mask decoder alone trains, and tests leave no gradient on it."""
    from sam2.build_sam import build_sam2

    torch.manual_seed(0)
    with hydra_reads_sam2():
        model = build_sam2(
            "configs/sam2.1/sam2.1_hiera_t.yaml",
            device="cpu",
            hydra_overrides_extra=[f"++model.image_size={SIDE}"],
            apply_postprocessing=False,
        )
    with torch.no_grad():
        for value in model.state_dict().values():
            value.add_(0.02 * torch.randn(value.shape))
    model.requires_grad_(False).sam_mask_decoder.requires_grad_(True)
    return model


@pytest.fixture(scope="session")
def checkpoint(official, tmp_path_factory):
    """Its checkpoint, under the official name."""
    folder = tmp_path_factory.mktemp("official")
    torch.save({"model": official.state_dict()}, folder / "sam2.1_hiera_tiny.pt")
    return folder / "sam2.1_hiera_tiny.pt"


@pytest.fixture(scope="session")
def pixels():
    """Two images."""
    return torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def prompts():
    """Of three objects."""
    return torch.randn(3, 1, 256, generator=torch.Generator().manual_seed(2)).requires_grad_()
