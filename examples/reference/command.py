"""Run an example from the command line."""

from collections.abc import Callable

from reference.data import DataError


def run(main: Callable[[], None]) -> None:
    """Run `main`; if the data cannot be used, print one line and exit with code 1."""
    try:
        main()
    except DataError as error:
        raise SystemExit(str(error)) from None
