"""Self-contained HTML reports."""

from isthmus.report.anomalies import OddRow, write_anomaly_report
from isthmus.report.choosing import write_choice_report
from isthmus.report.compression import plot_rate_distortion, write_compression_report
from isthmus.report.maps import write_map_report
from isthmus.report.report import Table, layer_table, write_report
from isthmus.report.restorations import write_restoration_report
from isthmus.report.search import write_search_report

__all__ = [
    "OddRow",
    "Table",
    "layer_table",
    "plot_rate_distortion",
    "write_anomaly_report",
    "write_choice_report",
    "write_compression_report",
    "write_map_report",
    "write_report",
    "write_restoration_report",
    "write_search_report",
]
