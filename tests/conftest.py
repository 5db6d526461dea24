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


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A file of a few lines of Python."""
    from cli_cases import TEXT

    path = tmp_path / "some.py"
    path.write_text(TEXT * 8)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a tiny model with its tokenizer."""
    from cli_cases import saved_model

    return saved_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def _same_start() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
