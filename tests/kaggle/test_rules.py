"""Each rule, on metadata and a notebook that are otherwise right."""

import copy

import pytest

from fintune_kit.errors import UserError
from fintune_kit.kaggle.rules import NOTEBOOK_BYTES, check_kernel

METADATA = {
    "id": "alice/kit-03-train",
    "title": "Kit 03 train",
    "code_file": "03_train.ipynb",
    "is_private": True,
    "enable_gpu": True,
    "enable_internet": True,
    "machine_shape": "NvidiaTeslaT4",
    "dataset_sources": ["bob/rows"],
    "kernel_sources": ["alice/kit-02-pack", "alice/kit-03-train/4"],
    "model_sources": ["qwen-lm/qwen2.5/transformers/3b-instruct/1"],
}
NOTEBOOK = {
    "metadata": {"kernelspec": {"name": "python3"}},
    "cells": [{"cell_type": "code", "metadata": {"tags": ["skip-execution"]}, "source": ["import os\n", "1"]}],
}
CPU = {"machine_shape": "", "enable_gpu": False}
TPU = {"machine_shape": "TpuV5E8", "enable_gpu": False}


def faults(change=None, notebook=None, **how):
    """The sentence for a change of what is right."""
    with pytest.raises(UserError) as caught:
        check_kernel(METADATA | (change or {}), notebook or NOTEBOOK, **how)
    return str(caught.value)


@pytest.mark.parametrize("change", [{}, CPU, TPU, {"enable_internet": False}, {"is_private": False}])
def test_what_is_right_passes(change):
    check_kernel(METADATA | change, NOTEBOOK)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"id": "your-kaggle-name/kit-03-train"}, "put your Kaggle user name into kaggle-metadata.json"),
        ({"id": "al ice/kit-03-train"}, "'al ice' is not a Kaggle user name"),
        ({"id": "kit-03-train"}, "'' makes"),
        ({"id": "alice/kit", "title": "Kit"}, "at least five characters"),
        (
            {"id": "alice/kit-3-train"},
            "is 'kit-3-train', but Kaggle makes 'kit-03-train' from the title 'Kit 03 train'",
        ),
        ({"is_private": "true"}, "is_private is 'true'; expected true or false"),
        ({"enable_internet": None}, "enable_internet is None"),
        ({"machine_shape": None}, "machine_shape is None; expected a shape, or an empty text for a CPU"),
        ({"enable_gpu": False}, "enable_gpu is False beside machine_shape 'NvidiaTeslaT4'"),
        ({"dataset_sources": ["rows"]}, "dataset_sources has 'rows'; expected owner/slug"),
        ({"kernel_sources": ["alice/kit-02-pack/latest"]}, "kernel_sources has 'alice/kit-02-pack/latest'"),
        ({"model_sources": ["qwen-lm/qwen2.5"]}, "expected owner/model/framework/variation/version"),
        ({"model_sources": ["a/b/c/d/newest"]}, "expected owner/model/framework/variation/version"),
        (TPU | {"docker_image": "gcr.io/x@sha256:1"}, "docker_image is set, and it would replace the image of the TPU"),
        ({"enable_internet": False, "dataset_sources": []}, "attach a dataset of their wheels"),
    ],
)
def test_a_fault_of_the_metadata(change, sentence):
    if change.get("id") == "kit-03-train":
        sentence = "makes the address ''"
    assert sentence in faults(change)


@pytest.mark.parametrize("shape", ["NvidiaTeslaP100", "TpuV38", "Tpu1VmV38", "TpuV232", "TpuV2256"])
def test_a_retired_machine_is_refused_with_the_date_and_the_replacement(shape):
    instead = {"NvidiaTeslaP100": "NvidiaTeslaT4", "TpuV38": "TpuV5E8", "Tpu1VmV38": "TpuV5E8"}.get(
        shape, "null (a CPU)"
    )
    change = {"machine_shape": shape, "enable_gpu": shape.startswith("Nvidia")}
    sentence = faults(change)
    assert f"Kaggle retired the accelerator {shape} on 2026-09-15" in sentence
    assert f"ask for {instead}" in sentence
    check_kernel(METADATA | change, NOTEBOOK, force_accelerator=True)


def test_an_unknown_machine_is_refused_because_kaggle_would_choose_another():
    assert "would silently choose another" in faults({"machine_shape": "NvidiaTeslaT4x2"})
    check_kernel(METADATA | {"machine_shape": "NvidiaTeslaT4x2"}, NOTEBOOK, force_accelerator=True)


def test_git_needs_internet():
    assert "--deliver git installs from the network" in faults({"enable_internet": False}, needs_git=True)


def test_a_notebook_without_a_kernel_stops_in_papermill():
    assert "names no kernel" in faults(notebook=NOTEBOOK | {"metadata": {}})


def test_papermill_ignores_raises_exception():
    notebook = copy.deepcopy(NOTEBOOK)
    notebook["cells"][0]["metadata"]["tags"] = ["raises-exception"]
    assert "raises-exception" in faults(notebook=notebook)


def test_a_notebook_that_is_too_large_is_told_how_to_be_smaller():
    notebook = copy.deepcopy(NOTEBOOK)
    notebook["cells"][0]["source"] = "#" * NOTEBOOK_BYTES
    assert "use --deliver dataset" in faults(notebook=notebook)


@pytest.mark.parametrize(
    ("line", "secret"),
    [
        ("login('hf_" + "a1B2" * 8 + "')", "a Hugging Face token"),
        ("os.environ['KAGGLE_API_TOKEN'] = 'KGAT_" + "0f" * 16 + "'", "a Kaggle token"),
        ('{"username":"a","key":"' + "0f" * 16 + '"}', "a Kaggle key"),
        ("KAGGLE_KEY = '" + "0f" * 16 + "'", "a Kaggle key"),
        ("!git clone https://ghp_" + "a1" * 18 + "@github.com/a/b", "a GitHub token"),
        ("openai.api_key = 'sk-proj-" + "aB1" * 10 + "'", "an OpenAI key"),
        ("wandb.login(key='" + "0f" * 20 + "')", "a Weights & Biases key"),
    ],
)
def test_a_secret_in_a_cell_is_found_and_not_repeated(line, secret):
    notebook = copy.deepcopy(NOTEBOOK)
    notebook["cells"].append({"cell_type": "code", "metadata": {}, "source": [f"x = 1\n{line}"]})
    sentence = faults(notebook=notebook)
    assert f"cell 1 seems to hold {secret}" in sentence
    assert not any(part in sentence for part in ("a1B2a1B2", "0f0f0f", "a1a1", "aB1aB1"))


@pytest.mark.parametrize("line", ["token = find_token()  # hf_...", "sha = '" + "0f" * 32 + "'", "key = 'A' * 32"])
def test_what_is_no_secret_passes(line):
    notebook = copy.deepcopy(NOTEBOOK)
    notebook["cells"][0]["source"] = line
    check_kernel(METADATA, notebook)


def test_all_faults_are_told_at_once():
    sentence = faults({"is_private": None, "machine_shape": "NvidiaTeslaP100"}, NOTEBOOK | {"metadata": {}})
    assert all(part in sentence for part in ("is_private", "retired", "names no kernel"))
    assert "\n" not in sentence
