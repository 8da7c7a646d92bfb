"""The packages of a session, from a checkout and from a release."""

import tomllib

import pytest

from fintune_kit.errors import MissingInputError
from fintune_kit.kaggle.requirements import find_pins, requirements_of, requirements_of_this_release, tpu_packages_of


def test_pins_are_ours_and_the_images_own_libraries_are_ranges(chain):
    assert requirements_of(chain.root) == ["numpy>=1.26", "torch>=2.7.1", "trl==1.16.0"]


def test_every_dependency_of_ours_is_pinned_or_the_images_own(repository):
    requirements = requirements_of(repository)
    ranges = [requirement for requirement in requirements if "==" not in requirement]
    assert [spec.split(">")[0] for spec in ranges] == [
        "jinja2",
        "matplotlib",
        "numpy",
        "pyarrow",
        "scikit-learn",
        "scipy",
        "torch",
        "tqdm",
    ]
    assert "transformers==" in "".join(requirements)


def test_a_tpu_sessions_packages_are_the_lines_of_their_file_and_our_pins_for_its_ranges(tpu_chain):
    assert tpu_packages_of(tpu_chain.root) == {
        "requirements": ["jax==0.10.2", "libtpu==0.0.42.1", "numpy>=2.1"],
        "constraints": ["numpy==2.4.6"],
    }


def test_our_own_tpu_packages_are_pins_except_for_those_of_the_image(repository):
    packages = tpu_packages_of(repository)
    names = [line.split("==")[0] for line in packages["requirements"]]
    assert {"google-tunix", "jax", "jaxlib", "libtpu", "flax", "qwix", "numpy>=2.1.3", "scipy>=1.14"} <= set(names)
    assert [line for line in packages["requirements"] if "==" not in line] == ["numpy>=2.1.3", "scipy>=1.14"]
    assert [line.split("==")[0] for line in packages["constraints"]] == ["numpy", "scipy"]
    assert len(names) == len(set(names))


def test_a_checkout_without_the_tpus_packages_is_a_sentence(chain):
    with pytest.raises(MissingInputError, match=r"requirements-tpu\.txt is missing; it holds the packages of a TPU"):
        tpu_packages_of(chain.root)


def test_a_release_asks_for_the_same_packages_as_its_checkout(repository, monkeypatch):
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    extras = [
        f'{spec}; extra == "{name}"' for name, specs in project["optional-dependencies"].items() for spec in specs
    ]
    metadata = {"fintune-kit": [*project["dependencies"], *extras]}
    monkeypatch.setattr("importlib.metadata.requires", metadata.__getitem__)
    assert extras
    assert find_pins() == repository
    assert sorted(requirements_of_this_release()) == sorted(requirements_of(repository))


def test_a_wheel_carries_the_pins(repository, tmp_path, monkeypatch):
    package = tmp_path / "site-packages" / "fintune_kit"
    (package / "kaggle").mkdir(parents=True)
    monkeypatch.setattr("fintune_kit.kaggle.requirements.__file__", str(package / "kaggle" / "requirements.py"))
    with pytest.raises(MissingInputError, match=r"requirements\.txt was not found beside .*install the package again"):
        find_pins()
    (package / "pins").mkdir()
    (package / "pins" / "requirements.txt").write_text("")
    assert find_pins() == package / "pins"
