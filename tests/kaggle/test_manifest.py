"""`kaggle-metadata.json` read and checked."""

import json

import pytest

from fintune_kit.errors import MissingInputError, UserError
from fintune_kit.kaggle.manifest import read_chain, slugify
from fintune_kit.workspace import TITLES


def test_our_own_manifest_is_the_chain_of_the_four_notebooks(repository):
    chain = read_chain(repository, owner="alice")
    assert [(kernel.name, kernel.accelerator, kernel.after) for kernel in chain.choose([])] == [
        ("01_data", None, ()),
        ("02_pack", None, ("01_data",)),
        ("03_train_p100", "NvidiaTeslaT4", ("02_pack",)),
        ("04_evaluate", "NvidiaTeslaT4", ("01_data", "02_pack", "03_train_p100")),
    ]
    assert [kernel.writes for kernel in chain.choose([])] == [
        ("conversations",),
        ("packed",),
        ("run", "adapter"),
        ("evaluation",),
    ]
    assert all(kernel.private for kernel in chain.kernels)


def test_a_missing_input_is_looked_for_under_the_titles_of_our_manifest(repository):
    kernels = read_chain(repository, owner="alice").choose([])
    assert {stage: kernel.title for kernel in kernels for stage in kernel.writes} == TITLES


def test_our_own_manifest_has_another_way_to_train(repository):
    chain = read_chain(repository, owner="alice")
    tpu = chain.kernel("03_train_tpu_v5e8")
    assert (tpu.ref, tpu.accelerator) == ("alice/fintune-kit-03-train-tpu-v5e8", "TpuV5E8")
    assert (tpu.optional, tpu.internet, tpu.docker_image) == (True, True, None)
    assert (tpu.after, tpu.writes) == (("02_pack",), ("run", "adapter"))
    assert tpu.environment == {}, "it trains on the packs that are attached, with their recipe"
    assert [kernel.name for kernel in chain.kernels][2:] == ["03_train_p100", "03_train_tpu_v5e8", "04_evaluate"]
    assert chain.choose(["04_evaluate"], after="03_train_tpu_v5e8")[0].after == ("01_data", "02_pack", tpu.name)


def test_an_address_is_made_of_the_title(chain):
    assert chain.kernel("02_pack").ref == "alice/kit-02-pack"
    assert slugify("  Fin: Tune -- KIT 1.5B! ") == "fin-tune-kit-1-5b"


@pytest.mark.parametrize(
    ("title", "slug"),
    [("50,000 rows & more", "50000-rows-more"), ("Bob's kit", "bob-s-kit"), ("under_scored kit", "under-scored-kit")],
)
def test_an_address_is_made_by_the_rule_of_kaggles_own_client(title, slug):
    from kaggle.api import kaggle_api_extended

    assert slugify(title) == kaggle_api_extended.slugify(title) == slug


@pytest.mark.parametrize("title", ["Kit Übung", "金融 kit 01", "Kit 01 – data"])
def test_a_title_beyond_ascii_is_refused(checkout, manifest, title):
    manifest["kernels"][0]["title"] = title
    (checkout / "kaggle-metadata.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="holds a character beyond ASCII"):
        read_chain(checkout)


@pytest.mark.parametrize("name", ["02_pack", "02_pack.ipynb", "notebooks/02_pack.ipynb"])
def test_a_kernel_is_named_as_a_user_would(chain, name):
    assert chain.kernel(name).name == "02_pack"
    assert [kernel.name for kernel in chain.choose(["03_train", name])] == ["02_pack", "03_train"], "the chain's order"


def test_an_unknown_notebook_is_told_what_there_is(chain):
    with pytest.raises(UserError, match=r"no notebook '05_x'.*expected one of 01_data, 02_pack, 03_train"):
        chain.choose(["05_x"])


def test_sources_and_settings_of_the_chain_are_each_kernels(checkout, manifest):
    manifest |= {"dataset_sources": ["bob/rows"], "environment": {"FINTUNE_RECIPE": "smoke", "FINTUNE_SOURCE": "a"}}
    manifest["kernels"][1] |= {"dataset_sources": ["bob/more"], "environment": {"FINTUNE_SOURCE": "b"}}
    (checkout / "kaggle-metadata.json").write_text(json.dumps(manifest))
    _, second, third = read_chain(checkout).kernels
    assert second.dataset_sources == ("bob/rows", "bob/more")
    assert second.environment == {"FINTUNE_RECIPE": "smoke", "FINTUNE_SOURCE": "b"}
    assert third.environment["FINTUNE_SOURCE"] == "a"


def test_an_optional_kernel_runs_only_where_it_is_named(checkout, manifest):
    manifest["kernels"][2]["optional"] = True
    (checkout / "kaggle-metadata.json").write_text(json.dumps(manifest))
    chain = read_chain(checkout)
    assert [kernel.name for kernel in chain.choose([])] == ["01_data", "02_pack"]
    assert [kernel.name for kernel in chain.choose(["03_train"])] == ["03_train"]


def evaluation(kernels):
    """The inputs of the last of them, and its recipe."""
    assert kernels[-1].name == "04_evaluate"
    return kernels[-1].after, dict(kernels[-1].environment)


@pytest.mark.parametrize(
    ("names", "after", "training"),
    [
        ([], None, "03_train"),
        (["04_evaluate"], None, "03_train"),
        (["03_train", "04_evaluate"], None, "03_train"),
        (["03_train_tpu", "04_evaluate"], None, "03_train_tpu"),
        (["04_evaluate", "02_pack", "notebooks/03_train_tpu.ipynb"], None, "03_train_tpu"),
        (["03_train", "03_train_tpu", "04_evaluate"], None, "03_train"),
        (["04_evaluate"], "03_train_tpu", "03_train_tpu"),
        (["04_evaluate"], "03_train_tpu.ipynb", "03_train_tpu"),
        (["03_train", "03_train_tpu", "04_evaluate"], "03_train_tpu", "03_train_tpu"),
        (["03_train_tpu", "04_evaluate"], "03_train_tpu", "03_train_tpu"),
        ([], "03_train_tpu", "03_train_tpu"),
    ],
)
def test_a_kernel_reads_the_run_that_is_named_and_evaluates_it_with_its_recipe(tpu_chain, names, after, training):
    read, environment = evaluation(tpu_chain.choose(names, after=after))
    assert read == ("01_data", training)
    assert environment == ({"FINTUNE_RECIPE": "tpu_v5e8"} if training == "03_train_tpu" else {})


def test_a_replacement_changes_no_other_kernel(tpu_chain):
    names = ["01_data", "02_pack", "03_train_tpu"]
    assert tpu_chain.choose([*names, "04_evaluate"])[:3] == tuple(map(tpu_chain.kernel, names))
    assert tpu_chain.kernel("04_evaluate").after == ("01_data", "03_train"), "the manifest's own"


@pytest.mark.parametrize("name", ["FINTUNE_SET", "FINTUNE_MAX_TOKENS", "FINTUNE_TOKENIZER", "FINTUNE_NEW_IN_2027"])
def test_any_setting_of_ours_reaches_the_kernels(checkout, manifest, name):
    manifest["environment"] = {name: "train.learning_rate=1e-4"}
    (checkout / "kaggle-metadata.json").write_text(json.dumps(manifest))
    assert [kernel.environment[name] for kernel in read_chain(checkout).kernels] == ["train.learning_rate=1e-4"] * 3


def test_only_the_recipe_goes_along_with_an_output(tpu_chain, checkout, manifest):
    manifest["kernels"][3]["environment"] |= {"FINTUNE_TIME_BUDGET": "3h", "FINTUNE_SET": "lora.rank=8"}
    manifest["kernels"][4]["environment"] = {"FINTUNE_RECIPE": "p100", "FINTUNE_SOURCE": "a"}
    (checkout / "kaggle-metadata.json").write_text(json.dumps(manifest))
    _, environment = evaluation(read_chain(checkout).choose(["04_evaluate"], after="03_train_tpu"))
    assert environment == {"FINTUNE_RECIPE": "tpu_v5e8", "FINTUNE_SET": "lora.rank=8", "FINTUNE_SOURCE": "a"}


def test_a_replacement_must_come_before_the_kernel_that_reads_it(tpu_chain, checkout, manifest):
    manifest["kernels"][3:] = reversed(manifest["kernels"][3:])
    (checkout / "kaggle-metadata.json").write_text(json.dumps(manifest))
    first, _ = read_chain(checkout).choose(["03_train_tpu", "04_evaluate"])
    assert (first.name, first.after) == ("04_evaluate", ("01_data", "03_train"))


@pytest.mark.parametrize(
    ("names", "after"),
    [
        (["04_evaluate"], "03_train"),
        (["04_evaluate"], "02_pack"),
        (["03_train"], "03_train_tpu"),
        (["03_train_tpu"], "03_train_tpu"),
    ],
)
def test_a_kernel_that_replaces_nothing_is_a_sentence(tpu_chain, names, after):
    with pytest.raises(UserError, match=f"--after {after} replaces nothing that {names[0]} would read; .* out$"):
        tpu_chain.choose(names, after=after)


# A dataset of packs in place of the first two kernels


@pytest.mark.parametrize("names", [["03_train"], ["03_train_tpu"]])
def test_a_dataset_of_packs_replaces_the_kernels_that_write_them(tpu_chain, names):
    (kernel,) = tpu_chain.choose(names, packs="bob/fintune-kit-packs")
    assert (kernel.after, kernel.dataset_sources) == ((), ("bob/fintune-kit-packs",))


def test_all_with_a_dataset_of_packs_leaves_the_first_two_out(tpu_chain):
    train, evaluate = tpu_chain.choose([], packs="bob/fintune-kit-packs")
    assert (train.name, train.after, train.dataset_sources) == ("03_train", (), ("bob/fintune-kit-packs",))
    assert (evaluate.after, evaluate.dataset_sources) == (("03_train",), ("bob/fintune-kit-packs",))


@pytest.mark.parametrize("names", [["01_data"], ["02_pack", "03_train"]])
def test_a_dataset_of_packs_beside_what_it_replaces_is_a_sentence(tpu_chain, names):
    with pytest.raises(UserError, match=rf"replaces 01_data and 02_pack, but {names[0]} was named"):
        tpu_chain.choose(names, packs="bob/fintune-kit-packs")


def test_a_missing_manifest_says_where_to_run(tmp_path):
    with pytest.raises(MissingInputError, match=r"run this at the top of the checkout"):
        read_chain(tmp_path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"owner": ""}, "has owner ''; expected text in quotes"),
        ({"owner": "your-kaggle-name"}, "put your Kaggle user name into kaggle-metadata.json"),
        ({"owner": "al/ice"}, "'al/ice' is not a Kaggle user name"),
        ({"private": "true"}, "has private 'true'; expected true or false"),
        ({"kernels": []}, "names no kernel"),
        ({"kernel": []}, "unknown key 'kernel'"),
        ({"kernels": [{"notebook": "01_data.ipynb", "title": "Kit 01"}]}, "does not say internet"),
        ({"kernels": [{"notebook": "05.ipynb", "title": "Kit 05", "internet": True}]}, "05.ipynb is missing"),
        ({"kernels": ["01_data.ipynb"]}, "holds str, expected an object"),
        ({"environment": {"HF_TOKEN": "x"}}, "sets HF_TOKEN.*secrets of the kernel"),
        ({"environment": {"FINTUNE_HF_TOKEN": "x"}}, "sets FINTUNE_HF_TOKEN"),
        ({"environment": {"FINTUNE_API_KEY": "x"}}, "sets FINTUNE_API_KEY"),
        ({"environment": {"PATH": "x"}}, "sets PATH; expected settings that begin with FINTUNE_ or HF_HUB_"),
        ({"wheel_dataset": "kit"}, "wheel_dataset 'kit'; expected 6 to 50"),
        ({"wheel_dataset": None}, "wheel_dataset None"),
        ({"wheel_dataset": "Kit of Alice"}, "wheel_dataset 'Kit of Alice'"),
        ({"environment": {"FINTUNE_RECIPE": 3}}, "sets FINTUNE_RECIPE to 3; expected text"),
        ({"dataset_sources": "bob/rows"}, "dataset_sources 'bob/rows'; expected a list"),
        ({"repository": 3}, "repository 3"),
    ],
)
def test_a_fault_is_one_sentence(checkout, manifest, change, sentence):
    (checkout / "kaggle-metadata.json").write_text(json.dumps(manifest | change))
    with pytest.raises(UserError, match=sentence) as caught:
        read_chain(checkout)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("number", "change", "sentence"),
    [
        (0, {"after": ["02_pack.ipynb"]}, "01_data comes after 02_pack, which is not listed before it"),
        (1, {"title": "KIT: 01 data"}, "01_data and 02_pack have the same address alice/kit-01-data"),
        (2, {"accelerator": 4}, "accelerator 4; expected a machine shape"),
        (2, {"machine": "T4"}, "unknown key 'machine'"),
        (2, {"writes": "adapter"}, "writes 'adapter'; expected a list"),
    ],
)
def test_a_fault_of_a_kernel_names_it(checkout, manifest, number, change, sentence):
    manifest["kernels"][number] |= change
    (checkout / "kaggle-metadata.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=sentence):
        read_chain(checkout)


def test_a_manifest_that_is_not_json_is_a_sentence(checkout):
    (checkout / "kaggle-metadata.json").write_text('{"owner": ')
    with pytest.raises(UserError, match="is not JSON"):
        read_chain(checkout)
