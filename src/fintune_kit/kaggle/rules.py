"""The rules for a kernel. They are checked before it is sent.

Kaggle refuses some faults. It accepts others, and then does something else. Each rule yields a sentence for each fault
that it finds, and one error lists all of them.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from fintune_kit.errors import UserError
from fintune_kit.kaggle.accelerators import find_accelerator_fault, kind_of
from fintune_kit.kaggle.manifest import find_owner_fault, slugify

NOTEBOOK_BYTES = 1_000_000
"""Kaggle takes the source of a notebook up to about a megabyte."""

_SOURCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*/[a-z0-9][a-z0-9-]*(/[0-9]+)?", re.IGNORECASE)
_MODEL = re.compile(r"[\w.-]+/[\w.-]+/[\w.-]+/[\w.-]+/[0-9]+")
_SECRETS = {
    "a Hugging Face token": re.compile(r"\bhf_[A-Za-z0-9]{20,}"),
    "a Kaggle token": re.compile(r"\bKGAT_[A-Za-z0-9]{16,}"),
    "a Kaggle key": re.compile(r"(?i)(?:\"key\"|kaggle_key)\W{1,6}[0-9a-f]{32}\b"),
    "a GitHub token": re.compile(r"\b(?:ghp|gho|ghs|github_pat)_[A-Za-z0-9_]{20,}"),
    "an OpenAI key": re.compile(r"\bsk-[A-Za-z0-9_-]{20,}"),
    "a Weights & Biases key": re.compile(r"(?i)wandb[^\n]{0,40}?\b[0-9a-f]{40}\b"),
}


def check_kernel(
    metadata: Mapping[str, Any],
    notebook: Mapping[str, Any],
    *,
    needs_git: bool = False,
    force_accelerator: bool = False,
) -> None:
    """Checks a kernel before it is sent.

    Args:
        needs_git: the first cell installs the library from the network.
        force_accelerator: allow a retired or unknown machine shape.

    Raises:
        UserError: a rule is broken. The error lists all faults.
    """
    faults = [
        *_address(metadata),
        *_explicit(metadata),
        *_sources(metadata),
        *_machine(metadata, force=force_accelerator),
        *_network(metadata, needs_git=needs_git),
        *_notebook(notebook),
        *_secrets(notebook),
    ]
    if faults:
        raise UserError(f"{metadata.get('code_file', 'a kernel')} cannot be pushed: {'; '.join(faults)}")


def _address(metadata: Mapping[str, Any]) -> Iterator[str]:
    owner, _, slug = str(metadata.get("id", "")).partition("/")
    title = str(metadata.get("title", ""))
    if fault := find_owner_fault(owner):
        yield fault
    if len(title) < 5 or len(slug) < 5:
        yield f"the title {title!r} makes the address {slug!r}; expected at least five characters of each"
    elif slug != slugify(title):
        yield f"the address is {slug!r}, but Kaggle makes {slugify(title)!r} from the title {title!r}; correct one"


def _explicit(metadata: Mapping[str, Any]) -> Iterator[str]:
    for key in ("is_private", "enable_internet"):
        if not isinstance(metadata.get(key), bool):
            yield f"{key} is {metadata.get(key)!r}; expected true or false: the client's own default is uncertain"
    if not isinstance(metadata.get("machine_shape"), str):
        yield f"machine_shape is {metadata.get('machine_shape')!r}; expected a shape, or an empty text for a CPU"
    elif metadata.get("enable_gpu") != (kind_of(metadata["machine_shape"]) == "gpu"):
        yield f"enable_gpu is {metadata.get('enable_gpu')!r} beside machine_shape {metadata['machine_shape']!r}"


def _sources(metadata: Mapping[str, Any]) -> Iterator[str]:
    for key in ("dataset_sources", "kernel_sources"):
        for source in metadata.get(key, []):
            if not _SOURCE.fullmatch(source):
                yield f"{key} has {source!r}; expected owner/slug, or owner/slug/version"
    for source in metadata.get("model_sources", []):
        if not _MODEL.fullmatch(source):
            yield f"model_sources has {source!r}; expected owner/model/framework/variation/version"


def _machine(metadata: Mapping[str, Any], *, force: bool) -> Iterator[str]:
    shape = str(metadata.get("machine_shape", ""))
    fault = find_accelerator_fault(shape)
    if fault and not force:
        yield fault
    if metadata.get("docker_image") and kind_of(shape) == "tpu":
        yield "docker_image is set, and it would replace the image of the TPU; leave it out"


def _network(metadata: Mapping[str, Any], *, needs_git: bool) -> Iterator[str]:
    if metadata.get("enable_internet") is not False:
        return
    if needs_git:
        yield "internet is off, but --deliver git installs from the network; use --deliver embed"
    if not metadata.get("dataset_sources"):
        yield (
            "internet is off, so pip cannot get the packages from PyPI; attach a dataset of their wheels "
            "(dataset_sources), or turn internet on"
        )


def _notebook(notebook: Mapping[str, Any]) -> Iterator[str]:
    if not notebook.get("metadata", {}).get("kernelspec", {}).get("name"):
        yield "the notebook names no kernel (metadata.kernelspec.name), but Kaggle's papermill needs one; set it"
    tags = {tag for cell in notebook["cells"] for tag in cell.get("metadata", {}).get("tags", [])}
    if "raises-exception" in tags:
        yield "a cell has the tag raises-exception, which Kaggle's papermill ignores, so the run would end there"
    size = len(json.dumps(notebook, ensure_ascii=False).encode())
    if size > NOTEBOOK_BYTES:
        yield (
            f"the notebook has {size:,} bytes, and Kaggle takes about {NOTEBOOK_BYTES:,}; use --deliver dataset, or "
            f"make the library smaller"
        )


def _secrets(notebook: Mapping[str, Any]) -> Iterator[str]:
    """Names the cell and the kind of secret, but never its text."""
    for index, cell in enumerate(notebook["cells"]):
        source = "".join(cell.get("source", ""))
        for secret, pattern in _SECRETS.items():
            if pattern.search(source):
                yield (
                    f"cell {index} seems to hold {secret}; take it out, revoke it, and attach a new one as a secret of "
                    f"the kernel (Add-ons, Secrets)"
                )
