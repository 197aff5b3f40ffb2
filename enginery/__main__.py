"""python -m enginery: the command, without an installed script."""

import sys

from enginery.cli.main import main

sys.exit(main())
