"""What people start: the Prefect flow, and the commands of `enginery`."""

import os

# Before anything imports Prefect: nothing is sent anywhere that the user did not name.
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
