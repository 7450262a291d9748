"""`python -m manylabel` is the command `manylabel`."""

from manylabel.cli.main import main

if __name__ == "__main__":
    main()
