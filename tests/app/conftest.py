"""What several tests of the application share."""

import pytest


@pytest.fixture(scope="session")
def text(tmp_path_factory):
    """A short plain text."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(" ".join(f"Chapter {n}. The lighthouse stood on a rock, and the sea was calm." for n in range(14)))
    return path
