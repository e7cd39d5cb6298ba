"""How an example ends: with what it prints, or with one line about the data."""

from collections.abc import Callable

from reference.data import DataError


def run(main: Callable[[], None]) -> None:
    """Run an example from the command line; data that cannot be used end it with one line and exit code 1."""
    try:
        main()
    except DataError as error:
        raise SystemExit(str(error)) from None
