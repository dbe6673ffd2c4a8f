"""What holds for every test: nothing is written into the checkout."""

import os
import tempfile

os.environ["ABLATE_REPORTS"] = tempfile.mkdtemp(prefix="reports-")
