"""`kaggle-metadata.json`, our manifest of the chain: the owner, and the title, machine and inputs of each kernel.

Kaggle never sees this file. `kernels` turns it into one folder for each notebook, with Kaggle's own
`kernel-metadata.json` in it.

    owner and title   ->  the address owner/slug
    after: 01, 02     ->  kernel_sources: owner/slug-of-01, owner/slug-of-02
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fintune_kit.errors import MissingInputError, UserError

FILE = "kaggle-metadata.json"
PLACEHOLDER = "your-kaggle-name"
WHEEL_DATASET = "fintune-kit-wheel"
PACK_STAGES = ("conversations", "packed")
"""The stages that a dataset of packs holds."""
SETTINGS = ("FINTUNE_", "HF_HUB_")
"""The beginnings of the variables that `environment` may set."""
_SECRETS = ("_TOKEN", "_KEY", "_SECRET", "_PASSWORD")
"""The ends of those that it may not set: the notebook would show the secret."""
_RECIPE = ("FINTUNE_RECIPE", "FINTUNE_SET")
"""The variables that say which recipe a kernel runs."""

_CHAIN_KEYS = {
    "owner",
    "kernels",
    "dataset_sources",
    "model_sources",
    "private",
    "environment",
    "repository",
    "wheel_dataset",
}
_KERNEL_KEYS = {
    "notebook",
    "title",
    "accelerator",
    "internet",
    "after",
    "writes",
    "dataset_sources",
    "model_sources",
    "environment",
    "docker_image",
    "optional",
}


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One notebook of the chain, as a Kaggle kernel."""

    notebook: Path
    """The notebook's file."""
    owner: str
    title: str
    accelerator: str | None
    """Kaggle's machine shape. None is a CPU, which uses no quota."""
    internet: bool
    private: bool
    after: tuple[str, ...]
    """Names of the kernels whose outputs this one reads."""
    writes: tuple[str, ...]
    """The stages in its output. The kernel is done when each of them has its manifest."""
    dataset_sources: tuple[str, ...] = ()
    model_sources: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    docker_image: str | None = None
    optional: bool = False
    """Pushed only where it is named, as the notebook that trains on a TPU."""

    @property
    def name(self) -> str:
        """`01_data`, as on the command line."""
        return self.notebook.stem

    @property
    def slug(self) -> str:
        """Kaggle makes it from the title."""
        return slugify(self.title)

    @property
    def ref(self) -> str:
        """`owner/slug`"""
        return f"{self.owner}/{self.slug}"


@dataclass(frozen=True, kw_only=True)
class Chain:
    """The kernels in the order in which they run."""

    root: Path
    """The folder of the manifest: the top of a checkout."""
    kernels: tuple[Kernel, ...]
    repository: str | None
    """The public https:// address of this project; for `--deliver git`, and for notebooks that are opened alone."""
    wheel_dataset: str = WHEEL_DATASET
    """The slug of the dataset that holds the wheel; for `--deliver dataset`."""

    @property
    def owner(self) -> str:
        """The Kaggle account that all kernels belong to."""
        return self.kernels[0].owner

    def kernel(self, name: str) -> Kernel:
        """The kernel of a notebook, named as `03_train_p100`, `03_train_p100.ipynb` or by its path.

        Raises:
            UserError: the manifest has no such notebook.
        """
        for kernel in self.kernels:
            if Path(name).name.removesuffix(".ipynb") == kernel.name:
                return kernel
        known = ", ".join(kernel.name for kernel in self.kernels)
        raise UserError(f"there is no notebook {name!r} in {FILE}; expected one of {known}")

    def choose(self, names: Sequence[str], *, after: str | None = None, packs: str | None = None) -> tuple[Kernel, ...]:
        """The named kernels in the order of the chain. Where none is named: all kernels except the optional ones.

        An optional kernel that is named replaces the kernels that write the same stages and are not named. So the
        evaluation reads the run on a TPU in place of the run on a GPU.

        Args:
            after: a kernel that replaces others in this way without being chosen itself.
            packs: a dataset (`owner/slug`) that replaces the kernels which write conversations and packs.

        Raises:
            UserError: a notebook is not in the manifest, or `after` or `packs` would replace nothing.
        """
        wanted = {self.kernel(name).name for name in names}
        kernels = tuple(k for k in self.kernels if (k.name in wanted if wanted else not k.optional))
        if after is not None:
            kernels, before = self._reading(self.kernel(after), kernels), kernels
            if kernels == before:
                raise UserError(
                    f"--after {after} replaces nothing that {', '.join(k.name for k in kernels)} would read; expected "
                    f"a notebook that writes the same stages as one in their `after` ({FILE}): name such a notebook, "
                    f"or leave --after out"
                )
        for optional in [kernel for kernel in kernels if kernel.optional]:
            kernels = self._reading(optional, kernels, keep=wanted)
        return kernels if packs is None else self._reading_packs(packs, kernels, wanted=wanted)

    def _reading(
        self, replacement: Kernel, kernels: Sequence[Kernel], *, keep: Collection[str] = ()
    ) -> tuple[Kernel, ...]:
        """The kernels, where each reads `replacement` in place of the kernels that write the same stages.

        The recipe goes with the output: an adapter is evaluated with the recipe that it was trained with.

        Args:
            keep: names of kernels that are not replaced.
        """
        order = [kernel.name for kernel in self.kernels]
        replaced = {k.name for k in self.kernels if set(k.writes) == set(replacement.writes)}
        replaced -= {replacement.name, *keep}
        recipe = {name: value for name, value in replacement.environment.items() if name in _RECIPE}

        def _redirect(kernel: Kernel) -> Kernel:
            if not replaced & set(kernel.after) or order.index(kernel.name) <= order.index(replacement.name):
                return kernel
            after = dict.fromkeys(replacement.name if name in replaced else name for name in kernel.after)
            return replace(kernel, after=tuple(after), environment={**kernel.environment, **recipe})

        return tuple(_redirect(kernel) for kernel in kernels)

    def _reading_packs(self, packs: str, kernels: Sequence[Kernel], *, wanted: set[str]) -> tuple[Kernel, ...]:
        """The kernels, where each attaches a dataset in place of the kernels that write conversations and packs."""
        replaced = {kernel.name for kernel in self.kernels if set(kernel.writes) <= set(PACK_STAGES)}
        left = tuple(kernel for kernel in kernels if kernel.name not in replaced)
        if wanted & replaced or not any(replaced & set(kernel.after) for kernel in left):
            named = ", ".join(sorted(wanted & replaced)) or ", ".join(kernel.name for kernel in kernels)
            raise UserError(
                f"--packs {packs} replaces {' and '.join(sorted(replaced))}, but {named} was named; name the notebooks "
                f"that read packs, as 03_train_p100"
            )

        def _redirect(kernel: Kernel) -> Kernel:
            after = tuple(name for name in kernel.after if name not in replaced)
            datasets = kernel.dataset_sources if after == kernel.after else (*kernel.dataset_sources, packs)
            return replace(kernel, after=after, dataset_sources=datasets)

        return tuple(_redirect(kernel) for kernel in left)


def find_owner_fault(owner: str) -> str | None:
    """A sentence about a text that is not a Kaggle user name, or None."""
    if owner == PLACEHOLDER:
        return f"the owner is still {PLACEHOLDER}; put your Kaggle user name into {FILE}, or pass --owner NAME"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", owner):
        return f"the owner {owner!r} is not a Kaggle user name; expected letters, digits, hyphens and underscores"
    return None


def slugify(title: str) -> str:
    """Kaggle's address for a title, by the rule of Kaggle's own client.

    Raises:
        MissingInputError: python-slugify, which comes with the client, is not installed.
        UserError: the title holds a character beyond ASCII, for which the rules of server and client may differ.
    """
    if not title.isascii():
        raise UserError(
            f"the title {title!r} in {FILE} holds a character beyond ASCII; expected letters, digits and signs"
        )
    try:
        from slugify import slugify as client_slugify
    except ImportError as error:
        raise MissingInputError(
            f"python-slugify cannot be imported ({error}): pip install 'fintune-kit[kaggle]'"
        ) from error
    return str(client_slugify(title))


def read_chain(path: Path, *, owner: str | None = None) -> Chain:
    """Reads and checks the manifest.

    Args:
        path: the manifest, or its folder.
        owner: the Kaggle account; None takes the manifest's.

    Raises:
        MissingInputError: the manifest is missing.
        UserError: it is not JSON, a key is unknown, missing or of another type, or the order is impossible.
    """
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise MissingInputError(
            f"{file} is missing; run this at the top of the checkout, or name the file with --manifest"
        )
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"{file} is not JSON ({error}); correct it") from error
    _check_keys(content, _CHAIN_KEYS, where=str(file))
    entries = _get(content, "kernels", list, where=str(file))
    if not entries:
        raise UserError(f"{file} names no kernel; expected one for each notebook, under `kernels`")
    account = owner or _get(content, "owner", str, where=str(file))
    if fault := find_owner_fault(account):
        raise UserError(fault)
    kernels = tuple(_kernel(entry, content, root=file.parent, owner=account) for entry in entries)
    _check_order(kernels)
    repository = content.get("repository")
    if repository is not None and not isinstance(repository, str):
        raise UserError(f"{file} has repository {repository!r}; expected an https:// address in quotes, or null")
    return Chain(root=file.parent, kernels=kernels, repository=repository, wheel_dataset=_wheel_dataset(content))


def _wheel_dataset(content: Mapping[str, Any]) -> str:
    return check_dataset_slug(content.get("wheel_dataset", WHEEL_DATASET), where=f"{FILE} has wheel_dataset")


def check_dataset_slug(slug: Any, *, where: str) -> str:
    """The slug, if Kaggle takes it as the name of a dataset.

    Args:
        where: the beginning of the sentence of an error.

    Raises:
        UserError: it has another form.
    """
    if not isinstance(slug, str) or not re.fullmatch(r"[a-z0-9][a-z0-9-]{4,48}[a-z0-9]", slug):
        raise UserError(
            f"{where} {slug!r}; expected 6 to 50 lower-case letters, digits and hyphens, as in {WHEEL_DATASET}"
        )
    return slug


def _kernel(entry: Mapping[str, Any], chain: Mapping[str, Any], *, root: Path, owner: str) -> Kernel:
    where = f"{FILE}: {entry.get('notebook', 'a kernel')}" if isinstance(entry, dict) else FILE
    _check_keys(entry, _KERNEL_KEYS, where=where)
    notebook = root / _get(entry, "notebook", str, where=where)
    if not notebook.is_file():
        raise MissingInputError(f"{notebook} is missing; {FILE} names it: correct the path there")
    accelerator = entry.get("accelerator")
    if accelerator is not None and not isinstance(accelerator, str):
        raise UserError(f"{where} has the accelerator {accelerator!r}; expected a machine shape in quotes, or null")
    environment = {**chain.get("environment", {}), **entry.get("environment", {})}
    _check_environment(environment, where=where)
    return Kernel(
        notebook=notebook,
        owner=owner,
        title=_get(entry, "title", str, where=where),
        accelerator=accelerator or None,
        internet=_get(entry, "internet", bool, where=where),
        private=_get(chain, "private", bool, where=FILE),
        after=tuple(Path(name).stem for name in _strings(entry, "after", where=where)),
        writes=_strings(entry, "writes", where=where),
        dataset_sources=_strings(chain, "dataset_sources", where=FILE)
        + _strings(entry, "dataset_sources", where=where),
        model_sources=_strings(chain, "model_sources", where=FILE) + _strings(entry, "model_sources", where=where),
        environment=environment,
        docker_image=entry.get("docker_image"),
        optional=_get({"optional": False, **entry}, "optional", bool, where=where),
    )


def _check_order(kernels: Sequence[Kernel]) -> None:
    seen: set[str] = set()
    slugs: dict[str, str] = {}
    for kernel in kernels:
        missing = [name for name in kernel.after if name not in seen]
        if missing:
            raise UserError(
                f"{FILE}: {kernel.name} comes after {', '.join(missing)}, which is not listed before it: list the "
                f"kernels in the order in which they run"
            )
        if kernel.slug in slugs:
            raise UserError(
                f"{FILE}: {slugs[kernel.slug]} and {kernel.name} have the same address {kernel.ref}; give them "
                f"different titles"
            )
        seen.add(kernel.name)
        slugs[kernel.slug] = kernel.name


def _check_environment(environment: Mapping[str, Any], *, where: str) -> None:
    for name, value in environment.items():
        if not name.startswith(SETTINGS) or name.endswith(_SECRETS):
            raise UserError(
                f"{where} sets {name}; expected settings that begin with {' or '.join(SETTINGS)}: put a token into the "
                f"secrets of the kernel (Add-ons, Secrets: HF_TOKEN)"
            )
        if not isinstance(value, str):
            raise UserError(f"{where} sets {name} to {value!r}; expected text in quotes")


def _check_keys(found: Any, known: set[str], *, where: str) -> None:
    if not isinstance(found, dict):
        raise UserError(f"{where} holds {type(found).__name__}, expected an object with {', '.join(sorted(known))}")
    if unknown := sorted(set(found) - known):
        raise UserError(f"{where} has the unknown key {unknown[0]!r}; expected some of {', '.join(sorted(known))}")


def _get(entry: Mapping[str, Any], key: str, kind: type, *, where: str) -> Any:
    value = entry.get(key)
    if not isinstance(value, kind) or value == "":
        says = {str: "text in quotes", bool: "true or false", list: "a list"}[kind]
        found = f"has {key} {value!r}" if key in entry else f"does not say {key}"
        raise UserError(f"{where} {found}; expected {says}")
    return value


def _strings(entry: Mapping[str, Any], key: str, *, where: str) -> tuple[str, ...]:
    values = entry.get(key, [])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise UserError(f"{where} has {key} {values!r}; expected a list of texts")
    return tuple(values)
