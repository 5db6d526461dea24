"""The door of the house: `attime compare`, `attime papers`, `attime check`, ...

Exit code 0: it worked, or the claim holds; 1: it does not; 2: wrong usage, said in one sentence; 130: interrupted.
"""

import errno
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

__all__ = ["main"]

# Before torch is loaded: idle OpenMP threads that spin cost ten times the work on a small busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # it was closed: nobody wants to read it
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    from attime.cli.parser import parser
    from attime.errors import AttimeError

    options = parser().parse_args(arguments)
    try:
        code = options.run(options)
        sys.stdout.flush()
        return code
    except AttimeError as error:
        print(f"attime: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader (head, less) has seen enough
        _say_no_more()
        return 0
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        _say_no_more()
        print(f"attime: what was to be written could not be: {error.strerror}.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("attime: interrupted.", file=sys.stderr)
        return 130


def _say_no_more() -> None:
    """What is still waiting to be printed goes nowhere."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
