"""Text tables with a header row: the listings of users and the split files of benchmarks."""

import codecs
import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from vis4mer.errors import DataError
from vis4mer.training.names import shortened

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", " ": "spaces"}
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_UTF8_REMEDY = "save it in UTF-8, which Excel calls 'CSV UTF-8'"
_PROBE_BYTES = 4096


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
        path: File of the table.
        kind: Kind of file for error messages, such as ``listing``.
        columns: Names in the header row, stripped and in lower case; empty for an empty file.
        rows: Rows below the header, without blank ones.
    """

    path: Path
    kind: str
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]

    def place(self, line: int) -> str:
        """Returns the file and a line of it, as error messages name them."""
        return f"{self.kind}={str(self.path)!r}, line {line}"

    def refuse(self, fault: str, offenders: Iterable[tuple[TableRow, str]], remedy: str = "") -> None:
        """Raises an error if there are any offenders.

        Args:
            fault: Rule that they break.
            offenders: Rows, each with the text to quote; the message quotes the first and lists the others' lines.
            remedy: What the user can do about them.

        Raises:
            DataError: There is at least one offender.
        """
        found = list(offenders)
        if not found:
            return
        (row, text), *others = found
        also = ""
        if others:
            lines = shortened([str(other.line) for other, _ in others])
            also = f" (also line{'s' if len(others) > 1 else ''} {lines})"
        raise DataError(f"{self.place(row.line)}: {fault}: {text!r}{also}" + (f"; {remedy}" if remedy else ""))


def read_table(path: Path, kind: str, remedy: str, *, delimiter: str = ",", quoted: bool = True) -> Table:
    """Reads a UTF-8 table, with or without a byte order mark.

    Args:
        path: File to read.
        kind: Kind of file for error messages, such as ``listing``.
        remedy: What the user can do about a file that cannot be read.
        delimiter: Character between two fields.
        quoted: Whether double quotes enclose fields, and no row may be longer than the header, which is the rule for
            files that people write; otherwise quotes are ordinary characters.

    Raises:
        DataError: The file is missing, or is not such a table.
    """
    lines = csv.reader(
        io.StringIO(read_text(path, kind, remedy), newline=""),
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        skipinitialspace=quoted,
        strict=True,
    )
    try:
        filled = [(lines.line_num, cells) for cells in lines if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        rule = f"cannot be read as a table ({error})"
        raise DataError(f"{kind}={str(path)!r}, line {lines.line_num}: {rule}; close every double quote") from None
    # Excel obeys a first line such as "sep=," and some programs write it.
    if filled and filled[0][1][0].casefold() == "sep=":
        del filled[0]
    if not filled:
        raise DataError.of(kind, path, "is empty; its first row must name the columns", remedy)
    (line, header), *body = filled
    columns = tuple(name.strip().casefold() for name in header)
    table = Table(path, kind, columns, tuple(_rows(columns, body)))
    _check_header(table, line, header, delimiter)
    if quoted:
        wide = ((row, ",".join(row.fields.values())) for row in table.rows if row.n_fields > len(columns))
        fault = f"holds more fields than the header's {len(columns)}"
        table.refuse(fault, wide, "put a field that contains a comma in double quotes")
    return table


def read_text(path: Path, kind: str, remedy: str) -> str:
    """Reads a UTF-8 text file, with or without a byte order mark.

    Args:
        path: File to read.
        kind: Kind of file for error messages, such as ``listing``.
        remedy: What the user can do about a file that cannot be read.

    Raises:
        DataError: The file is missing, cannot be read or has another encoding.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_PROBE_BYTES)
            is_utf16 = data.startswith(_UTF16_MARKS)
            # A movie passed by mistake is not read to its end.
            if b"\0" not in data:
                data += file.read()
    except FileNotFoundError:
        raise DataError.of(kind, path, "no such file", remedy) from None
    except (OSError, ValueError) as error:  # ValueError for a NUL or a lone surrogate in the path
        raise DataError.of(kind, path, f"cannot be read as a table ({error})", remedy) from None
    if is_utf16:
        raise DataError.of(kind, path, "is encoded in UTF-16, not in UTF-8", _UTF8_REMEDY)
    if b"\0" in data:
        raise DataError.of(kind, path, "cannot be read as a table: it is not a text file", remedy)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = data[error.start : error.start + 1]
        rule = (
            f"byte 0x{byte.hex()} is not UTF-8; the file is probably Windows-1252, where it means "
            f"{byte.decode('cp1252', 'replace')!r}"
        )
        raise DataError(f"{kind}={str(path)!r}, line {line}: {rule}; {_UTF8_REMEDY}") from None


def _rows(columns: tuple[str, ...], body: Iterable[tuple[int, list[str]]]) -> Iterator[TableRow]:
    for line, cells in body:
        stripped = [cell.strip() for cell in cells]
        # A spreadsheet with an empty column on the right ends each row with a delimiter.
        while len(stripped) > len(columns) and not stripped[-1]:
            stripped.pop()
        missing = [""] * (len(columns) - len(stripped))
        yield TableRow(line, len(stripped), dict(zip(columns, stripped + missing, strict=False)))


def _check_header(table: Table, line: int, header: list[str], delimiter: str) -> None:
    """Checks that the header has the right delimiter and names no column twice."""
    if len(header) == 1:
        for other in (";", "\t", ","):
            if other in header[0]:
                rule = (
                    f"the fields are separated by {_DELIMITERS[other]}; must be separated by {_DELIMITERS[delimiter]}"
                )
                raise DataError(f"{table.place(line)}: {rule}; export the table again with that separator")
    repeated = [name for name, count in Counter(filter(None, table.columns)).items() if count > 1]
    if repeated:
        raise DataError(f"{table.place(line)}: column {repeated[0]!r} occurs twice; remove one of them")
