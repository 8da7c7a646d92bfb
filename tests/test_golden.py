"""The results of the smoke recipe, frozen: its conversations, its packs and its first losses.

A change of the code that is meant to change nothing leaves these values alone. A change that is meant to change them
says so in its commit, with the new values, which this module prints when it is run: `python -m tests.test_golden`.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.data.stage import prepare
from fintune_kit.pack.stage import pack_conversations
from fintune_kit.pack.store import open_packed
from fintune_kit.pack.tree import COLUMNS
from fintune_kit.recipes import load_recipe
from fintune_kit.tiny import tokenizer_of
from fintune_kit.train.stage import train
from fintune_kit.workspace import Workspace

STEPS = 4
GOLDEN = Path(__file__).parent / "golden.json"


def content_of(conversations: Path) -> str:
    """SHA-256 of the rows of both splits and of the refused ones, whatever wrote the Parquet files."""
    digest = hashlib.sha256()
    for name in ("train", "validation", "rejected"):
        for row in pq.read_table(conversations / f"{name}.parquet").to_pylist():
            digest.update(json.dumps(row, ensure_ascii=False, sort_keys=True).encode())
    return digest.hexdigest()


def content_of_packs(packed: Path) -> str:
    """SHA-256 of the columns of both splits."""
    digest = hashlib.sha256()
    packs = open_packed(packed)
    for split in (packs.train, packs.validation):
        for column in COLUMNS:
            digest.update(np.asarray(split.rows.with_format("numpy")[column][:], np.int32).tobytes())
    return digest.hexdigest()


def smoke_run(root: Path) -> dict[str, Any]:
    """Stages 1 and 2 of the smoke recipe, and the first steps of stage 3."""
    recipe, workspace = load_recipe("smoke"), Workspace(root)
    conversations, packed = workspace.folder("conversations"), workspace.folder("packed")
    encoder = ChatEncoder.load(tokenizer_of(recipe, workspace))
    prepare(recipe, workspace, announce=lambda _line: None)
    pack_conversations(conversations, encoder=encoder, out=packed, max_length=recipe.pack.max_length, seed=recipe.seed)
    outcome = train(recipe, workspace, stop_after=STEPS)
    return {
        "conversations": content_of(conversations),
        "packs": content_of_packs(packed),
        "losses": [step["loss"] for step in outcome.log],
    }


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return smoke_run(tmp_path_factory.mktemp("golden"))


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.parametrize("what", ["conversations", "packs"])
def test_the_smoke_recipe_gives_the_same_rows_as_before(found, golden, what):
    assert found[what] == golden[what]


def test_the_first_steps_of_the_smoke_run_have_the_same_losses_as_before(found, golden):
    assert len(set(golden["losses"])) == STEPS, "equal losses could not tell one step from another"
    assert found["losses"] == pytest.approx(golden["losses"], rel=1e-4)  # processors round differently


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        GOLDEN.write_text(json.dumps(smoke_run(Path(folder)), indent=2) + "\n", encoding="utf-8")
    print(GOLDEN.read_text(encoding="utf-8"))
