"""What the server of child processes loads before it forks the first one; no thread is started by it."""

import importlib

MODULES = (
    "benchmarks.reliability.interrupts",
    "benchmarks.reliability.kills",
    "isthmus.cli.detect_work",
    "isthmus.cli.fit_work",
    "isthmus.cli.model_commands",
    "isthmus.data.tables",
    "isthmus.estimators.many",
    "isthmus.export",
    "isthmus.report",
    "isthmus.tasks",
    "isthmus.training.engines.compiled.engine",
)
"""All that a child would import. CPython discards a `KeyboardInterrupt` that is raised inside a callback of its import
locks, so a signal during an import can be lost, which is not what is tried here."""

for _name in MODULES:
    importlib.import_module(_name)
