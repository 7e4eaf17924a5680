import sys

from thermoscale.cli import main

sys.exit(main())
