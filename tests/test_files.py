"""What counts of a folder's content, and what does not."""

import pytest

from medsql.files import content_digest


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "sub" / "weights").write_text("1")
    return tmp_path


@pytest.mark.parametrize("file", ["README.md", ".lock", "sub/.cache", "sub/notes.md"])
def test_hidden_files_and_documentation_change_nothing(folder, file):
    before = content_digest(folder)
    (folder / file).write_text("new")
    assert content_digest(folder) == before


@pytest.mark.parametrize("file", ["config.json", "sub/weights", "new.txt"])
def test_everything_else_does(folder, file):
    before = content_digest(folder)
    (folder / file).write_text("new")
    assert content_digest(folder) != before


def test_a_file_by_itself_counts_whatever_it_is_called(folder):
    (folder / "pairs.md").write_text("one")
    before = content_digest(folder / "pairs.md")
    (folder / "pairs.md").write_text("two")
    assert content_digest(folder / "pairs.md") != before
