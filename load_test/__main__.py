"""``python -m load_test``; see ``--help``."""

import io
import os
import sys

from load_test.cli import main

if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # shows each line at once, in a pipe as well
    sys.exit(main(sys.argv[1:], os.environ))
