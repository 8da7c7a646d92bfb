"""`python -m fintune_kit` is `fintune-kit`."""

import sys

from fintune_kit.cli.main import main

sys.exit(main())
