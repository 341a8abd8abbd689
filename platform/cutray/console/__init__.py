"""What every verb needs on a console: options from settings, progress bars, exit codes."""
