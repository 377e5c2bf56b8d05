"""`ktjit convert` killed at random moments and started again: the output is that of an unbroken run.

    kill_and_resume.py KTJIT MODEL [--kills 20] [--seed 1] [--folder DIR] [-- OPTIONS OF CONVERT]

MODEL may be "sample", which is made. Each start is killed (SIGKILL) after a random part of the time that an
unbroken run takes; when one gets to its end before, its output is compared and a new one is begun, until there
were so many kills. The folder needs room for two outputs.
"""

import argparse
import hashlib
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time


def digest(folder):
    """Of every file: its name and bytes."""
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        total.update(f"{path.name} {path.stat().st_size}\n".encode())
        with path.open("rb") as file:
            while part := file.read(1 << 24):
                total.update(part)
    return total.hexdigest()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ktjit")
    parser.add_argument("model")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder")
    arguments, options = parser.parse_known_args()
    options = [option for option in options if option != "--"] or ["--to", "fp8_e4m3", "--device", "cpu"]
    moments = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = pathlib.Path(name)
        model = arguments.model
        if model == "sample":
            model = folder / "sample"
            subprocess.run([arguments.ktjit, "sample", "--kind", "deepseek-fp8", model], check=True,
                           stdout=subprocess.DEVNULL)
        command = [arguments.ktjit, "convert", model, folder / "out", "--cache-dir", folder / "cache", *options]
        for _ in range(2):  # the second finds its kernels in the cache
            shutil.rmtree(folder / "out", ignore_errors=True)
            start = time.monotonic()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            whole_s = time.monotonic() - start
        expected = digest(folder / "out")
        print(f"an unbroken run takes {whole_s:.2f} s", flush=True)

        kills = ends = resumed = 0
        shutil.rmtree(folder / "out")
        while True:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            if kills < arguments.kills:
                try:
                    process.wait(moments.uniform(0, 0.6 * whole_s))
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
            text, _ = process.communicate()
            if process.returncode == -signal.SIGKILL:
                kills += 1
                if (folder / "out").exists():  # it may have been there for a moment, whole
                    if digest(folder / "out") != expected:
                        sys.exit(f"kill {kills}: another output than that of an unbroken run")
                    shutil.rmtree(folder / "out")
                continue
            if process.returncode != 0:
                sys.exit(f"after {kills} kills: exit code {process.returncode}")
            ends += 1
            resumed += "an earlier run had left" in text
            if digest(folder / "out") != expected:
                sys.exit(f"after {kills} kills: another output than that of an unbroken run")
            if (folder / ".out.converting").exists():
                sys.exit("the folder of the work is left")
            shutil.rmtree(folder / "out")
            if kills == arguments.kills:
                break
        print(f"{kills} kills, {ends} runs that came to their end, {resumed} of them with what an earlier one had "
              f"left: every output is that of an unbroken run")


main()
