#!/usr/bin/env python3
"""Plots of measured figures as SVG: share of the memory's read speed by format, and by size.

    python3 bench/plot.py FIGURES.json [MORE.json ...] --out docs/plots

Reads what `ktjit bench --json=FILE` and `bench/gpu_peers.py --json FILE` write. For each op, shape and number of
columns a chart of bars, one for each format and target, with the peers' figures as marks; for each op and target
with more than one size a chart of lines over the bytes of a launch. Needs matplotlib. Equal input gives equal files.
"""

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path

MARKS = "osD^vP"


def load_figures(paths):
    """(results, peers) of all files; a result without a share of the read speed is left out.
    Errors: ValueError naming the file."""
    results, peers = [], []
    for path in paths:
        try:
            document = json.loads(Path(path).read_text(encoding="utf-8"))
            read_gbps = document["read_gbps"]
            for result in document["results"]:
                if result["ok"] and result.get("percent_of_read") is not None:
                    results.append(result)
            for peer in document.get("peers", []):
                if read_gbps > 0:
                    peers.append({**peer, "percent_of_read": 100 * peer["gbps"] / read_gbps})
        except OSError as error:
            raise ValueError(f"{path}: {error.strerror}") from error
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}: no JSON: {error}") from error
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path}: no figures of ktjit bench or gpu_peers.py: {error!r}") from error
    return results, peers


def work_key(figure):
    """What one chart by format is of."""
    return figure["op"], figure["rows"], figure["cols"], figure.get("n", 1), bool(figure.get("dependent_launch", False))


def work_title(key):
    op, rows, cols, n, dependent = key
    return (f"{op} {rows} x {cols}" + (f", {n} columns" if n != 1 else "")
            + (", dependent launch" if dependent else ""))


def file_stem(key):
    op, rows, cols, n, dependent = key
    return f"{op.replace(' ', '_')}_{rows}x{cols}" + (f"_n{n}" if n != 1 else "") + ("_dependent" if dependent else "")


def by_format(results):
    """{work key: {target: {format: percent}}}, formats in the order of the files; a later figure replaces one."""
    charts = defaultdict(lambda: defaultdict(dict))
    for result in results:
        charts[work_key(result)][result["target"]][result["format"]] = result["percent_of_read"]
    return charts


def by_size(results):
    """{(op, target): {format: [(bytes of a launch, percent)]}} of one column, formats with several sizes only.
    Where a size was measured with and without dependent launch, the faster one counts."""
    charts = defaultdict(lambda: defaultdict(dict))
    for result in results:
        if result.get("n", 1) != 1:
            continue
        points = charts[result["op"], result["target"]][result["format"]]
        at = (result["streamed_bytes"], result["rows"], result["cols"])
        points[at] = max(points.get(at, 0), result["percent_of_read"])
    lines = {}
    for key, formats in charts.items():
        kept = {name: sorted((at[0], percent) for at, percent in points.items())
                for name, points in formats.items() if len(points) > 1}
        if kept:
            lines[key] = kept
    return lines


def make_pyplot():
    """matplotlib, set so that a file depends on the figures alone."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as pyplot

    matplotlib.rcParams.update({"svg.hashsalt": "ktjit", "svg.fonttype": "none", "font.size": 9,
                                "axes.spines.top": False, "axes.spines.right": False})
    return pyplot


def save(pyplot, figure, path):
    figure.savefig(path, metadata={"Date": None, "Creator": None}, bbox_inches="tight")
    pyplot.close(figure)


def draw_by_format(pyplot, key, targets, peers, path):
    formats = list(dict.fromkeys(name for values in targets.values() for name in values))
    height = 0.8 / len(targets)
    figure, axes = pyplot.subplots(figsize=(7, 0.8 + 0.28 * len(formats) * max(1, len(targets) * 0.7)))
    for index, (target, values) in enumerate(targets.items()):
        at = [row + (index - (len(targets) - 1) / 2) * height for row, name in enumerate(formats) if name in values]
        bars = axes.barh(at, [values[name] for name in formats if name in values], height, label=f"ktjit, {target}")
        axes.bar_label(bars, fmt="%.0f", padding=2, fontsize=7)
    names = dict.fromkeys(peer["peer"] for peer in peers)
    for mark, name in zip(MARKS, names):
        best = {}
        for peer in peers:
            if peer["peer"] == name and peer["format"] in formats:
                best[peer["format"]] = max(best.get(peer["format"], 0), peer["percent_of_read"])
        if best:
            axes.plot(list(best.values()), [formats.index(format) for format in best], mark, color="black",
                      markersize=5, label=name)
    axes.set_yticks(range(len(formats)), formats)
    axes.invert_yaxis()
    axes.axvline(100, color="grey", linewidth=0.8, linestyle=":")
    axes.set_xlabel("% of the speed of a plain read")
    axes.set_title(work_title(key))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.6 / figure.get_figheight()), ncols=4, frameon=False)
    save(pyplot, figure, path)


def draw_by_size(pyplot, key, formats, path):
    op, target = key
    figure, axes = pyplot.subplots(figsize=(7, 4))
    for index, (name, points) in enumerate(formats.items()):
        axes.plot([point[0] / 1e6 for point in points], [point[1] for point in points],
                  marker=MARKS[index % len(MARKS)], label=name)
    axes.set_xscale("log")
    axes.set_xlabel("MB of one launch")
    axes.set_ylabel("% of the speed of a plain read")
    axes.set_ylim(bottom=0)
    axes.axhline(100, color="grey", linewidth=0.8, linestyle=":")
    axes.set_title(f"{op}, {target}")
    axes.legend(frameon=False, ncols=2)
    save(pyplot, figure, path)


def draw_all(results, peers, folder):
    """Writes the charts; their paths."""
    pyplot = make_pyplot()
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for key, targets in by_format(results).items():
        own_peers = [peer for peer in peers if work_key(peer)[:4] == key[:4]]
        paths.append(folder / f"{file_stem(key)}.svg")
        draw_by_format(pyplot, key, targets, own_peers, paths[-1])
    for key, formats in by_size(results).items():
        paths.append(folder / f"{key[0]}_by_size_{key[1].replace(':', '_')}.svg")
        draw_by_size(pyplot, key, formats, paths[-1])
    return paths


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("figures", nargs="+", help="JSON files")
    parser.add_argument("--out", type=Path, required=True, help="folder of the plots")
    arguments = parser.parse_args(arguments)
    try:
        results, peers = load_figures(arguments.figures)
    except ValueError as error:
        parser.error(str(error))
    if not results:
        parser.error("no figure has a share of the read speed: was the data larger than the caches?")
    try:
        paths = draw_all(results, peers, arguments.out)
    except ImportError as error:
        print(f"plot.py: needs matplotlib: {error}", file=sys.stderr)
        return 1
    for path in paths:
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
