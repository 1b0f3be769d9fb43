"""A stop command for vectors: writes down its arguments, and ends the process after ``--kill``.

``python stopper.py FILE ARGUMENTS…`` writes the arguments as a JSON list to the file.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    file, *arguments = sys.argv[1:]
    Path(file).write_text(json.dumps(arguments), encoding="utf-8")
    os.kill(int(arguments[arguments.index("--kill") + 1]), signal.SIGTERM)
