"""One thread, offline, the same seed before every test; real data where a checkout of it stands beside the project."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
if _DATA.is_dir():
    os.environ.setdefault("ATTIME_DATA", str(_DATA))

import pytest  # noqa: E402 - the environment comes first
import torch  # noqa: E402


@pytest.fixture(autouse=True)
def _same_start() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
