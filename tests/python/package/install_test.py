"""install() in made-up module trees: what is patched, provided, left alone, and put back."""

import importlib
import inspect
import sys
import tempfile
import textwrap
import unittest
from pathlib import Path

import ktjit
from ktjit.fp8 import act_quant, fp8_gemm, install, uninstall, weight_dequant

KTRANSFORMERS = "ktransformers.ktransformers_ext.triton.fp8gemm"


class Install(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        sys.path.insert(0, folder.name)
        self.modules_before = set(sys.modules)
        self.addCleanup(self.forget)

    def forget(self):
        uninstall()
        sys.path.remove(str(self.root))
        for name in set(sys.modules) - self.modules_before:
            del sys.modules[name]
        importlib.invalidate_caches()

    def assert_ours(self, function, ours):
        self.assertIs(function.__code__, ours.__code__)
        self.assertEqual(inspect.signature(function), inspect.signature(ours))

    def write(self, path, text):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        for parent in file.relative_to(self.root).parents:
            if parent != Path("."):
                (self.root / parent / "__init__.py").touch()
        file.write_text(textwrap.dedent(text))
        importlib.invalidate_caches()

    def write_ktransformers(self):
        self.write(
            "ktransformers/ktransformers_ext/triton/fp8gemm.py",
            """
            def act_quant(x): return "theirs"
            def weight_dequant(x): return "theirs"
            def fp8_gemm(a): return "theirs"
            def other(): return "theirs"
            """,
        )
        self.write(
            "ktransformers/linear.py",
            f"from {KTRANSFORMERS} import fp8_gemm, weight_dequant as dequant, other\n",
        )

    def test_a_module_that_is_imported_is_patched_with_all_who_took_from_it(self):
        self.write_ktransformers()
        linear = importlib.import_module("ktransformers.linear")
        theirs = linear.fp8_gemm
        report = install()
        module = sys.modules[KTRANSFORMERS]
        self.assert_ours(module.act_quant, act_quant)
        self.assert_ours(linear.fp8_gemm, fp8_gemm)
        self.assert_ours(linear.dequant, weight_dequant)
        self.assertEqual(linear.other(), "theirs")
        self.assertIn(f"{KTRANSFORMERS}.weight_dequant", report)
        self.assertIn("ktransformers.linear.dequant", report)
        self.assertIn("kernel (on import)", report)
        self.assertEqual(install(), [])  # nothing left to do

        restored = uninstall()
        self.assertIs(linear.fp8_gemm, theirs)
        self.assertEqual(module.act_quant(0), "theirs")
        self.assertIn("ktransformers.linear.dequant", restored)
        self.assertEqual(uninstall(), [])

    def test_a_module_that_is_imported_later_is_patched_then(self):
        self.write_ktransformers()
        report = install()
        self.assertIn(f"{KTRANSFORMERS} (on import)", report)
        linear = importlib.import_module("ktransformers.linear")
        self.assert_ours(linear.fp8_gemm, fp8_gemm)
        self.assertEqual(linear.other(), "theirs")
        uninstall()  # also what linear took after the patch
        self.assertEqual(linear.fp8_gemm(0), "theirs")
        self.assert_ours(fp8_gemm, ktjit.fp8.fp8_gemm)  # but not what is taken from ktjit itself

    def test_a_module_that_needs_triton_is_provided_where_there_is_none(self):
        self.write("kernel.py", "import triton.language\ndef fp8_gemm(): pass\n")
        if importlib.util.find_spec("triton") is not None:
            self.skipTest("there is a Triton")
        with self.assertRaises(ImportError):
            importlib.import_module("kernel")
        install()
        kernel = importlib.import_module("kernel")
        self.assert_ours(kernel.fp8_gemm, fp8_gemm)
        self.assert_ours(kernel.act_quant, act_quant)
        self.assertIn("kernel", uninstall())
        with self.assertRaises(ImportError):
            importlib.import_module("kernel")

    def test_a_module_that_is_not_there_is_provided(self):
        install()
        self.write("model.py", "from kernel import act_quant, weight_dequant, fp8_gemm\n")
        model = importlib.import_module("model")
        self.assert_ours(model.act_quant, act_quant)
        self.assertIn("kernel", uninstall())
        self.assertNotIn("kernel", sys.modules)

    def test_other_errors_of_a_module_are_its_own(self):
        self.write("kernel.py", "import a_module_that_is_not_there\n")
        install()
        with self.assertRaisesRegex(ImportError, "a_module_that_is_not_there"):
            importlib.import_module("kernel")

    def test_an_unrelated_module_of_that_name_is_left_alone(self):
        self.write("kernel.py", "def boot(): return 'linux'\n")
        install()
        kernel = importlib.import_module("kernel")
        self.assertEqual(kernel.boot(), "linux")
        self.assertFalse(hasattr(kernel, "fp8_gemm"))

    def test_module_names_can_be_given(self):
        self.write("mine.py", "def act_quant(x): return 'mine'\n")
        mine = importlib.import_module("mine")
        self.assertEqual(install(["mine"]), ["mine.act_quant"])
        self.assert_ours(mine.act_quant, act_quant)


if __name__ == "__main__":
    unittest.main()
