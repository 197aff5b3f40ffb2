"""What people start: the Prefect flow, and the commands of `enginery`."""

import os

import enginery  # noqa: F401  # forbids the libraries to report, before Prefect is imported

os.environ.setdefault(
    "PREFECT_SERVER_ANALYTICS_ENABLED", "false"
)  # of the servers that are started here
