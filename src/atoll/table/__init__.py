"""Rows as people have them: named columns of numbers, text, categories and truth values, with what is missing."""

from __future__ import annotations

from atoll.table.column import NA, NAN, NONE, Column, Kind, common, missing_value
from atoll.table.intake import given_as, is_frame
from atoll.table.table import Form, Table

__all__ = ["NA", "NAN", "NONE", "Column", "Form", "Kind", "Table", "common", "given_as", "is_frame", "missing_value"]
