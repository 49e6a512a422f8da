"""Self-contained HTML reports."""

from isthmus.report.anomalies import OddRow, write_anomaly_report
from isthmus.report.compression import plot_rate_distortion, write_compression_report
from isthmus.report.report import Table, layer_table, write_report

__all__ = [
    "OddRow",
    "Table",
    "layer_table",
    "plot_rate_distortion",
    "write_anomaly_report",
    "write_compression_report",
    "write_report",
]
