"""Runs the tests of the Python package: run.py CACHE_FOLDER [unittest arguments].

Exits with 77 (skipped, for CTest) where the package or numpy is not there.
"""

import importlib.util
import os
import sys
import unittest
from pathlib import Path

if len(sys.argv) < 2:
    sys.exit("usage: run.py CACHE_FOLDER [unittest arguments]")
for module in ("numpy", "ktjit"):
    if importlib.util.find_spec(module) is None:
        print(f"not run: there is no Python module {module}")
        sys.exit(77)
os.environ["KTJIT_CACHE_DIR"] = sys.argv.pop(1)

folder = str(Path(__file__).parent)
if len(sys.argv) > 1:
    sys.path.insert(0, folder)
    unittest.main(module=None)
suite = unittest.defaultTestLoader.discover(folder, pattern="*_test.py")
result = unittest.TextTestRunner(verbosity=2).run(suite)
sys.exit(0 if result.wasSuccessful() and result.testsRun > 0 else 1)
