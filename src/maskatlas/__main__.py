"""``python -m maskatlas``, which is also what torchrun starts."""

import sys

from maskatlas.cli import main

sys.exit(main())
