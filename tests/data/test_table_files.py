"""Table files as programs and people write them: the right cells, the same for every verb, or one clear error."""

from __future__ import annotations

import gzip
import os
import socket
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import feather

import isthmus
from isthmus.data.tables import CSVTable, TextFormat, learn_schema, open_table, read_pieces
from isthmus.exceptions import DataError, IsthmusWarning

NUMBERS = pd.DataFrame({"a": [1.5, 2.25, 3.0], "b": [4, 5, 6]})


def write(folder: Path, text: str | bytes, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def frame_of(path: Path, **how: Any) -> pd.DataFrame:
    X: pd.DataFrame = isthmus.read(path, **how).X
    return X


def column(folder: Path, cells: list[str], **how: Any) -> list[Any]:
    """A column of cells beside one of numbers, as it is read."""
    text = "v;other\n" + "".join(f"{cell};{row}.5\n" for row, cell in enumerate(cells))
    found: list[Any] = frame_of(write(folder, text), **how)["v"].tolist()
    return found


# -- separators, lines, encodings --------------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_every_verb_reads_every_separator_alike(separator: str, tmp_path: Path) -> None:
    path = write(tmp_path, NUMBERS.to_csv(index=False, sep=separator))
    pd.testing.assert_frame_equal(frame_of(path), NUMBERS)
    assert learn_schema(path).names == ["a", "b"]
    assert [piece.names for piece in read_pieces(path)] == [["a", "b"]]


@pytest.mark.parametrize("ending", ["tsv", "txt", "csv.gz", "parquet", "feather", "arrow"])
def test_every_ending_gives_the_same_cells(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"t.{ending}"
    text = NUMBERS.to_csv(index=False, sep="\t").encode()
    if ending == "parquet":
        NUMBERS.to_parquet(path)
    elif ending == "feather":
        feather.write_feather(NUMBERS, path)
    elif ending == "arrow":
        with pa.ipc.new_stream(path, pa.Schema.from_pandas(NUMBERS)) as out:
            out.write_table(pa.Table.from_pandas(NUMBERS))
    else:
        path.write_bytes(gzip.compress(text) if ending == "csv.gz" else text)
    pd.testing.assert_frame_equal(frame_of(path), NUMBERS)


def test_quoted_separators_are_not_counted(tmp_path: Path) -> None:
    path = write(tmp_path, '"Amount, EUR, net";"Place, town"\n1;"a, b"\n2;"c, d"\n')
    assert frame_of(path).to_dict("list") == {"Amount, EUR, net": [1, 2], "Place, town": ["a, b", "c, d"]}


def test_line_breaks_in_quotes_belong_to_the_cell_in_names_and_in_large_files(tmp_path: Path) -> None:
    rows = "".join(f'{row},"line one of {row}\nline two"\n' for row in range(100_000))
    path = write(tmp_path, f'"number\nof it",text\n{rows}')
    frame = frame_of(path)
    assert list(frame.columns) == ["number\nof it", "text"]
    assert len(frame) == 100_000
    assert frame["text"].iloc[99_999] == "line one of 99999\nline two"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_unicode_is_recognised(encoding: str, tmp_path: Path) -> None:
    path = write(tmp_path, "Größe,Ort\n1,Köln\n2,Łódź\n".encode(encoding))
    assert frame_of(path).to_dict("list") == {"Größe": [1, 2], "Ort": ["Köln", "Łódź"]}


def test_latin_1_is_read_as_text_and_said(tmp_path: Path) -> None:
    path = write(tmp_path, "id,title\n1,Heat\n2,Amélie\n".encode("latin-1"))
    with pytest.warns(IsthmusWarning, match=r"t\.csv': it is not UTF-8 and is read as Windows-1252"):
        assert frame_of(path)["title"].tolist() == ["Heat", "Amélie"]
    assert frame_of(path, encoding="latin-1")["title"].tolist() == ["Heat", "Amélie"]


def test_one_letter_at_the_end_of_a_large_file_decides_its_encoding(tmp_path: Path) -> None:
    text = "id,town\n" + "".join(f"{row},Ulm\n" for row in range(50_000)) + "50000,Köln\n"
    path = write(tmp_path, text.encode("cp1252"))
    with pytest.warns(IsthmusWarning, match="Windows-1252"):
        assert frame_of(path)["town"].iloc[-1] == "Köln"


def test_another_script_is_refused_with_the_remedy_and_read_when_named(tmp_path: Path) -> None:
    path = write(tmp_path, "id,город\n1,Москва\n2,Казань\n".encode("cp1251"))
    with pytest.raises(DataError, match=r"neither UTF-8 nor Western European.*--encoding cp1251"):
        isthmus.read(path)
    assert frame_of(path, encoding="cp1251")["город"].tolist() == ["Москва", "Казань"]
    with pytest.raises(DataError, match="cannot be decoded as utf-8; pass the encoding it was written in"):
        isthmus.read(path, encoding="utf-8")
    with pytest.raises(DataError, match=r"contains null bytes \(0x00\)"):
        isthmus.read(write(tmp_path, b"a,b\n1,2\n\x00\x01\x00\n", "b.csv"))


def test_what_is_said_of_a_file_is_checked() -> None:
    with pytest.raises(ValueError, match=r"delimiter=';;' must be one character"):
        TextFormat(delimiter=";;")
    with pytest.raises(ValueError, match="encoding='utf-9' is unknown"):
        TextFormat(encoding="utf-9")


def test_excels_first_line_empty_lines_and_separators_at_the_end_are_no_data(tmp_path: Path) -> None:
    text = "sep=;\n\na;b;\n1,5;4;\n\n2,25;5;\n3;6;\n"
    pd.testing.assert_frame_equal(frame_of(write(tmp_path, text)), NUMBERS)


def test_a_title_above_the_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"first line of .* has one cell, but most other lines have 2 .*remove the lines"
    ):
        isthmus.read(write(tmp_path, "Report of May\na,b\nx,2\ny,4\n"))


# -- names and index ---------------------------------------------------------------------------------------------------


def test_a_file_without_names_keeps_its_first_row_and_says_so(tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(300, 3)).round(4)
    path = tmp_path / "t.csv"
    pd.DataFrame(X).to_csv(path, index=False, header=False)
    with pytest.warns(IsthmusWarning, match=r"its first line \(.*\) is read as a row, not as column names"):
        frame = frame_of(path)
    np.testing.assert_array_equal(frame.to_numpy(), X)
    assert list(frame.columns) == ["x0", "x1", "x2"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(frame_of(path, header=False)) == 300
        assert len(frame_of(path, header=True)) == 299


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("a,b\n1,2\n3,4\n", True),
        ("0,1,2\n0.5,0.25,0.1\n0.1,0.2,0.3\n", True),  # as pandas writes columns without names
        ("id,2019,2020\nx,1.5,2.5\ny,3.5,4.5\n", True),
        ("town,country\nUlm,DE\nRome,IT\n", True),
        ("1,2\n3,4\n", False),
        ("0,1\n1,0\n0,1\n", False),
        ("0,1,2\n0,1,1\n2,1,0\n", False),
        ("DE,Ulm\nDE,Bonn\nIT,Rome\n", False),
        ("2024-01-01,5\n2024-01-02,6\n", False),
        ("5,?\n6,1\n7,2\n", False),
    ],
)
@pytest.mark.filterwarnings("ignore::isthmus.exceptions.IsthmusWarning")
def test_names_are_told_from_rows(text: str, header: bool, tmp_path: Path) -> None:
    table = open_table(write(tmp_path, text))
    assert isinstance(table, CSVTable)
    assert table.dialect.header is header
    assert table.n_rows == text.count("\n") - header


@pytest.mark.parametrize("first", ["", "Unnamed: 0"])
def test_a_first_column_that_counts_the_rows_is_an_index(first: str, tmp_path: Path) -> None:
    NUMBERS.rename_axis(first or None).to_csv(tmp_path / "t.csv")
    frame = frame_of(tmp_path / "t.csv")
    assert list(frame.columns) == ["a", "b"]
    assert frame.index.tolist() == [0, 1, 2]
    assert learn_schema(tmp_path / "t.csv").names == ["a", "b"]


def test_an_index_as_r_and_parquet_write_it_is_no_feature(tmp_path: Path) -> None:
    frame = frame_of(write(tmp_path, '"a" "b"\n"r1" 1.5 2\n"r2" 2.5 3\n'.replace(" ", ",")))
    assert frame.to_dict("list") == {"a": [1.5, 2.5], "b": [2, 3]}
    assert frame.index.tolist() == ["r1", "r2"]
    NUMBERS.set_index(np.array([7, 3, 5])).to_parquet(tmp_path / "t.parquet")
    assert frame_of(tmp_path / "t.parquet").index.tolist() == [7, 3, 5]
    assert learn_schema(tmp_path / "t.parquet").names == ["a", "b"]


def test_columns_are_kept_beside_the_features(tmp_path: Path) -> None:
    path = write(tmp_path, ",id,a\n0,007,1.5\n1,7,2.5\n")
    read = isthmus.read(path, keep=["id", "index"])
    assert list(read.X.columns) == ["a"]
    assert read.kept.to_dict("list") == {"index": [0, 1], "id": ["007", "7"]}
    with pytest.raises(DataError, match="has no column 'nr' to keep, only 'id', 'a'; check the name"):
        isthmus.read(path, keep=["nr"])
    np.save(tmp_path / "x.npy", np.ones((2, 2)))
    with pytest.raises(DataError, match="contains an array without column names"):
        isthmus.read(tmp_path / "x.npy", keep=["id"])


def test_equal_names_are_refused_by_every_verb(tmp_path: Path) -> None:
    path = write(tmp_path, "a,b,a\n1,2,3\n4,5,6\n")
    for verb in (isthmus.read, learn_schema):
        with pytest.raises(DataError, match=r"'a' is the name of columns 0, 2 \(counted from 0\); rename them"):
            verb(path)


# -- numbers, identifiers, words, dates --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1,5", "2,25", "-3"], [1.5, 2.25, -3.0]),
        (["1.234,50", "12,5", "7"], [1234.5, 12.5, 7.0]),
        (["1,234.50", "12.5", "7"], [1234.5, 12.5, 7.0]),
        (["$1,234.50", "$7.00", "-$2.00"], [1234.5, 7.0, -2.0]),
        (["1.234,50 €", "7,00 €", "-2,00 €"], [1234.5, 7.0, -2.0]),
        (["12.3%", "5%", "0"], [0.123, 0.05, 0.0]),
        (["(12.50)", "7.00", "5-"], [-12.5, 7.0, -5.0]),
        (["1 234,5", "1\u00a0234\u202f567,5", "\u22122,5"], [1234.5, 1234567.5, -2.5]),
        (["12,34,567.5", "1'234.5", ".5"], [1234567.5, 1234.5, 0.5]),
        (["1e+05", "1.5e3", "2"], [1e5, 1500.0, 2.0]),
    ],
)
def test_numbers_are_read_as_spreadsheets_write_them(cells: list[str], values: list[float], tmp_path: Path) -> None:
    assert column(tmp_path, cells) == values
    kinds = learn_schema(tmp_path / "t.csv", {"v": "numeric"})
    np.testing.assert_allclose(kinds.decode(kinds.encode(tmp_path / "t.csv"))["v"].to_pylist(), values, rtol=1e-4)


def test_an_ambiguous_separator_is_decided_by_the_other_columns(tmp_path: Path) -> None:
    comma = write(tmp_path, "v;w\n1.234;0,5\n5.678;1,5\n", "comma.csv")
    point = write(tmp_path, 'v;w\n"1,234";0.5\n"5,678";1.5\n', "point.csv")
    assert frame_of(comma)["v"].tolist() == [1234, 5678]
    assert frame_of(point)["v"].tolist() == [1234, 5678]
    alone = write(tmp_path, "v;w\n1,234;x\n5,678;y\n", "alone.csv")
    assert frame_of(alone)["v"].tolist() == [1.234, 5.678]


def test_a_later_file_with_another_decimal_mark_is_an_error(tmp_path: Path) -> None:
    point = write(tmp_path, "v;w\n" + "".join(f"{row * row}.5;{row % 7}.25\n" for row in range(20)), "point.csv")
    schema = learn_schema(point)
    with pytest.raises(DataError, match=r"Column 'v' holds numbers, but also text such as '1,234' \(row 0\)"):
        schema.encode(write(tmp_path, "v;w\n1,234;0.5\n", "comma.csv"))


def test_numbers_in_different_units_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "v;w\n$5;1\n€6;2\n$7;3\n")
    with pytest.raises(DataError, match=r"Column 'v' has numbers in different units \(\$ and €\); convert them"):
        learn_schema(path)
    assert frame_of(path)["v"].tolist() == ["$5", "€6", "$7"]


@pytest.mark.parametrize(
    "cells",
    [["007", "7", "0007"], [str(2**64 - 1), str(2**64 - 2), "5"], [str(2**63), "1", "2"], ["12e3", "45e6", "7"]],
)
def test_identifiers_that_numbers_would_change_stay_text(cells: list[str], tmp_path: Path) -> None:
    assert column(tmp_path, cells) == cells


def test_long_integers_are_exact_with_and_without_holes(tmp_path: Path) -> None:
    assert column(tmp_path, ["1234567890123456789", "1234567890123456790"]) == [
        1234567890123456789,
        1234567890123456790,
    ]
    found = column(tmp_path, ["1234567890123456789", "", "1234567890123456790"])
    assert [found[0], found[2]] == ["1234567890123456789", "1234567890123456790"]


def test_na_is_namibia_among_country_codes_and_missing_elsewhere(tmp_path: Path) -> None:
    assert column(tmp_path, ["CL", "NA", "PE"]) == ["CL", "NA", "PE"]
    assert [not pd.isna(cell) for cell in column(tmp_path, ["red", "NA", "blue"])] == [True, False, True]
    rows = "".join(f"{['CL', 'NA', 'PE'][row % 3]};{row}.5\n" for row in range(60))
    schema = learn_schema(write(tmp_path, f"v;w\n{rows}"))
    assert schema["v"].levels == ("CL", "NA", "PE")  # type: ignore[attr-defined]
    assert not schema["v"].holes


def test_an_empty_word_at_use_is_a_missing_cell() -> None:
    schema = learn_schema({"w": ["a", "b"] * 20, "x": np.arange(40) % 7 / 2})
    encoded = schema.encode({"w": ["", "N/A", "c"], "x": [1.0, 1.0, 1.0]})[:, schema.groups["w"][0]]
    np.testing.assert_array_equal(np.isnan(encoded), [True, True, False])


@pytest.mark.parametrize(
    ("form", "clock"),
    [("%d/%m/%Y", ""), ("%m/%d/%Y", ""), ("%d.%m.%Y", " %H:%M"), ("%Y/%m/%d", ""), ("%Y%m%d", ""), ("%b %d, %Y", "")],
)
def test_dates_are_read_in_the_form_of_their_column(form: str, clock: str, tmp_path: Path) -> None:
    days = pd.date_range("2024-01-05", periods=60, freq="31h").to_series()
    days = days if clock else days.dt.floor("D")
    days = days.dt.floor("min")
    cells = days.dt.strftime(form + clock).tolist()
    assert column(tmp_path, cells) == days.tolist()
    schema = learn_schema(tmp_path / "t.csv")
    assert schema["v"].kind == "datetime"
    assert schema.decode(schema.encode(tmp_path / "t.csv"))["v"].to_pylist()[:1] == cells[:1]


def test_days_that_could_be_months_are_not_guessed(tmp_path: Path) -> None:
    rows = "".join(f"{day:02}/{month:02}/2024;1.5\n" for day in range(1, 13) for month in range(1, 13))
    path = write(tmp_path, f"v;w\n{rows}")
    column = learn_schema(path)["v"]
    assert (
        "has ambiguous dates: %d/%m/%Y or %m/%d/%Y" in learn_schema(path, {"w": "ignore"})["v"].note
        or column.kind == "categorical"
    )
    assert learn_schema(path, {"v": "%d/%m/%Y"})["v"].kind == "datetime"


def test_a_type_is_decided_over_the_whole_file(tmp_path: Path) -> None:
    rows = "".join(f"{row},1\n" for row in range(40_000))
    late = write(tmp_path, f"id,n\n{rows}A7,1\n")
    assert frame_of(late)["id"].tolist()[:2] == ["0", "1"]


# -- what is no regular file -------------------------------------------------------------------------------------------


def test_pipes_devices_sockets_and_folders_are_refused_unopened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match=r"pipe\.csv' is a named pipe \(FIFO\), but a regular file is needed"):
        isthmus.read(tmp_path / "pipe.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match=r"folder\.csv' is a folder, but a regular file is needed"):
        learn_schema(tmp_path / "folder.csv")
    with pytest.raises(DataError, match=r"'/dev/zero' is a device"):
        isthmus.read("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s.csv"))
        with pytest.raises(DataError, match="is a socket"):
            isthmus.read(tmp_path / "s.csv")


def test_work_grows_linearly_with_the_number_of_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparisons of names are counted, which a search through all columns for each would square."""
    counted = {"n": 0}

    class Name(str):
        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            counted["n"] += 1
            return str.__eq__(self, other)  # type: ignore[arg-type]

        __hash__ = str.__hash__

    def comparisons(width: int) -> int:
        table = {Name(f"c{place}"): [1.0, 2.5, 4.0] for place in range(width)}
        schema = learn_schema(table)
        counted["n"] = 0
        schema.encode(table)
        return counted["n"]

    assert comparisons(400) <= 3 * comparisons(200) + 100


def test_an_error_names_few_of_many_columns() -> None:
    model = isthmus.Autoencoder(1, max_epochs=1).fit(pd.DataFrame(np.eye(40), columns=[f"c{n}" for n in range(40)]))
    with pytest.raises(ValueError, match="should match") as caught:
        model.transform(pd.DataFrame(np.eye(40), columns=[f"d{n}" for n in range(40)]))
    assert "'c0', 'c1', 'c2', 'c3', 'c4' and 35 more" in str(caught.value)
    assert len(str(caught.value)) < 500
