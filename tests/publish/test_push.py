import shutil
from pathlib import Path

import pytest
from huggingface_hub.errors import HfHubHTTPError

from fintune_kit.errors import UserError
from fintune_kit.publish.push import find_token, push
from tests.evaluate.world import World

TOKEN = "hf_" + "secret"


class Hub:
    """Remembers what it was asked."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls: list[tuple[str, dict]] = []
        self._error = error

    def create_repo(self, name: str, **options: object) -> None:
        self.calls.append(("create", {"name": name, **options}))
        if self._error:
            raise self._error

    def upload_file(self, **options: object) -> None:
        self.calls.append(("file", options))

    def upload_folder(self, **options: object) -> str:
        self.calls.append(("upload", options))
        return "https://hub/commit/1"


@pytest.fixture
def finished(world: World, tmp_path: Path) -> Path:
    """An adapter with its card."""
    folder = Path(shutil.copytree(world.adapter, tmp_path / "adapter"))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    return folder


def test_a_folder_without_a_card_says_nothing_of_its_licence_and_is_refused(world: World) -> None:
    with pytest.raises(UserError, match=r"has no README\.md; expected a model card with base and licence"):
        push(world.adapter, repository="me/adapter", token=TOKEN, client=Hub())


def test_a_folder_goes_up_in_one_private_commit(finished: Path) -> None:
    hub = Hub()
    assert push(finished, repository="me/adapter", token=TOKEN, client=hub) == "https://hub/commit/1"
    assert hub.calls[0] == ("create", {"name": "me/adapter", "private": True, "exist_ok": True})
    assert hub.calls[1][1]["folder_path"] == str(finished)


def test_a_card_from_elsewhere_becomes_the_readme(world: World) -> None:
    hub, card = Hub(), world.adapter.parent / "evaluation" / "README.md"
    push(world.adapter, repository="me/adapter", token=TOKEN, client=hub, card=card)
    assert hub.calls[2][1]["path_in_repo"] == "README.md"
    assert hub.calls[2][1]["path_or_fileobj"] == str(card)


def test_the_token_is_in_no_error(finished: Path) -> None:
    class RefusalError(HfHubHTTPError):
        def __init__(self) -> None:
            Exception.__init__(self, f"403 for token {TOKEN}")

        def __str__(self) -> str:
            return str(self.args[0])

    with pytest.raises(UserError, match="the hub refused") as caught:
        push(finished, repository="me/adapter", token=TOKEN, client=Hub(RefusalError()))
    assert TOKEN not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_unfinished_folder_and_a_wrong_name_are_refused(world: World) -> None:
    with pytest.raises(UserError, match="expected a finished adapter"):
        push(world.base, repository="me/adapter", token=TOKEN, client=Hub())
    with pytest.raises(UserError, match="expected owner/name"):
        push(world.adapter, repository="adapter", token=TOKEN, client=Hub())


def test_no_token_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(UserError, match="no token for the Hugging Face hub was found"):
        find_token()
