"""Anomaly detection on ADBench's tables, beside the detectors of other libraries."""
