"""``python -m cnatool``: the command ``cnatool``."""

from cnatool.cli import main

main()
