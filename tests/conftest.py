"""Shared by all tests: a temporary home, no network, and the real data where a developer has it."""

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
SHARED = REPOSITORY.parent / "shared" / "data"


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real tokenizer, configs and stand-in data: on a developer's machine only, never in the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is absent: the real tokenizer and the stand-in data are not part of the repository")
    return SHARED


@pytest.fixture(scope="session")
def qwen_tokenizer(shared_data: Path) -> Path:
    """Folder of the published Qwen2.5 tokenizer."""
    return shared_data / "qwen2.5-tokenizer"
