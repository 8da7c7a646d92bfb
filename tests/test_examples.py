"""The script in `examples/` runs as it is, and its model learns what it was shown."""

import runpy

from fintune_kit.tiny import tiny_base
from fintune_kit.workspace import Workspace
from tests.conftest import REPOSITORY

SCRIPT = REPOSITORY / "examples" / "sft_in_one_page.py"


def test_the_one_page_script_learns_its_four_answers(tmp_path, capsys):
    script = runpy.run_path(str(SCRIPT))
    losses, answer = script["main"](tiny_base(Workspace(tmp_path), seed=0))
    assert len(losses) == script["STEPS"]
    assert losses[0] > 5, "an untrained model knows nothing"
    assert losses[-1] < 0.1
    assert answer == "positive"
    assert "[[positive<|im_end|>]]" in capsys.readouterr().out, "the supervised tokens are shown"


def test_it_is_one_page():
    assert len(SCRIPT.read_text(encoding="utf-8").splitlines()) < 150
