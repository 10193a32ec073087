"""What counts of a folder's content, and what does not; and files that only the first one writes."""

import pytest

from medsql.files import content_digest, create_json


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


def test_of_several_that_create_a_file_the_first_one_counts(tmp_path):
    for value in (1, 2):
        create_json(tmp_path / "new" / "id.json", value)
    assert [(file.name, file.read_text()) for file in (tmp_path / "new").iterdir()] == [("id.json", "1\n")]
