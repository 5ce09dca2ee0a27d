"""Text tables with a header row: the listings of users and the split files of benchmarks."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from vis4mer.errors import DataError


class TableRow(NamedTuple):
    """One row of a table.

    Attributes:
        line: Number of the row's last line in the file, counted from 1.
        n_fields: Number of fields that the row holds, which may differ from the header's.
        fields: Text by column, stripped; empty for columns that the row lacks.
    """

    line: int
    n_fields: int
    fields: Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """A table read from a file.

    Attributes:
        columns: Names in the header row; empty for an empty file.
        rows: Rows below the header, without blank ones.
    """

    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]


def read_table(path: Path, kind: str, remedy: str, *, delimiter: str = ",", quoted: bool = True) -> Table:
    """Reads a UTF-8 table.

    Args:
        path: File to read.
        kind: Kind of file for error messages, such as ``listing``.
        remedy: What the user can do about a file that cannot be read.
        delimiter: Character between two fields.
        quoted: Whether double quotes enclose fields; otherwise they are ordinary characters.

    Raises:
        DataError: The file is missing, or is not such a table.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(
                file,
                delimiter=delimiter,
                quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
                skipinitialspace=quoted,
                strict=True,
            )
            columns = tuple(name.strip() for name in next(lines, []))
            rows = tuple(_row(columns, cells, lines.line_num) for cells in lines if cells)
    except FileNotFoundError:
        raise DataError.of(kind, path, "no such file", remedy) from None
    except (OSError, ValueError, csv.Error) as error:  # ValueError for a NUL in the path, or text that is not UTF-8
        raise DataError.of(kind, path, f"cannot be read as a table ({error})", remedy) from None
    return Table(columns, rows)


def _row(columns: tuple[str, ...], cells: list[str], line: int) -> TableRow:
    missing = [""] * (len(columns) - len(cells))
    fields = dict(zip(columns, [cell.strip() for cell in cells] + missing, strict=False))
    return TableRow(line, len(cells), fields)
