"""`fintune-kit push`: uploads the adapter or an export to the Hub."""

from pathlib import Path

from fintune_kit.cli.opening import DEFAULT_CHOICE, RecipeChoice, folder_of


def push(*, repo: str, folder: Path | None = None, public: bool = False, recipe: RecipeChoice = DEFAULT_CHOICE) -> None:
    """Upload the adapter or an export to the Hub, with the token from HF_TOKEN.

    Args:
        repo: OWNER/NAME on the Hub.
        folder: The folder to upload. Default: adapter/ in the workspace.
        public: Make a new repository public.
    """
    from fintune_kit.publish.push import find_token
    from fintune_kit.publish.push import push as upload

    _, workspace = recipe.open()
    source = folder_of(folder, workspace, "adapter")
    print(upload(source, repository=repo, token=find_token(), private=not public))
