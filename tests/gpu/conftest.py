import pytest
import torch


@pytest.fixture
def device(request):
    """A GPU; where there is none the test is skipped, unless `--device cpu` rehearses it."""
    name = request.config.getoption("--device")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("this needs CUDA, and there is none; --device cpu rehearses it")
    return torch.device(name)
