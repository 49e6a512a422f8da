"""Self-contained HTML reports.

The names are listed in ``__init__.pyi`` and loaded on first use: the report of a model does not need the tasks.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
