"""The verbs of the command line, one file each. Nothing but these and cli.py prints."""
