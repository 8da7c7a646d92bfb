"""Artifacts open in the readers that people use, with the same tokens, losses and greedy answers.

The readers have environments of their own (`make test-readers` makes them): transformers 4.57 with peft 0.15, and
llama.cpp. The artifacts are made with the real tokenizer, because a small one has none of its settings.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from fintune_kit.publish.quantizer import FILE_TYPES
from tests.conftest import REPOSITORY
from tests.readers.artifacts import CONVERSATIONS, make_artifacts

READERS = REPOSITORY / ".venv-readers"
HERE = Path(__file__).parent


def interpreter(name: str) -> Path:
    python = READERS / name / "bin" / "python"
    if not python.is_file():
        pytest.skip(f"{python} is absent: `make test-readers` installs the other readers and runs these tests")
    return python


def run(python: Path | str, script: str, *arguments: object) -> None:
    done = subprocess.run([python, HERE / script, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory, qwen_tokenizer: Path) -> Path:
    interpreter("transformers-4")
    folder = tmp_path_factory.mktemp("artifacts")
    make_artifacts(folder, tokenizer=qwen_tokenizer, forms=("f16", "q8_0"))
    return folder


@pytest.fixture(scope="module")
def newest(artifacts: Path) -> dict:
    """The reading of the environment that the kit runs in."""
    run(sys.executable, "read_transformers.py", artifacts, artifacts / "newest.json")
    return json.loads((artifacts / "newest.json").read_text())


@pytest.fixture(scope="module")
def oldest(artifacts: Path) -> dict:
    run(interpreter("transformers-4"), "read_transformers.py", artifacts, artifacts / "oldest.json")
    return json.loads((artifacts / "oldest.json").read_text())


@pytest.mark.parametrize("artifact", ["adapter", "merged"])
def test_transformers_4_reads_what_transformers_5_reads(newest: dict, oldest: dict, artifact: str) -> None:
    assert oldest["versions"]["transformers"].startswith("4.")
    assert newest["versions"]["transformers"].startswith("5.")
    assert oldest[artifact]["ids"] == newest[artifact]["ids"]
    assert oldest[artifact]["special"] == newest[artifact]["special"]
    assert oldest[artifact]["loss"] == pytest.approx(newest[artifact]["loss"], rel=1e-5)
    assert oldest[artifact]["greedy"] == newest[artifact]["greedy"]
    assert len({token for tokens in newest[artifact]["greedy"] for token in tokens}) > 5, (
        "one token tells no difference"
    )


def test_adapter_and_merged_model_are_the_same_model(newest: dict) -> None:
    assert newest["adapter"]["loss"] == pytest.approx(newest["merged"]["loss"], rel=1e-5)


def test_the_dtype_that_was_written_is_the_one_that_is_read(oldest: dict, newest: dict) -> None:
    assert oldest["dtype"] == newest["dtype"] == "torch.float32"


def test_without_the_old_spelling_transformers_4_would_read_another_model(artifacts: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(artifacts, tmp_path / "artifacts"))
    config = json.loads((broken / "merged" / "config.json").read_text())
    del config["rope_theta"]
    (broken / "merged" / "config.json").write_text(json.dumps(config))
    run(interpreter("transformers-4"), "read_transformers.py", broken, tmp_path / "broken.json")
    found = json.loads((tmp_path / "broken.json").read_text())
    assert found["merged"]["loss"] != pytest.approx(found["adapter"]["loss"], rel=1e-3)


@pytest.mark.parametrize(("form", "error"), [("f16", 1e-3), ("q8_0", 1e-2), ("q4_k_m", 5e-2)])
def test_llama_cpp_reads_the_same_model(
    artifacts: Path, newest: dict, tmp_path: Path, qwen_tokenizer: Path, form: str, error: float
) -> None:
    python = interpreter("llama.cpp")
    tokenizer = AutoTokenizer.from_pretrained(qwen_tokenizer)
    texts = [tokenizer.apply_chat_template(m, tokenize=False, add_generation_prompt=True) for m in CONVERSATIONS]
    (tmp_path / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    if form in FILE_TYPES:
        (whole,) = (artifacts / "f16").glob("*.gguf")
        file = tmp_path / "small.gguf"
        run(python, "read_llama.py", "--quantize", whole, file, FILE_TYPES[form])
    else:
        (file,) = (artifacts / form).glob("*.gguf")
    run(python, "read_llama.py", file, tmp_path / "texts.json", tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["ids"] == newest["merged"]["ids"]
    assert found["loss"] == pytest.approx(newest["merged"]["loss"], rel=error)
    if form == "f16":
        assert found["greedy"] == newest["merged"]["greedy"]
