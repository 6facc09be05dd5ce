#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""report.py ROWS DIRECTORY [--about KEY=VALUE...]: what scripts/bench measured, as files in DIRECTORY.

ROWS has one JSON object for each row (harness.hpp). Written are results.json, results.md (the marks, every row, the
machine) and, if there is matplotlib, the plots.
"""
import argparse
import json
import pathlib
import sys

BROOD, LIMIT, PEER = "#1f5fa8", "#4a4a4a", "#c9a56b"
COLORS = {"brood": BROOD, "limit": LIMIT, "peer": PEER}


def read_rows(path):
    rows, decoder = [], json.JSONDecoder()
    text = path.read_text().strip()
    while text:
        row, end = decoder.raw_decode(text)
        rows.append(row)
        text = text[end:].strip()
    return rows


def number(value):
    if value >= 0.9995e9:
        return f"{value / 1e9:.3g} G"
    if value >= 1e6:
        return f"{value / 1e6:.3g} M"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def shown_unit(row):
    return row["unit"].replace("us", "µs")


def size(x, unit):
    if unit == "MiB":
        return f"{x / 1024:g} GiB" if x >= 1024 else f"{x:g} MiB"
    if unit == "bytes":
        return f"{x / 2**20:g} MiB" if x >= 2**20 else f"{x / 1024:g} KiB"
    return f"{x:g} {unit}"


# ---- results.md ----------------------------------------------------------------------------------------------------------

def table(header, lines):
    text = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(text + ["| " + " | ".join(line).replace("<", "\\<") + " |" for line in lines]) + "\n"


def marks_table(rows):
    lines = []
    for row in rows:
        for mark in row["marks"]:
            unit = " ×" if mark["unit"] == "x" else " " + mark["unit"]
            lines.append([mark["what"], f"{mark['sense']} {number(mark['bound'])}{unit}", number(mark["value"]) + unit,
                          "kept" if mark["kept"] else "**missed**"])
    return table(["mark", "bound", "measured", ""], lines)


def row_table(row):
    lines = []
    broods = {}
    for each in row["contestants"]:
        if each["kind"] == "brood":
            broods.setdefault(each["x"], each["median"])
    for each in row["contestants"]:
        name = f"**{each['name']}**" if each["kind"] == "brood" else each["name"]
        line = [name, each["kind"], number(each["median"]), number(each["p99"])]
        line += [number(each["median"] / broods[each["x"]]) if each["x"] in broods else "", str(each["samples"])]
        if row["x_unit"]:
            line.insert(1, size(each["x"], row["x_unit"]))
        lines.append(line)
    header = ["", "", f"median, {row['unit']}", "p99", "÷ brood", "samples"]
    if row["x_unit"]:
        header.insert(1, row["x_unit"] if row["x_unit"] != "bytes" else "size")
    text = table(header, lines)
    for each in row["left_out"]:
        text += f"\nLeft out: {each['name']}: {each['why']}.\n"
    return text


def write_markdown(rows, about, path):
    text = "# Results\n\nWritten by `scripts/bench`; [README.md](README.md) says what each figure means.\n\n"
    text += "## The machine\n\n" + table(["", ""], [[key, value] for key, value in about.items()])
    text += "\n## The marks\n\nRatios of medians of one run, in which the contestants took turns.\n\n" + marks_table(rows)
    for row in rows:
        title = row["title"][0].upper() + row["title"][1:]
        text += f"\n## {title}\n\n`scripts/bench --only {row['id']}`. {row['unit']}; {row['better']} is better.\n\n"
        text += row_table(row)
    path.write_text(text)


# ---- plots ---------------------------------------------------------------------------------------------------------------

class Plots:
    def __init__(self, rows, directory):
        import matplotlib
        matplotlib.use("svg")
        from matplotlib import pyplot
        matplotlib.rcParams.update({
            "font.family": "DejaVu Sans", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False,
            "axes.titlesize": 11, "axes.titleweight": "bold", "axes.titlelocation": "left", "svg.hashsalt": "brood",
            "axes.edgecolor": "#888888", "xtick.color": "#333333", "ytick.color": "#222222", "figure.facecolor": "white",
        })
        self.pyplot = pyplot
        self.ticker = matplotlib.ticker
        self.rows = {row["id"]: row for row in rows}
        self.directory = directory

    def save(self, figure, name):
        figure.savefig(self.directory / f"{name}.svg", metadata={"Date": None}, bbox_inches="tight", pad_inches=0.15)
        self.pyplot.close(figure)
        print(f"{self.directory / name}.svg")

    def bars(self, axes, row, contestants, title):
        """One bar for each contestant, the best on top, with a thin line to the p99 where less is better."""
        less = row["better"] == "less"
        contestants = sorted(contestants, key=lambda each: each["median"], reverse=less)
        low = min(each["median"] for each in contestants)
        high = max(max(each["median"], each["p99"] if less else 0) for each in contestants)
        logarithmic = high / low > 12
        left = low / (high / low) ** 0.12 if logarithmic else 0
        for at, each in enumerate(contestants):
            color = COLORS[each["kind"]]
            axes.barh(at, each["median"] - left, left=left, color=color, height=0.66)
            if less and each["p99"] > each["median"]:
                axes.plot([each["median"], each["p99"]], [at, at], color=color, linewidth=1, alpha=0.6, zorder=2)
                axes.plot([each["p99"]], [at], "|", color=color, markersize=7, alpha=0.8)
            axes.annotate(number(each["median"]), (each["median"], at), xytext=(5, 0), textcoords="offset points", va="center",
                          fontweight="bold" if each["kind"] == "brood" else "normal", zorder=4,
                          bbox={"boxstyle": "square,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.9})
        if logarithmic:
            axes.set_xscale("log")
            axes.set_xlim(left, high * (high / low) ** 0.14)
            axes.xaxis.set_major_locator(self.ticker.LogLocator(base=10, numticks=12))
        else:
            axes.set_xlim(0, high * 1.14)
        axes.set_ylim(-0.6, len(contestants) - 0.4)
        axes.xaxis.set_minor_locator(self.ticker.NullLocator())
        axes.set_yticks(range(len(contestants)), [each["name"] for each in contestants])
        for label, each in zip(axes.get_yticklabels(), contestants):
            if each["kind"] == "brood":
                label.set_fontweight("bold")
                label.set_color(BROOD)
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_formatter(self.ticker.FuncFormatter(lambda x, _: number(x)))
        axes.grid(axis="x", color="#e4e4e4", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.set_title(title)
        scale = ", logarithmic" if logarithmic else ""
        axes.set_xlabel(f"{shown_unit(row)}{scale}; {row['better']} is better")

    def legend(self, figure):
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch
        handles = [Patch(color=BROOD, label="brood"), Patch(color=LIMIT, label="limit: raw system calls"),
                   Patch(color=PEER, label="peers"),
                   Line2D([], [], color="#777777", linewidth=1, marker="|", markevery=[1], label="to the p99")]
        figure.legend(handles=handles, loc="upper center", ncol=4, frameon=False, bbox_to_anchor=(0.5, 1.0))

    def bar_panels(self, name, panels):
        panels = [panel for panel in panels if panel[0] in self.rows]
        if not panels:
            return
        chosen = []
        for id, title, *choose in panels:
            row = self.rows[id]
            contestants = [each for each in row["contestants"] if not choose or choose[0](each)]
            if contestants:
                chosen.append((row, contestants, title))
        if not chosen:
            return
        heights = [0.33 * len(contestants) + 0.9 for _, contestants, _ in chosen]
        figure, axes = self.pyplot.subplots(len(chosen), 1, figsize=(8.2, sum(heights) + 0.4), squeeze=False,
                                            gridspec_kw={"height_ratios": heights}, layout="constrained")
        figure.get_layout_engine().set(rect=(0, 0, 1, 1 - 0.35 / figure.get_figheight()), hspace=0.06)
        for each, (row, contestants, title) in zip(axes.flat, chosen):
            self.bars(each, row, contestants, title)
        self.legend(figure)
        self.save(figure, name)

    def lines(self, axes, row, title, x_label, styles, x_of=lambda x: x):
        """One line for each name of `styles`: {name: (color, line style, marker)}; its name stands at its end."""
        ends, spread = [], []
        for name, (color, style, marker) in styles.items():
            points = sorted((each["x"], each["median"]) for each in row["contestants"] if each["name"] == name)
            if not points:
                continue
            xs, ys = [x_of(x) for x, _ in points], [y for _, y in points]
            bold = color == BROOD
            axes.plot(xs, ys, style, color=color, marker=marker, markersize=5, linewidth=2.4 if bold else 1.5, label=name,
                      zorder=3 if bold else 2)
            spread += points
            ends.append([ys[-1], name, color, xs[-1]])
        axes.set_yscale("log")
        low, high = min(y for *_, y in spread), max(y for *_, y in spread)
        axes.yaxis.set_major_locator(self.ticker.LogLocator(subs=(1, 2, 5) if high / low < 300 else (1,), numticks=20))
        axes.yaxis.set_major_formatter(self.ticker.FuncFormatter(lambda y, _: number(y)))
        axes.yaxis.set_minor_locator(self.ticker.NullLocator())
        axes.grid(axis="y", color="#e4e4e4", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.set_title(title)
        axes.set_xlabel(x_label)
        axes.set_ylabel(f"{shown_unit(row)}; {row['better']} is better")
        self.label_ends(axes, ends)

    def label_ends(self, axes, ends):
        """The names right of the lines' ends, moved apart where they would touch."""
        axes.figure.canvas.draw()
        if not ends:
            return
        to_pixels = axes.transData.transform
        step = 15 * axes.figure.dpi / 72
        right = max(x for _, _, _, x in ends)
        ends = sorted(([to_pixels((right, y))[1], y, name, color] for y, name, color, _ in ends))
        places = [end[0] for end in ends]
        for _ in range(200):
            for n in range(1, len(places)):
                gap = places[n] - places[n - 1]
                if gap < step:
                    places[n - 1] -= (step - gap) / 2
                    places[n] += (step - gap) / 2
        for place, (pixel, y, name, color) in zip(places, ends):
            axes.annotate(name, (right, y), xytext=(9, (place - pixel) * 72 / axes.figure.dpi), textcoords="offset points",
                          va="center", color=color, fontweight="bold" if color == BROOD else "normal", fontsize=9.5,
                          annotation_clip=False)

    def calls(self):
        def shown(each):
            return "spawn" not in each["name"] and "forkserver" not in each["name"]

        self.bar_panels("calls", [
            ("call", "One call to a warm worker", shown),
            ("call_one_cpu", "The same, all processes on one CPU", shown),
        ])
        self.bar_panels("throughput", [
            ("outstanding", "20,000 outstanding calls of a no-op, 2 workers"),
            ("map", "map of a no-op over 1,000,000 ints, 2 workers"),
        ])

    def starts(self):
        row = self.rows.get("start")
        if row is not None and len({each["x"] for each in row["contestants"]}) > 1:
            levels = sorted({each["x"] for each in row["contestants"]})
            figure, axes = self.pyplot.subplots(figsize=(7.2, 4.6))
            axes.set_xticks(range(len(levels)), [size(x, "MiB") if x else "nothing" for x in levels])
            self.lines(axes, row, "A fresh worker: request to first result", "touched memory in the host", {
                "raw fork": (LIMIT, "--", "o"), "raw vfork+exec": (LIMIT, ":", "s"), "raw fork server": (LIMIT, "-", "^"),
                "ForkPolicy": (BROOD, "--", "o"), "SpawnPolicy": (BROOD, ":", "s"), "ForkServerPolicy": (BROOD, "-", "^"),
                "ForkServerPolicy, a spare": (BROOD, "-.", "v"),
            }, levels.index)
            self.save(figure, "starts_by_memory")
        self.bar_panels("starts", [
            ("start", "A fresh worker: request to first result, empty host", lambda each: each["x"] == 0),
            ("preload", "The same where 200 ms of building come first"),
            ("one_task_each", "One fresh worker for each task, 16 MiB preloaded"),
        ])

    def payloads(self):
        rows = [(self.rows[id], title) for id, title in (("result", "std::vector<double> as a result"),
                                                         ("argument", "std::vector<double> as an argument, moved in"))
                if id in self.rows]
        if not rows:
            return
        figure, all_axes = self.pyplot.subplots(len(rows), 1, figsize=(7.0, 4.4 * len(rows)), squeeze=False)
        for axes, (row, title) in zip(all_axes.flat, rows):
            xs = sorted({each["x"] for each in row["contestants"]})
            axes.set_xscale("log", base=2)
            axes.xaxis.set_minor_locator(self.ticker.NullLocator())
            axes.set_xticks(xs, [size(x, "bytes") for x in xs])
            self.lines(axes, row, title, "size", {
                "memcpy, fresh memory": (LIMIT, "-", "o"), "process_vm_readv": (LIMIT, "--", "^"),
                "pipe of 1 MiB": (LIMIT, ":", "s"), "brood": (BROOD, "-", "o"),
                "multiprocessing.Pool, fork, numpy": (PEER, "-", "o"), "ZeroMQ, REQ/REP over ipc": (PEER, "--", "^"),
                "Open MPI, send and receive": (PEER, ":", "s"),
            })
        figure.subplots_adjust(hspace=0.34)
        self.save(figure, "payloads")

    def shared(self):
        row = self.rows.get("shared")
        if row is None:
            return
        figure, axes = self.pyplot.subplots(figsize=(7.0, 4.0))
        xs = sorted({each["x"] for each in row["contestants"]})
        axes.set_xscale("log", base=2)
        axes.xaxis.set_minor_locator(self.ticker.NullLocator())
        axes.set_xticks(xs, [size(x, "bytes") for x in xs])
        self.lines(axes, row, "A call with an array of doubles", "size", {
            "SharedArray, read by the task": (BROOD, "-", "o"), "SharedArray, written by the task": (BROOD, "--", "^"),
            "std::vector, moved in": (BROOD, ":", "s"),
        })
        self.save(figure, "shared")

    def scale(self):
        self.bar_panels("scale", [
            ("idle_memory", "Private memory of an idle worker"),
            ("idle_workers", "The host's CPU for each task of 50 µs, 2 in flight"),
            ("queued_memory", "The host's memory for each task that waits, with its Future"),
            ("thousand_workers", "From nothing to 1,000 workers that run a task each"),
            ("compile", "Compiling one file"),
        ])

    def all(self):
        self.calls()
        self.starts()
        self.payloads()
        self.shared()
        self.scale()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", type=pathlib.Path)
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--about", nargs="*", default=[])
    options = parser.parse_args()
    options.directory.mkdir(parents=True, exist_ok=True)
    rows = read_rows(options.rows)
    about = dict(pair.split("=", 1) for pair in options.about)
    (options.directory / "results.json").write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")
    write_markdown(rows, about, options.directory / "results.md")
    for row in rows:
        for mark in row["marks"]:
            unit = "x" if mark["unit"] == "x" else " " + mark["unit"]
            print(f"{'kept' if mark['kept'] else 'MISSED':6}  {mark['what']:75} {number(mark['value']) + unit:>18}  "
                  f"({mark['sense']} {number(mark['bound'])}{unit})")
    missed = sum(not mark["kept"] for row in rows for mark in row["marks"])
    print(f"{sum(len(row['marks']) for row in rows)} marks, {missed} missed")
    try:
        Plots(rows, options.directory).all()
    except ImportError as error:
        print(f"no plots: {error}; they need Debian's python3-matplotlib", file=sys.stderr)


if __name__ == "__main__":
    main()
