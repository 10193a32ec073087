"""The text a model is shown: the question, alone or behind a description of the database.

`report` is an experimental constant: the published run's prompt to the letter, although its column
names are not those of the gold SQL. `schema` says the same in the same words with the real columns.
`question` leaves the schema out, which with a single database is the same in every prompt. `none` is
for text that is a whole prompt already.
"""

from importlib.resources import files

from medsql.config import PROMPTS, SettingsError
from medsql.sql.schema import TABLES

_SLOT = "{question}"


def prompt_template(name: str) -> str:
    """The template called `name`, one of `PROMPTS`, with `{question}` where the question goes.

    Raises:
        SettingsError: there is no such template.
    """
    if name == "report":
        return files("medsql.data").joinpath("prompt_report.txt").read_text("utf-8").removesuffix("\n")
    if name == "schema":
        return f"translate to SQL: {_schema_text()} | question: {_SLOT}"
    if name == "none":
        return _SLOT
    if name == "question":
        return f"translate to SQL: {_SLOT}"
    raise SettingsError(f"data.prompt={name}: choose one of {', '.join(PROMPTS)}")


def render(template: str, question: str) -> str:
    """`template` with its slot filled; not `str.format`, for questions and schemas may hold braces."""
    return template.replace(_SLOT, question, 1)


def _schema_text() -> str:
    lines = [f"Database MIMIC contains tables such as {', '.join(TABLES)}."]
    lines += [f"Table {table} has columns such as {', '.join(columns)}." for table, columns in TABLES.items()]
    return "\n".join(lines)
