"""What the command line does once cli.py has read the arguments; imported by nothing else."""
