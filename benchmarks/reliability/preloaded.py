"""What the server of child processes loads before it forks the first one; no thread is started by it."""

import isthmus.cli.detect_work
import isthmus.cli.fit_work
import isthmus.cli.model_commands
import isthmus.data.tables
import isthmus.export
import isthmus.report
import isthmus.tasks
import isthmus.training.compiled.engine  # noqa: F401
