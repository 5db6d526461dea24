"""The door of the house: `attime compare`, `attime papers`, `attime check`, ...

Exit code 0: it worked, or the claim holds; 1: it does not; 2: wrong usage, said in one sentence; 130: interrupted.
"""

import os
import sys
from collections.abc import Sequence

__all__ = ["main"]

# Before torch is loaded: idle OpenMP threads that spin cost ten times the work on a small busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    from attime.cli.parser import parser
    from attime.errors import AttimeError

    options = parser().parse_args(arguments)
    try:
        return options.run(options)
    except AttimeError as error:
        print(f"attime: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("attime: interrupted.", file=sys.stderr)
        return 130
