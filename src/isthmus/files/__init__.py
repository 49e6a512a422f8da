"""Files: model files and result tables. This package does not depend on the classes that it stores."""

from isthmus.atomic import atomic, check_writable
from isthmus.files.model_file import FORMAT_VERSION, State, read_state, state_of_bytes, state_to_bytes, write_state
from isthmus.files.row_writer import check_format, write_rows
from isthmus.files.table_writer import check_table_format, write_tables

__all__ = [
    "FORMAT_VERSION",
    "State",
    "atomic",
    "check_format",
    "check_table_format",
    "check_writable",
    "read_state",
    "state_of_bytes",
    "state_to_bytes",
    "write_rows",
    "write_state",
    "write_tables",
]
