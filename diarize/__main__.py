"""``python -m diarize``."""

import sys

from diarize.cli import main

sys.exit(main())
