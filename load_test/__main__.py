"""``python -m load_test``; see ``--help``."""

import os
import sys

from load_test.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
