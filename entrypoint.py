"""The container's entry point. What cannot even start ends with 2: Python's own 1 would read as an accusation."""

import os
import sys

sys.excepthook = lambda kind, *_: (print(f"::error title=modelguard::could not run ({kind.__name__})", flush=True), os._exit(2))  # noqa: T201
from modelguard.action import main  # noqa: E402

sys.exit(main(os.environ))
