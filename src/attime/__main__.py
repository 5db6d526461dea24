"""`python -m attime`: the command line."""

import sys

from attime.cli import main

if __name__ == "__main__":
    sys.exit(main())
