"""`python -m miniclip`: the same as the command `miniclip`."""

from miniclip.cli import main

if __name__ == "__main__":
    main()
