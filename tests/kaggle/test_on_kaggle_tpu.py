"""The proof without a TPU: the built TPU notebook, run as Kaggle would run it, on eight CPU devices.

As in `test_on_kaggle`, with a session that asks for a TPU: so the first cell looks for torch_xla and for the pins of
requirements-tpu.txt, finds them in this environment, and starts no pip, which has no internet here. libtpu is for
machines with a TPU and takes 700 MB: a stand-in says that it is installed, and `JAX_PLATFORMS=cpu` never loads it.
Training is stopped by its time budget and goes on from its own mounted output.
"""

import importlib.metadata
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

pytest.importorskip("jax", reason="JAX is not installed: `make test-tpu` runs these tests in .venv-tpu")
pytest.importorskip("tunix", reason="Tunix is not installed: `make test-tpu` runs these tests in .venv-tpu")

from packaging.requirements import Requirement

from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.data.stage import Settings, prepare_conversations
from fintune_kit.kaggle.delivery import deliver
from fintune_kit.kaggle.kernels import build_kernels
from fintune_kit.kaggle.manifest import read_chain
from fintune_kit.kaggle.requirements import tpu_packages_of
from fintune_kit.pack.stage import pack_conversations
from fintune_kit.recipes import smoke
from fintune_kit.train.artifacts import FILES
from fintune_kit.train.record.log import read_log
from tests.kaggle.conftest import pretend_installed
from tests.kaggle.fake_sessions import FakeKaggle, Session, make_model, make_writable
from tests.kaggle.rows import write_easy_rows

KERNEL = "03_train_tpu_v5e8"
WHEELS = "alice/wheels"
MODEL = "alice/qwen-stand-in/transformers/one-layer/1"


def write_packed(folder: Path, *, base: Path, rows: Path) -> None:
    """The output of notebooks 01 and 02, by the stages that they call."""
    recipe, encoder = smoke(), ChatEncoder.load(base)
    prepare_conversations(
        sources=(str(rows),),
        out=folder / "conversations",
        settings=Settings(
            examples=64,
            validation_share=recipe.data.validation_share,
            seed=recipe.seed,
            max_length=recipe.pack.max_length,
        ),
        encoder=encoder,
        announce=lambda _: None,
    )
    pack_conversations(
        folder / "conversations", encoder=encoder, out=folder / "packed", max_length=recipe.pack.max_length
    )


def devices(folder: Path) -> dict[str, str]:
    """The environment in which eight CPU devices stand in for the TPU's, and a program is compiled once for all."""
    compiled = {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_COMPILATION_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
    }
    return {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "PYTHONPATH": str(folder / "stand-ins"),
        **{name: os.environ.get(name, value) for name, value in compiled.items()},
    }


@dataclass
class Run:
    """The TPU kernel in two sessions."""

    stopped: Session
    finished: Session


@pytest.fixture(scope="module")
def run(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Builds the kernel of our own manifest and runs it twice: until its budget ends, and to its end."""
    folder = tmp_path_factory.mktemp("on-kaggle-tpu")
    for place in ("home", "stand-ins", f"attached/{WHEELS}"):
        (folder / place).mkdir(parents=True)
    (libtpu,) = [line for line in tpu_packages_of(repository)["requirements"] if line.startswith("libtpu==")]
    pretend_installed(folder / "stand-ins", *libtpu.split("=="))
    make_model(folder / "attached" / MODEL, repository / "data" / "sample" / "sujet_sample.csv")
    write_easy_rows(folder / "rows.csv")
    packed = folder / "outputs" / "fintune-kit-02-pack" / "1"
    write_packed(packed, base=folder / "attached" / MODEL, rows=folder / "rows.csv")
    shutil.rmtree(packed / "conversations")

    chain = read_chain(repository, owner="alice")
    (kernel,) = chain.choose([KERNEL])
    here = {"internet": False, "dataset_sources": (WHEELS,), "model_sources": (MODEL,)}
    kernel = replace(kernel, environment={"FINTUNE_RECIPE": "smoke"}, **here)
    built = {"out": folder / "build", "delivery": deliver(chain, method="embed")}
    kaggle = FakeKaggle(folder=folder, build=folder / "build")
    build_kernels(chain, [kernel], **built)
    stopped = kaggle.run(KERNEL, FINTUNE_TIME_BUDGET="1s", **devices(folder))
    build_kernels(chain, [kernel], **built, sources={KERNEL: [chain.kernel("02_pack").ref, f"{kernel.ref}/1"]})
    finished = kaggle.run(KERNEL, **devices(folder))
    yield Run(stopped=stopped, finished=finished)
    make_writable(folder)
    shutil.rmtree(folder)


def test_a_session_asks_for_the_tpu_and_half_an_hour_less_than_its_nine(run):
    record = run.finished.record
    assert record["accelerator"] == "TpuV5E8"
    assert record["settings"]["FINTUNE_TIME_BUDGET"] == "8h30m"
    assert record["inputs"]["alice/fintune-kit-02-pack"] == "input/notebooks/alice/fintune-kit-02-pack"
    assert "8 x cpu" in run.finished.printed()


def test_the_kernel_wrote_what_its_manifest_says(run):
    assert all((run.finished.output / stage / "manifest.json").is_file() for stage in ("run", "adapter"))
    assert {path.name for path in (run.finished.output / "adapter").iterdir()} >= set(FILES)


def test_training_stopped_by_its_budget_goes_on_from_its_mounted_output(run):
    before, after = (read_log(session.output / "run" / "log.jsonl") for session in (run.stopped, run.finished))
    assert not (run.stopped.output / "run" / "manifest.json").exists()
    assert not (run.stopped.output / "adapter").exists()
    assert 1 <= len(before) < len(after), "it was stopped, and not at the end"
    assert after[: len(before)] == before, "steps that were done are not done again"
    assert [record["step"] for record in after] == list(range(1, len(after) + 1))
    assert "`fintune-kit kaggle push 03_train_tpu_v5e8`" in run.stopped.printed()


def test_inputs_are_only_read(run):
    for session in (run.stopped, run.finished):
        assert session.inputs_before
        assert session.inputs_after == session.inputs_before


def test_caches_and_programs_are_no_part_of_an_output(run):
    for session in (run.stopped, run.finished):
        assert not {path.name for path in session.output.iterdir()} & {"cache", "compiled", "temp", ".cache"}
        assert "output: 0.0" in session.printed()


def test_the_ranges_for_the_images_own_packages_are_those_that_the_pins_declare(repository):
    requirements = [Requirement(line) for line in tpu_packages_of(repository)["requirements"]]
    floors = {r.name: next(iter(r.specifier)).version for r in requirements if r.specifier and ">=" in str(r.specifier)}
    assert set(floors) == {"numpy", "scipy"}
    asked = {name: [] for name in floors}
    for pin in requirements:
        declared = importlib.metadata.requires(pin.name) or [] if pin.name not in {*floors, "libtpu"} else []
        for wanted in map(Requirement, declared):
            if wanted.name in floors and (wanted.marker is None or wanted.marker.evaluate({"extra": ""})):
                asked[wanted.name].append(wanted.specifier)
    for name, floor in floors.items():
        assert len([specifier for specifier in asked[name] if specifier]) >= 2
        assert all(specifier.contains(floor) for specifier in asked[name]), name
