"""Uploads an adapter or an export to the hub, with its card. It runs only on request.

The token goes only to the hub. It is never printed and never saved.
"""

from pathlib import Path
from typing import Any

from fintune_kit.errors import UserError, first_line
from fintune_kit.workspace import MANIFEST, on_kaggle


def find_token() -> str:
    """The hub token that `huggingface_hub` finds (`HF_TOKEN`, `hf auth login`), else Kaggle's secret `HF_TOKEN`.

    Raises:
        UserError: no token was found.
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
        folder: `adapter/`, or a folder that `export` wrote.
        repository: `owner/name`; created if it is missing.
        token: with write access; it is never shown.
        private: whether a new repository is private.
        card: a model card in another place, uploaded as `README.md`.
        client: replaces `huggingface_hub.HfApi` in tests.

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
            f"{folder} has no README.md; expected a model card with base and licence: run notebook 04 or `fintune-kit "
            f"evaluate`, which writes one"
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
        reason = first_line(error).replace(token, "***")
        raise UserError(
            f"the hub refused {repository!r} ({reason}); expected a token with write access and a free name: check both"
        ) from None  # the original error would show the request with the token
    return str(getattr(commit, "commit_url", commit))


def _kaggle_secret(name: str) -> str | None:
    try:
        from kaggle_secrets import UserSecretsClient  # type: ignore[import-not-found]

        return str(UserSecretsClient().get_secret(name))
    except Exception:  # Kaggle raises classes of its own; each means that the secret is not attached
        return None
