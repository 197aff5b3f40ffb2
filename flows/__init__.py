"""What people start: the Prefect flow and the command `enginery`."""
