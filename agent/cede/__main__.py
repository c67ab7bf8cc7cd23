"""`python3 -m cede`, the same as the `cede` command."""

from cede.cli.main import main

if __name__ == "__main__":
    main()
