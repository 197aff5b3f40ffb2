"""python -m enginery: the command, without an installed script."""

import sys

from flows.cli import main

sys.exit(main())
