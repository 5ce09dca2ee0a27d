"""What every benchmark does alike: options, progress, the machine's description, and the result file."""
