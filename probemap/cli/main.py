"""Entry point of the command-line interface.

Results go to stdout, and messages go to stderr.  The exit status is 0 for success, 1 for an error that the user can
correct, and 2 for a usage error.
"""

import errno
import io
import os
import signal
import sys
from importlib import import_module

import typer

from probemap.cli.console import say
from probemap.records import ProbemapError

app = typer.Typer(
    name="probemap",
    help="Show where a language model's hidden states reveal that an answer is incorrect.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_ACCESS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.EISDIR, errno.ENOTDIR}

# The modules are imported by name, as the modules of the steps are.
for _module in ("run", "steps", "show", "detectors", "logs"):
    app.add_typer(import_module(f"probemap.cli.{_module}").app)


def main() -> None:
    """Run the command-line interface.

    After an error that the user can correct, print a message and exit with status 1.
    """
    _tolerate_encodings()
    signal.signal(signal.SIGTERM, _terminate)
    if "OMP_WAIT_POLICY" not in os.environ:
        # Threads of GNU OpenMP that wait for others otherwise keep their cores busy for milliseconds, so that two
        # processes on the same cores take several times as long as they take one after the other.
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        app()
    except ProbemapError as error:
        say(f"error: {error}")
    except KeyboardInterrupt:
        say("interrupted; repeat the command to resume")
        sys.exit(130)
    except OSError as error:
        if error.errno not in _DISK_FULL | _NO_ACCESS:
            raise
        path = f": {error.filename}" if error.filename else ""
        hint = "free disk space" if error.errno in _DISK_FULL else "check that the path exists and is accessible"
        say(f"error: {error.strerror}{path}\nhint: {hint}; repeat the command to resume")
    else:
        return
    sys.exit(1)


def _terminate(number: int, frame: object) -> None:
    """Exit after SIGTERM, so that locks are released and the processes of an engine end."""
    sys.exit(128 + number)


def _tolerate_encodings() -> None:
    """Escape characters that the encoding of the terminal lacks, and replace bytes that it cannot decode.

    The encoding is e.g. cp1252 or ASCII on Windows, in containers and in cron jobs.
    """
    for stream, errors in ((sys.stdout, "backslashreplace"), (sys.stderr, "backslashreplace"), (sys.stdin, "replace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


if __name__ == "__main__":
    main()
