"""Uploads an adapter or an export folder to the hub, with its card. It runs only when asked.

The token is passed on; it is never printed and never saved.
"""

from pathlib import Path
from typing import Any

from fintune_kit.errors import UserError
from fintune_kit.workspace import MANIFEST, on_kaggle


def find_token() -> str:
    """The hub token: as `huggingface_hub` finds it (`HF_TOKEN`, `hf auth login`), else Kaggle's secret `HF_TOKEN`.

    Raises:
        UserError: there is none.
    """
    from huggingface_hub import get_token

    token = get_token() or (_kaggle_secret("HF_TOKEN") if on_kaggle() else None)
    if not token:
        raise UserError(
            "no token for the Hugging Face hub was found; expected one in HF_TOKEN, or (on Kaggle) under Add-ons, "
            "Secrets as HF_TOKEN: make one with write access at https://huggingface.co/settings/tokens"
        )
    return token


def push(
    folder: Path,
    *,
    repository: str,
    token: str,
    private: bool = True,
    card: Path | None = None,
    client: Any = None,
) -> str:
    """Uploads a finished folder.

    Args:
        folder: `adapter/`, or what `export` wrote.
        repository: `owner/name`; made if it is missing.
        token: with write access; passed on, never shown.
        private: of a repository that is made.
        card: becomes `README.md`, where the folder has none of its own.
        client: stands in for `huggingface_hub.HfApi` in tests.

    Returns:
        The address of the commit.

    Raises:
        UserError: the folder is unfinished or has no card, the name is not `owner/name`, or the hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if not (folder / MANIFEST).is_file():
        raise UserError(f"{folder} has no {MANIFEST}; expected a finished adapter or export: run that stage first")
    if repository.count("/") != 1:
        raise UserError(f"{repository!r} is not a repository; expected owner/name: correct --repo")
    if card is None and not (folder / "README.md").is_file():
        raise UserError(
            f"{folder} has no README.md, and so says nothing of its base and licence; expected a model card: run "
            f"notebook 04 or `fintune-kit evaluate`, which writes one, or name it"
        )
    hub = client or HfApi(token=token)
    try:
        hub.create_repo(repository, private=private, exist_ok=True)
        message = f"Upload {folder.name} from fintune-kit"
        commit = hub.upload_folder(repo_id=repository, folder_path=str(folder), commit_message=message)
        if card is not None:
            hub.upload_file(
                repo_id=repository, path_or_fileobj=str(card), path_in_repo="README.md", commit_message=message
            )
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = (
            str(error).strip().splitlines()[0].replace(token, "***") if str(error).strip() else type(error).__name__
        )
        raise UserError(
            f"the hub refused {repository!r} ({reason}); expected a token with write access and a free name: check both"
        ) from None  # the chained error would show the request, and with it the token
    return str(getattr(commit, "commit_url", commit))


def _kaggle_secret(name: str) -> str | None:
    try:
        from kaggle_secrets import UserSecretsClient  # type: ignore[import-not-found]

        return str(UserSecretsClient().get_secret(name))
    except Exception:  # Kaggle raises classes of its own; each means that the secret is not attached
        return None
