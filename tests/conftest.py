"""What holds for every test."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """Torch computes on one thread, whatever the test before has set; afterwards on as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
