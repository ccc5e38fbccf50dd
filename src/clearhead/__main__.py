"""python -m clearhead is the same as clearhead."""

from clearhead.cli import main

main()
