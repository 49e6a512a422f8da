"""A self-contained HTML page of one run."""

from isthmus.report.report import Table, layer_table, write_report

__all__ = ["Table", "layer_table", "write_report"]
