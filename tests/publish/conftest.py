"""The finished run that evaluation's tests read, for those of publishing."""

from tests.evaluate.conftest import encoder, world  # noqa: F401 - fixtures
