"""Sweeps that fine-tune T5 to turn clinical questions into SQL, and `TextToSql`, which uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medsql.text_to_sql import TextToSql

__all__ = ["TextToSql"]


def __getattr__(name: str) -> Any:
    """`TextToSql` when somebody asks for it: it brings PyTorch, which importing the package must not."""
    if name == "TextToSql":
        from medsql.text_to_sql import TextToSql

        return TextToSql
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
