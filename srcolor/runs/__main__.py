"""The command `python -m srcolor.runs`."""

from srcolor.runs.listing import main

main()
