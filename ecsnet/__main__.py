"""`python -m ecsnet` is the `ecsnet` command."""

import sys

from .cli import main

sys.exit(main())
