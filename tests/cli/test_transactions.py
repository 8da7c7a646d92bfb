"""Wrong input of a newcomer: one sentence, exit code 2, nothing written, and no row of the file in what is printed."""

from pathlib import Path

import pytest

from fintune_kit.cli.main import main

ROW = "AUNT MARYS SECRET"
FILES = {
    "bank.csv": f"Date,Description,Amount\n2024-03-01,{ROW},-1.00\n2024-03-02,CORNER BAKERY,-2.00\n".encode(),
    "empty.csv": b"",
    "header.csv": b"Date,Description,Amount\n",
    "letter.csv": f"Dear {ROW},\nthank you for your letter.\n".encode(),
    "png.csv": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
    "gif.csv": b"GIF89a" + bytes(range(256)),
    "webp.csv": b"RIFF\x24\x01\x00\x00WEBPVP8 " + bytes(range(256)),
    "bmp.csv": b"BM" + bytes(range(1, 256)) * 4,
    "labels.csv": f"merchant,category\n{ROW},Things of Aunt Mary\n".encode(),
    "notes.txt": b"precious",
    "adapter/adapter_config.json": b"{}",
    "not_an_adapter/readme.txt": b"nothing here",
}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("import missing.csv", "missing.csv is missing or not a file"),
        ("import adapter", "adapter is missing or not a file"),
        ("import empty.csv", "empty.csv is empty"),
        ("import header.csv", "header.csv has a header in line 1, and no transaction that can be read below it"),
        ("import letter.csv", "letter.csv has no columns that can be told apart"),
        ("import png.csv", "png.csv is a picture"),
        ("import gif.csv", "gif.csv is a picture"),
        ("import webp.csv", "webp.csv holds binary data"),
        ("import bmp.csv", "bmp.csv holds binary data"),
        ("import bank.csv missing.csv", "missing.csv is missing or not a file"),
        ("import bank.csv --currency Dollar", "--currency is 'Dollar', expected three letters such as EUR"),
        ("import bank.csv --map date=Day --map amount=Amount", "no line with the columns Day that --map names"),
        ("import bank.csv --decimal x", 'Invalid value "x" for --decimal'),
        ("anonymise png.csv", "png.csv is a picture"),
        ("anonymise bank.csv --jitter 7", "--jitter is 7.0, expected 0 to 0.5"),
        ("conversations bank.csv", "does not start with the columns account, date"),
        ("label png.csv", "png.csv is a picture"),
        ("label bank.csv --adapter not_an_adapter", "not_an_adapter holds no adapter_config.json"),
        ("categorise png.csv", "png.csv is a picture"),
        ("categorise bank.csv --threshold 2", "--threshold"),
        ("categorise bank.csv --corrections labels.csv", "line 2 of labels.csv: a category is none of ours"),
        ("categorise bank.csv --adapter not_an_adapter", "not_an_adapter holds no adapter_config.json"),
        ("categorise bank.csv --adapter adapter", "does not describe a PEFT adapter"),
        ("categorise bank.csv --adapter missing", "missing holds no adapter_config.json"),
    ],
)
def test_wrong_input_ends_in_one_sentence_and_writes_nothing(
    words: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, printed = run([*words.split(), "--out", "out.csv"], tmp_path, monkeypatch, capsys)
    assert code == 2
    errors = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert sentence in errors[0]


@pytest.mark.parametrize("verb", ["import", "anonymise", "label", "categorise"])
@pytest.mark.parametrize(("out", "sentence"), [("notes.txt", "name another"), ("notes.txt/o.csv", "which is a file")])
def test_what_is_not_ours_is_not_replaced(
    verb: str,
    out: str,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, printed = run([verb, "bank.csv", "--out", out], tmp_path, monkeypatch, capsys)
    assert code == 2
    assert sentence in printed


def run(
    words: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    """The exit code and everything printed of one command in a folder of FILES, which it must leave as they are."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FINTUNE_RECIPE", "smoke")
    for name, content in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    code = main(["transactions", *words])
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == FILES
    captured = capsys.readouterr()
    assert ROW not in captured.out + captured.err
    return code, captured.out + captured.err
