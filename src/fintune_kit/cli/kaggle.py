"""`fintune-kit kaggle build|push|status|fetch [NOTEBOOK ...]`: the notebooks as a chain of Kaggle kernels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from fintune_kit.cli.flags import FLAGS
from fintune_kit.errors import UserError
from fintune_kit.kaggle.delivery import Delivery, deliver
from fintune_kit.kaggle.kernels import build_kernels
from fintune_kit.kaggle.manifest import FILE, Chain, Kernel, read_chain

kaggle = App(
    name="kaggle",
    help="Run the notebooks as Kaggle kernels: build, push, status, fetch.",
    help_format="markdown",
    default_parameter=FLAGS,
)


Manifest = Annotated[Path, Parameter(help="The chain's manifest.")]
Owner = Annotated[str | None, Parameter(help="Your Kaggle user name. Default: the manifest's.")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Building:
    """How the build folders are made; `build` and `push` share these flags."""

    manifest: Manifest = Path(FILE)
    owner: Owner = None
    out: Path = Path("build/kaggle")
    """The folder in which each kernel gets its own."""
    deliver: Literal["embed", "dataset", "git"] = "embed"
    """How the library gets there."""
    after: str | None = None
    """A notebook whose output is read in place of another's that writes the same, as in: push 04_evaluate --after
    03_train_tpu_v5e8."""
    force_accelerator: bool = False
    """Ask for a retired or unknown accelerator all the same."""

    def prepare(self, notebooks: tuple[str, ...]) -> tuple[Chain, tuple[Kernel, ...], Delivery]:
        """The chain, the chosen kernels, and the library as it travels."""
        chain = read_chain(self.manifest, owner=self.owner)
        return chain, chain.choose(notebooks, after=self.after), deliver(chain, method=self.deliver)


AS_DEFAULT = Building()


@kaggle.command
def build(*notebook: str, building: Building = AS_DEFAULT) -> None:
    """Write a folder for each kernel, checked, with the library in it.

    Args:
        notebook: As in 01_data. Default: all that are not optional.
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
    resume: bool = False,
    until_done: bool = False,
    building: Building = AS_DEFAULT,
) -> None:
    """Build, check and push; with --wait the whole chain.

    Args:
        notebook: As in 01_data.
        all_: Push all notebooks of the manifest that are not optional, in order.
        wait: Wait for each to end, show a failing cell, go on to the next.
        resume: Attach the kernel's own previous output, and go on from there.
        until_done: Push a kernel that was stopped again until it is done; implies --wait.
    """
    from fintune_kit.kaggle.chain import PushOptions, push_chain
    from fintune_kit.kaggle.client import Kaggle

    if all_ == bool(notebook):
        raise UserError("push takes either the notebooks to push or --all, as in `fintune-kit kaggle push 01_data`")
    chain, kernels, delivery = building.prepare(notebook)
    options = PushOptions(
        out=building.out,
        delivery=delivery,
        wait=wait,
        resume=resume,
        until_done=until_done,
        force_accelerator=building.force_accelerator,
    )
    push_chain(Kaggle(), chain, kernels, options=options)


@kaggle.command
def status(*notebook: str, manifest: Manifest = Path(FILE), owner: Owner = None) -> None:
    """Show each kernel with its times, and the week's quota.

    Args:
        notebook: As in 01_data. Default: all that are not optional.
    """
    from fintune_kit.kaggle.client import Kaggle
    from fintune_kit.kaggle.overview import describe_chain

    chain = read_chain(manifest, owner=owner)
    print(describe_chain(Kaggle(), chain.choose(notebook)))


@kaggle.command
def fetch(
    *notebook: str, out: Path = Path("runs/kaggle"), manifest: Manifest = Path(FILE), owner: Owner = None
) -> None:
    """Fetch the outputs and check them; goes on where it was interrupted.

    Args:
        notebook: As in 01_data. Default: all that are not optional.
        out: The folder to write.
    """
    from fintune_kit.kaggle.client import Kaggle
    from fintune_kit.kaggle.fetch import fetch_kernel

    chain = read_chain(manifest, owner=owner)
    client = Kaggle()
    for kernel in chain.choose(notebook):
        fetch_kernel(client, kernel, out=out)
