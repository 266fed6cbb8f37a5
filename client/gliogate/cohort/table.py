"""The table of a cohort, one row a study: `cohort.csv`, and `cohort.parquet` where pyarrow is installed."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, get_args

from gliogate.cohort.results import Result
from gliogate.contract import Verdict, verdict_of
from gliogate.volumes.extras import require

COLUMNS: Final[Mapping[str, type]] = {
    "study": str,
    "verdict": str,
    "tumor_probability": float,
    "tumor_volume_ml": float,
    "tumor_volume_low_ml": float,
    "tumor_volume_high_ml": float,
    "certainty": float,
    "needs_look": bool,
    "largest_diameter_mm": float,
    "components": int,
    "slices": int,
    "slices_with_tumor": int,
    "seconds": float,
    "notes": str,
    "error": str,
}
"""What each column is called, and its type; each may be empty."""

NOT_DONE: Final = "not done"
"""The error of a study that nobody has come to the end of."""

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What a text begins with that a spreadsheet would run."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Entry:
    """One study of the table.

    Attributes:
        study: its name, as it is on disk.
        row: of the table; of a study that failed or is not done, most of it is None.
        files: that were written, relative to the study's folder of results.
    """

    study: str
    row: Row
    files: tuple[str, ...] = ()

    @classmethod
    def of(cls, study: str, result: Result | None) -> Self:
        """Makes an entry of what was kept, which may be of another version's making."""
        row: dict[str, Any] = dict.fromkeys(COLUMNS)
        row["study"] = study
        if result is None:
            return cls(study, _typed(row | {"error": NOT_DONE}))
        row |= {"seconds": result.seconds, "error": result.error}
        found = result.found or {}
        if result.error is None:
            slices = _rows_of(found, "slices")
            areas = [each.get("area_px") or 0 for each in slices]
            row |= {name: found.get(name) for name in COLUMNS if name in found}
            verdict = _verdict_of(found, is_outlined=any(areas) or not areas)
            low, high = _interval_of(found)
            row |= {
                "verdict": verdict,
                "tumor_volume_low_ml": low,
                "tumor_volume_high_ml": high,
                "needs_look": True if verdict == "suspicious" else found.get("needs_look"),
                "tumor_probability": max((each.get("tumor_probability") or 0.0 for each in slices), default=None),
                "components": len(_rows_of(found, "components")),
                "slices": len(slices),
                "slices_with_tumor": sum(area > 0 for area in areas),
                "notes": "; ".join(map(str, found.get("notes") or [])) or None,
            }
        return cls(study, _typed(row), result.files)


def in_order(verdicts: Iterable[str]) -> list[str]:
    """Each verdict once, those of the contract first, in its order; another version's may be any text."""
    ours = get_args(Verdict)
    return sorted({*verdicts}, key=lambda verdict: (ours.index(verdict) if verdict in ours else len(ours), verdict))


def _verdict_of(found: Mapping[str, Any], *, is_outlined: bool) -> str:
    """The verdict of a study; before there was `suspicious`, versions said `tumor` where nothing was outlined, too."""
    verdict = found.get("verdict")
    if isinstance(verdict, str) and verdict != "tumor":
        return verdict
    tumor = True if verdict == "tumor" else found.get("tumor")
    return verdict_of(detected=tumor if tumor in (True, False) else None, outlined=is_outlined)


def _interval_of(found: Mapping[str, Any]) -> tuple[Any, Any]:
    """Between which millilitres the true volume lies; versions before 11 did not say."""
    interval = found.get("tumor_volume_interval_ml")
    return (interval[0], interval[1]) if isinstance(interval, list) and len(interval) == 2 else (None, None)


def _rows_of(found: Mapping[str, Any], name: str) -> Sequence[Mapping[str, Any]]:
    rows = found.get(name)
    return [each for each in rows if isinstance(each, Mapping)] if isinstance(rows, list) else []


def _typed(row: Mapping[str, Any]) -> Row:
    """A row of the columns' types; what is of none becomes None."""
    return {name: _value(row[name], kind) for name, kind in COLUMNS.items()}


def _value(value: Any, kind: type) -> Any:
    if kind is str:
        # A name may be no text at all, and so may what an error says of it.
        return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else None
    if kind is bool:
        return value if isinstance(value, bool) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return kind(value)


def to_csv(rows: Sequence[Row]) -> bytes:
    """The table as CSV, UTF-8.

    A text that a spreadsheet would take for a formula gets an apostrophe before it
    (https://owasp.org/www-community/attacks/CSV_Injection); Parquet has it as it is.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(COLUMNS))
    writer.writeheader()
    writer.writerows({name: _inert(value) for name, value in row.items()} for row in rows)
    return text.getvalue().encode("utf-8")


def _inert(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def to_parquet(rows: Sequence[Row]) -> bytes:
    """The table as Parquet; its columns have their types also where they are empty.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    pyarrow = require("pyarrow", extra="cohort")
    parquet = require("pyarrow.parquet", extra="cohort")
    types = {str: pyarrow.string(), float: pyarrow.float64(), int: pyarrow.int64(), bool: pyarrow.bool_()}
    schema = pyarrow.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.Table.from_pylist(list(rows), schema=schema), sink)
    return bytes(sink.getvalue().to_pybytes())
