"""What importing the package needs, and doesn't."""

import subprocess
import sys
import unittest


class Import(unittest.TestCase):
    def test_needs_no_torch(self):
        code = (
            "import sys; sys.modules['torch'] = None\n"
            "import numpy, ktjit\n"
            "y = ktjit.fp8.weight_dequant(numpy.full((1, 16), 0x38, numpy.uint8),"
            " numpy.ones((1, 1), numpy.float32))\n"
            "assert y.tolist() == [[1.0] * 16], y\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True)

    def test_imports_no_torch(self):
        code = "import sys, ktjit\nassert 'torch' not in sys.modules\n"
        subprocess.run([sys.executable, "-c", code], check=True)


if __name__ == "__main__":
    unittest.main()
