#!/usr/bin/env python3
"""Many processes meet one cache: `ktjit build` of one model by N processes at once on an empty
cache, then the same again and again with one of them killed at a random moment.

    bench/fleet.py MODEL [--ktjit build/release/bin/ktjit] [--target sm_86] [--processes 64]
                   [--kills 100] [--kill-processes 8]

Prints one line per part and exits 1 if anything is not as promised:
  start   every process succeeds, each kernel is compiled once in all;
  killed  every process but the killed one succeeds (a process that hangs for --limit seconds is a
          failure), no entry is damaged, and the next build compiles nothing. A kernel that the
          killed process was compiling is compiled by another: that is at most one more per thread
          of the killed process.
"""
import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time


def start(arguments, cache):
    """Starts one build; its report comes on standard output."""
    command = [arguments.ktjit, "build", arguments.model, "--target", arguments.target, "--json",
               "-j", str(arguments.jobs), "--cache-dir", cache]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process, limit):
    """The report of a build, or why there is none."""
    try:
        out, err = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return None, f"no end after {limit} s"
    if process.returncode != 0:
        return None, f"exit code {process.returncode}: {err.strip()[-300:]}"
    return json.loads(out), err.strip()


def verify(arguments, cache):
    """(entries checked, entries damaged) of a cache folder."""
    done = subprocess.run([arguments.ktjit, "cache", "verify", "--json", "--cache-dir", cache],
                          capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    return report["checked"], len(report["damaged"])


def fleet(arguments):
    """All processes at once. True if as promised."""
    with tempfile.TemporaryDirectory() as cache:
        begin = time.monotonic()
        processes = [start(arguments, cache) for _ in range(arguments.processes)]
        results = [finish(process, arguments.limit) for process in processes]
        seconds = time.monotonic() - begin
        problems = [why for report, why in results if report is None or why]
        reports = [report for report, _ in results if report]
        kernels = len({kernel["kernel"] for kernel in reports[0]["kernels"]}) if reports else 0
        compiled = sum(report["compiled"] for report in reports)
        checked, damaged = verify(arguments, cache)
        right = not problems and compiled == kernels == checked and damaged == 0
        print(f"start: {arguments.processes} processes, {kernels} kernels: {compiled} compiles in "
              f"all, {len(reports)} succeeded, {checked} entries, {damaged} damaged, "
              f"{seconds:.1f} s: {'right' if right else 'WRONG'}")
        for why in problems[:5]:
            print(f"  {why}")
        return right


def killed_once(arguments, span):
    """One try: a process dies at a random moment within `span` seconds.
    Gives (compiles of the survivors, seconds, problems)."""
    problems = []
    with tempfile.TemporaryDirectory() as cache:
        begin = time.monotonic()
        processes = [start(arguments, cache) for _ in range(arguments.kill_processes)]
        time.sleep(random.uniform(0, span))
        victim = random.choice(processes)
        victim.send_signal(signal.SIGKILL)
        victim.communicate()
        compiled = 0
        for process in processes:
            if process is victim:
                continue
            report, why = finish(process, arguments.limit)
            if report is None:
                problems.append(why)
            else:
                compiled += report["compiled"]
                if why:
                    problems.append(why)
        seconds = time.monotonic() - begin
        again, why = finish(start(arguments, cache), arguments.limit)
        if again is None or again["compiled"] != 0:
            problems.append(f"the next build compiled: {why or again['compiled']}")
        _, damaged = verify(arguments, cache)
        if damaged:
            problems.append(f"{damaged} damaged entries")
    return compiled, seconds, problems


def kills(arguments):
    """All tries. True if as promised."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as cache:
        report, why = finish(start(arguments, cache), arguments.limit)
    if report is None:
        print(f"killed: a build alone fails: {why}")
        return False
    alone = time.monotonic() - begin
    kernels = report["compiled"]
    wrong, most, longest = 0, 0, 0.0
    for attempt in range(arguments.kills):
        compiled, seconds, problems = killed_once(arguments, alone)
        if compiled > kernels:
            problems.append(f"the survivors compiled {compiled} kernels of {kernels}")
        most, longest = max(most, compiled), max(longest, seconds)
        wrong += bool(problems)
        for why in problems[:3]:
            print(f"  try {attempt}: {why}")
    print(f"killed: {arguments.kills} tries of {arguments.kill_processes} processes, one killed "
          f"within {alone:.1f} s: {wrong} wrong; the survivors compiled at most {most} of "
          f"{kernels} kernels; the longest try took {longest:.1f} s")
    return wrong == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--ktjit", default="build/release/bin/ktjit")
    parser.add_argument("--target", default="sm_86")
    parser.add_argument("--processes", type=int, default=64)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--kill-processes", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=1, help="compiles side by side in a process")
    parser.add_argument("--limit", type=float, default=300, help="seconds that no build takes")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    os.environ.pop("KTJIT_CACHE_PATH", None)
    right = fleet(arguments)
    right = kills(arguments) and right
    sys.exit(0 if right else 1)


if __name__ == "__main__":
    main()
