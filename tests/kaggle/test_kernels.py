"""Build folders: their files. Nothing is written if something is wrong."""

import ast
import json

import pytest

from fintune_kit.errors import UserError
from fintune_kit.kaggle.delivery import deliver
from fintune_kit.kaggle.kernels import build_kernels


@pytest.fixture
def build(chain, tmp_path):
    def make(method="embed", **how):
        made = build_kernels(
            chain, chain.kernels, out=tmp_path / "build", delivery=deliver(chain, method=method), **how
        )
        return {kernel.kernel.name: kernel.folder for kernel in made}

    return make


def test_kaggles_own_metadata(build):
    folder = build()["03_train"]
    assert sorted(path.name for path in folder.iterdir()) == ["03_train.ipynb", "kernel-metadata.json"]
    assert json.loads((folder / "kernel-metadata.json").read_text()) == {
        "id": "alice/kit-03-train",
        "title": "Kit 03 train",
        "code_file": "03_train.ipynb",
        "language": "python",
        "kernel_type": "notebook",
        "is_private": True,
        "enable_gpu": True,
        "enable_tpu": False,
        "enable_internet": True,
        "machine_shape": "NvidiaTeslaT4",
        "dataset_sources": [],
        "kernel_sources": ["alice/kit-02-pack"],
        "competition_sources": [],
        "model_sources": [],
    }


def test_a_cpu_kernel_says_so(build):
    metadata = json.loads((build()["01_data"] / "kernel-metadata.json").read_text())
    assert (metadata["machine_shape"], metadata["enable_gpu"], metadata["enable_tpu"]) == ("", False, False)


def test_the_notebook_stands_between_two_generated_cells_without_outputs(build):
    notebook = json.loads((build()["01_data"] / "01_data.ipynb").read_text())
    first, own, last = notebook["cells"]
    assert [first["id"], own["id"], last["id"]] == ["fintune-kit-begin", "one", "fintune-kit-end"]
    assert (own["outputs"], own["execution_count"]) == ([], None)
    assert notebook["metadata"] == {"kernelspec": {"name": "python3"}}, "metadata.kaggle would pin an image"


def test_the_same_tree_builds_the_same_bytes(build):
    before = {path: path.read_bytes() for folder in build().values() for path in folder.iterdir()}
    assert {path: path.read_bytes() for folder in build().values() for path in folder.iterdir()} == before


def test_a_dataset_delivery_writes_the_wheel_beside_and_attaches_it(build, tmp_path):
    metadata = json.loads((build("dataset")["01_data"] / "kernel-metadata.json").read_text())
    assert metadata["dataset_sources"] == ["alice/fintune-kit-wheel"]
    beside = tmp_path / "build" / "wheel"
    (beside / "fintune_kit-0.1-py3-none-any.whl").write_text("an older one")
    build("dataset")
    names = sorted(path.name for path in beside.iterdir())
    assert names == ["dataset-metadata.json", "fintune_kit-9.9-py3-none-any.whl"]


def test_a_kernel_attaches_the_sources_that_are_named_for_it(build):
    folders = build(sources={"03_train": ["alice/kit-02-pack", "alice/kit-03-train/4"]})
    sources = {
        name: json.loads((folder / "kernel-metadata.json").read_text())["kernel_sources"]
        for name, folder in folders.items()
    }
    assert sources["02_pack"] == ["alice/kit-01-data"]
    assert sources["03_train"] == ["alice/kit-02-pack", "alice/kit-03-train/4"]


def test_nothing_is_written_where_one_kernel_is_wrong(build, checkout, tmp_path):
    notebook = json.loads((checkout / "03_train.ipynb").read_text())
    notebook["metadata"] = {}
    (checkout / "03_train.ipynb").write_text(json.dumps(notebook))
    with pytest.raises(UserError, match=r"03_train\.ipynb cannot be pushed: the notebook names no kernel"):
        build()
    assert not (tmp_path / "build").exists()


def session_in(built):
    """The settings that the first cell of a built kernel passes to the session."""
    notebook = json.loads((built.folder / f"{built.kernel.name}.ipynb").read_text())
    statements = ast.parse(notebook["cells"][0]["source"]).body
    (value,) = [s.value for s in statements if isinstance(s, ast.Assign) and ast.unparse(s.targets[0]) == "SESSION"]
    return ast.literal_eval(value)


def test_a_tpu_kernel_carries_its_packages_and_the_budget_of_a_session_of_nine_hours(tpu_chain, tmp_path):
    chosen = tpu_chain.choose(["02_pack", "03_train", "03_train_tpu"])
    made = build_kernels(tpu_chain, chosen, out=tmp_path / "build", delivery=deliver(tpu_chain, method="embed"))
    pack, train, tpu = map(session_in, made)
    assert tpu["tpu_packages"] == {
        "requirements": ["jax==0.10.2", "libtpu==0.0.42.1", "numpy>=2.1"],
        "constraints": ["numpy==2.4.6"],
    }
    assert tpu["requirements"] == train["requirements"] == ["numpy>=1.26", "torch>=2.7.1", "trl==1.16.0"]
    assert "tpu_packages" not in {*pack, *train}
    budgets = [session["environment"]["FINTUNE_TIME_BUDGET"] for session in (pack, train, tpu)]
    assert budgets == ["11h30m", "11h30m", "8h30m"]
    assert tpu["environment"]["FINTUNE_RECIPE"] == "tpu_v5e8"
    metadata = json.loads((made[2].folder / "kernel-metadata.json").read_text())
    assert (metadata["machine_shape"], metadata["enable_gpu"], metadata["enable_tpu"]) == ("TpuV5E8", False, True)
    assert "docker_image" not in metadata, "it would replace the TPU's image"


@pytest.mark.parametrize("content", ["no json", "[]", "{}"])
def test_what_is_no_notebook_is_a_sentence(build, checkout, content):
    (checkout / "01_data.ipynb").write_text(content)
    with pytest.raises(UserError, match="is not a notebook"):
        build()
