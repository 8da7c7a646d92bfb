"""Errors of libraries, in a sentence of ours."""

from fintune_kit.errors import first_line


def test_the_first_line_of_an_error_is_never_missing():
    assert first_line(ValueError("\n no such file\nmore about it")) == "no such file"
    assert first_line(ValueError("")) == "ValueError"
