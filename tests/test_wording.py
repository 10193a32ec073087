"""One of a thing is not called by its plural."""

from medsql.wording import counted


def test_one_is_singular_and_any_other_number_plural():
    assert [counted(count, "row") for count in (0, 1, 2, 1000)] == ["0 rows", "1 row", "2 rows", "1,000 rows"]
    assert [counted(count, "query", "queries") for count in (1, 2)] == ["1 query", "2 queries"]
