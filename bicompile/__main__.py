"""`python -m bicompile` is `bicompile`; torchrun starts it so."""

from bicompile.cli import main

main()
