"""`python -m aioresilience`, the same as the console script."""

from aioresilience.cli import main

main()
