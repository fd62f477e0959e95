"""`python -m expunge`, the same as `expunge`."""

import os
import sys

# Python puts the current folder first, where a stranger's files may bear the names of our libraries.
# What a person names as `module:function` is still found there.
if sys.path and sys.path[0] in ("", os.getcwd()):
    del sys.path[0]

from expunge.cli import main

main()
