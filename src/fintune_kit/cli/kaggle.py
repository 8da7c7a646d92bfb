"""`fintune-kit kaggle build|push|status|fetch [NOTEBOOK ...]`: runs the notebooks as a chain of Kaggle kernels."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from fintune_kit.cli.flags import FLAGS
from fintune_kit.cli.plan import planned_hours
from fintune_kit.errors import UserError
from fintune_kit.kaggle.delivery import Delivery, Method, deliver
from fintune_kit.kaggle.kernels import build_kernels
from fintune_kit.kaggle.manifest import FILE, Chain, Kernel, check_dataset_slug, read_chain
from fintune_kit.recipes import RECIPES, named_recipe

kaggle = App(
    name="kaggle",
    help="Run the notebooks as Kaggle kernels: build, push, status, fetch.",
    default_parameter=FLAGS,
)


Manifest = Annotated[Path, Parameter(help="The chain's manifest.")]
Owner = Annotated[str | None, Parameter(help="Your Kaggle user name. Default: the manifest's.")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BuildFlags:
    """The flags that `build` and `push` share."""

    manifest: Manifest = Path(FILE)
    owner: Owner = None
    out: Path = Path("build/kaggle")
    """The folder for the folders of the kernels."""
    deliver: Method = "embed"
    """The way in which the kernels get the library."""
    after: str | None = None
    """Read the output of this notebook in place of another one that writes the same stages, as in: push 04_evaluate
    --after 03_train_tpu_v5e8."""
    packs: str | None = None
    """Read this dataset of packs, OWNER/SLUG, in place of 01_data and 02_pack."""
    force_accelerator: bool = False
    """Ask for an accelerator even if it is retired or unknown."""

    def prepare(self, notebooks: tuple[str, ...]) -> tuple[Chain, tuple[Kernel, ...], Delivery]:
        """The chain, the chosen kernels, and the library for them."""
        chain = read_chain(self.manifest, owner=self.owner)
        return chain, chain.choose(notebooks, after=self.after, packs=self.packs), deliver(chain, method=self.deliver)


AS_DEFAULT = BuildFlags()


@kaggle.command
def build(*notebook: str, building: BuildFlags = AS_DEFAULT) -> None:
    """Write and check a folder for each kernel, with the library in it.

    Args:
        notebook: A notebook, as 01_data. Default: all that are not optional.
    """
    chain, kernels, delivery = building.prepare(notebook)
    for built in build_kernels(
        chain, kernels, out=building.out, delivery=delivery, force_accelerator=building.force_accelerator
    ):
        machine = built.kernel.accelerator or "CPU"
        print(f"{built.folder}: {built.kernel.ref}, {machine}, {built.notebook_bytes:,} bytes")


@kaggle.command
def push(
    *notebook: str,
    all_: Annotated[bool, Parameter(name="--all")] = False,
    wait: bool = False,
    until_done: bool = False,
    fresh: bool = False,
    building: BuildFlags = AS_DEFAULT,
) -> None:
    """Run the kernels that are not done yet. If a kernel is running, the command watches it and starts no other one.

    Args:
        notebook: A notebook, as 01_data.
        all_: Push all notebooks of the manifest that are not optional, in order.
        wait: Wait for the end of each kernel, and show the cell that failed.
        until_done: If a kernel is stopped by a limit, push it again until it is done; implies --wait.
        fresh: Run from the start, even a kernel that is done or has a checkpoint.
    """
    from fintune_kit.kaggle.calls.client import Kaggle
    from fintune_kit.kaggle.chain import PushOptions, push_chain

    if all_ == bool(notebook):
        raise UserError("push takes either the notebooks to push or --all, as in `fintune-kit kaggle push 01_data`")
    chain, kernels, delivery = building.prepare(notebook)
    options = PushOptions(
        out=building.out,
        delivery=delivery,
        wait=wait,
        until_done=until_done,
        fresh=fresh,
        force_accelerator=building.force_accelerator,
        say=partial(print, flush=True),
        sleep=time.sleep,
    )
    push_chain(Kaggle(), chain, kernels, options=options)


@kaggle.command
def status(*notebook: str, follow: bool = False, manifest: Manifest = Path(FILE), owner: Owner = None) -> None:
    """Show each kernel with its times, and the quota of the week.

    Args:
        notebook: A notebook, as 01_data. Default: all.
        follow: Show the log of the running session until it ends.
    """
    from fintune_kit.kaggle.calls.client import Kaggle
    from fintune_kit.kaggle.overview import describe_chain, find_running, follow_log

    chain, client = read_chain(manifest, owner=owner), Kaggle()
    kernels = _all_or(notebook, chain)
    if follow:
        running = find_running(client, kernels)
        follow_log(client, running, show=partial(print, end="", flush=True), sleep=time.sleep)
        kernels = (running,)
    print(describe_chain(client, kernels, needed=_planned(chain)))


@kaggle.command
def fetch(
    *notebook: str, out: Path = Path("runs/kaggle"), manifest: Manifest = Path(FILE), owner: Owner = None
) -> None:
    """Fetch the outputs and check them. After an interruption it fetches only the rest.

    Args:
        notebook: A notebook, as 01_data. Default: all that have an output.
        out: The folder to write.
    """
    from fintune_kit.kaggle.calls.client import Kaggle
    from fintune_kit.kaggle.fetch import fetch_chain

    kernels = _all_or(notebook, read_chain(manifest, owner=owner))
    fetch_chain(Kaggle(), kernels, out=out, named=bool(notebook))


@kaggle.command
def publish_packs(
    workspace: Path = Path("runs/kaggle"),
    *,
    slug: str = "fintune-kit-packs",
    licence: Annotated[str, Parameter(name="--license")] = "other",
    sources_are_public: bool = False,
    manifest: Manifest = Path(FILE),
    owner: Owner = None,
) -> None:
    """Upload conversations and packs as a public dataset, so that others can skip 01 and 02 (push --packs).

    Args:
        workspace: The folder that holds recipe.toml, conversations/ and packed/.
        slug: The name of the dataset.
        licence: Kaggle's name of a licence. With `other`, the description names the licence of each source.
        sources_are_public: Confirm that each source is public and that its licence allows this.
    """
    from fintune_kit.kaggle.calls.client import Kaggle
    from fintune_kit.kaggle.packs import public_sources, write_packs_dataset
    from fintune_kit.kaggle.waiting import wait_for_dataset
    from fintune_kit.publish.licences import source_licences

    owner = read_chain(manifest, owner=owner).owner
    ref = f"{owner}/{check_dataset_slug(slug, where='--slug is')}"
    sources = [f"{source.source}: {source.words}" for source in source_licences(public_sources(workspace))]
    if not sources_are_public:
        raise UserError(
            f"the packs hold text of {'; '.join(sources) or 'invented people'}; expected your confirmation that others "
            f"may have it: add --sources-are-public"
        )
    description = "\n".join(["Conversations and packs of fintune-kit.", "", *(f"- {source}" for source in sources)])
    folder = Path("build/kaggle/packs")
    write_packs_dataset(workspace, folder, ref=ref, licence=licence, description=description)
    client = Kaggle()
    client.publish_dataset(folder, ref, public=True)
    wait_for_dataset(client, ref, sleep=time.sleep)
    print(f"kaggle.com/datasets/{ref}: train on it with `fintune-kit kaggle push 03_train_p100 --packs {ref}`")


PLANNED_AS = {"NvidiaTeslaT4": ("GPU", "t4x2"), "TpuV5E8": ("TPU", "v5e8")}
"""For each machine shape: the quota that it uses, and its name in the planner."""


NOTEBOOKS_TAKE = "finance"
"""The recipe of the notebooks, unless the manifest names another one."""


def _planned(chain: Chain) -> dict[str, tuple[float, float]]:
    """The planned hours of training for each quota, with the recipe of the manifest."""
    found = {}
    for kernel in chain.kernels:
        quota, device = PLANNED_AS.get(kernel.accelerator or "", ("", ""))
        name = kernel.environment.get("FINTUNE_RECIPE") or NOTEBOOKS_TAKE
        if quota and "run" in kernel.writes and name in RECIPES:
            recipe = named_recipe(name)
            if base := kernel.environment.get("FINTUNE_MODEL"):
                recipe = replace(recipe, base=base)
            if hours := planned_hours(recipe, device=device):
                found[quota] = hours
    return found


def _all_or(names: Sequence[str], chain: Chain) -> tuple[Kernel, ...]:
    """The named kernels. If none is named: all kernels of the chain, the optional ones included."""
    return chain.choose(names) if names else chain.kernels
